"""Training curves: the measurements of each finished epoch of a run, in a CSV file.

The last column names the run, which exposes a curve copied from another run. Curves of older versions have
no such column.
"""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ema_lab.errors import DamagedFileError
from ema_lab.files import read_bytes
from ema_lab.store.layout import CURVE, RUN_ID_FIELD


def read_curve(folder: Path, *, strict: bool = False) -> list[dict[str, float]]:
    """Read a run's finished epochs, one mapping of column to number each; empty without a curve.

    Args:
        folder: The run's folder.
        strict: Whether a damaged or foreign curve is an error. By default such a curve counts as missing,
            and only `store check` reports it.

    Raises:
        DamagedFileError: If the curve is damaged or another run's, and `strict` is set.
    """
    try:
        rows = list(curve_rows(folder))
    except OSError:
        return []
    except DamagedFileError:
        if strict:
            raise
        return []
    epochs = []
    for row in rows:
        with suppress(TypeError, ValueError):
            numbers = {key: float(value) for key, value in row.items() if value not in {"", None}}
            epochs.append({key: value for key, value in numbers.items() if math.isfinite(value)})
    return epochs


def curve_rows(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a run's curve as text, without the column that names the run.

    Raises:
        OSError: If the run has no curve, or the system refuses to read it.
        DamagedFileError: If the file is no CSV, or another run's.
    """
    content = read_bytes(folder / CURVE)
    try:
        rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{folder / CURVE} cannot be read: {error}") from None
    for row in rows:
        run_id = row.pop(RUN_ID_FIELD, None)
        if run_id not in {None, "", folder.name}:
            raise DamagedFileError(f"{folder / CURVE} is the curve of {run_id!r}")
        yield row


def render_curve(rows: Sequence[Mapping[str, float]], run_id: str) -> str:
    """Return a curve as CSV text with one line per epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0], RUN_ID_FIELD], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, RUN_ID_FIELD: run_id} for row in rows)
    return text.getvalue()
