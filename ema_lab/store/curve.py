"""Curves: what each finished epoch of a run measured, as its CSV file has it.

The last column names the run, so that another run's curve is known as such. Curves that older versions
wrote have no such column.
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
    """Return a run's finished epochs, one mapping of column to number each; none without a curve.

    Args:
        folder: The run's folder.
        strict: Whether another run's curve is an error. By default it is like none: `store check` names it.

    Raises:
        DamagedFileError: If it is another run's.
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
        OSError: If there is no curve, or it cannot be read.
        DamagedFileError: If it is no CSV file, or another run's.
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
    """Return CSV with one line per epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0], RUN_ID_FIELD], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, RUN_ID_FIELD: run_id} for row in rows)
    return text.getvalue()
