"""A run's curve: what its epochs measured, as curve.csv has it."""

import csv
import io
from contextlib import suppress
from pathlib import Path


def read_curve(folder: Path) -> list[dict[str, float]]:
    """Return a run's finished epochs, one mapping of column to number each; none without a curve."""
    try:
        text = (folder / "curve.csv").read_text(encoding="utf-8")
    except OSError:
        return []
    rows = []
    for row in csv.DictReader(io.StringIO(text)):
        with suppress(TypeError, ValueError):
            rows.append({key: float(value) for key, value in row.items() if value not in {"", None}})
    return rows
