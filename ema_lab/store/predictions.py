"""Predictions of a run: arrays from which metrics are computed, and the hash of their contents."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ema_lab.errors import DamagedFileError
from ema_lab.files import atomic_write, open_regular
from ema_lab.store.layout import PREDICTIONS, RUN_ID_FIELD

if TYPE_CHECKING:
    import numpy as np

SPLIT = "split"  # array that names the split; all others except the run id belong to the task
Arrays = Mapping[str, "np.ndarray[Any, Any]"]


def write_predictions(folder: Path, arrays: Arrays, split: str, run_id: str) -> str:
    """Write predictions and their run id to a compressed npz file, atomically; return the contents' hash."""
    import numpy as np

    contents = {**arrays, SPLIT: np.array(split), RUN_ID_FIELD: np.array(run_id)}
    with atomic_write(folder / PREDICTIONS) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **contents)  # type: ignore[arg-type]
    return content_sha256(contents)


def read_predictions(folder: Path) -> dict[str, "np.ndarray[Any, Any]"]:
    """Read all arrays of a run's predictions.

    Raises:
        FileNotFoundError: If the run has no predictions.
        DamagedFileError: If the file cannot be read.
    """
    import numpy as np

    path = folder / PREDICTIONS
    try:
        with open_regular(path) as file, np.load(file) as saved:
            return {name: saved[name] for name in saved.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many types on damaged bytes
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DamagedFileError(f"{path} cannot be read: {reason}") from None


def owner_of(arrays: Arrays) -> str:
    """Return the run id that predictions carry; empty for predictions of older versions."""
    return str(arrays[RUN_ID_FIELD]) if RUN_ID_FIELD in arrays else ""


def content_sha256(arrays: Arrays) -> str:
    """Return a hash of names, types, shapes and values, independent of the file's compression.

    The hash leaves out the run id: predictions of older versions do not name their run.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays.keys() - {RUN_ID_FIELD}):
        array = arrays[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
