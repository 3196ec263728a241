"""The predictions of a run: arrays that metrics are computed from, and the hash of their contents."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ema_lab.errors import DamagedFileError
from ema_lab.files import atomic_write
from ema_lab.store.layout import PREDICTIONS, RUN_ID_FIELD

if TYPE_CHECKING:
    import numpy as np

SPLIT = "split"  # the array that names the split; beside it and the run id, all are the task's
Arrays = Mapping[str, "np.ndarray[Any, Any]"]


def write_predictions(folder: Path, arrays: Arrays, split: str, run_id: str) -> str:
    """Write a compressed npz file that names its run, whole or not at all; return the contents' hash."""
    import numpy as np

    contents = {**arrays, SPLIT: np.array(split), RUN_ID_FIELD: np.array(run_id)}
    with atomic_write(folder / PREDICTIONS) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **contents)  # type: ignore[arg-type]
    return content_sha256(contents)


def read_predictions(folder: Path) -> dict[str, "np.ndarray[Any, Any]"]:
    """Return every array of a run's predictions.

    Raises:
        FileNotFoundError: If the run has none.
        DamagedFileError: If they cannot be read.
    """
    import numpy as np

    path = folder / PREDICTIONS
    try:
        with path.open("rb") as file, np.load(file) as saved:
            return {name: saved[name] for name in saved.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise what they like at damaged bytes
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DamagedFileError(f"{path} cannot be read: {reason}") from None


def owner_of(arrays: Arrays) -> str:
    """Return the id of the run that predictions name; older ones name none."""
    return str(arrays[RUN_ID_FIELD]) if RUN_ID_FIELD in arrays else ""


def content_sha256(arrays: Arrays) -> str:
    """Return a hash of names, types, shapes and values, whatever the compression of the file.

    The run id is no part of it: predictions that older versions wrote do not name their run.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays.keys() - {RUN_ID_FIELD}):
        array = arrays[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
