"""How a report's keys, rows and factors are named and checked."""

from collections.abc import Sequence

from ema_lab.errors import SpecError
from ema_lab.experiments.ablation import Ablation
from ema_lab.experiments.grid import ABSENT, Cell, shown, value_of
from ema_lab.registry import unknown_name
from ema_lab.specs.report import ReportSpec

DATA_KEY = "data.name"


def short(key: str) -> str:
    """Return the last part of a dotted key, which says what it is; a data set's `name` alone would not."""
    return "data set" if key == DATA_KEY else key.rpartition(".")[2]


def factor_value(spec: ReportSpec, cell: Cell, key: str) -> str:
    """Return a cell's value of a factor as it is shown.

    Raises:
        SpecError: If the cell has no such key.
    """
    value = value_of(cell, key)
    if value is ABSENT:
        words = f"{key}: the row {cell.row!r} has no such key; choose rows by `only`"
        raise SpecError(f"report {spec.name}: {words}")
    return shown(value)


def baseline_name(spec: ReportSpec, ablation: Ablation) -> str:
    """Return the baseline's name in print."""
    return spec.names.get(str(ablation.baseline), str(ablation.baseline))


def check_names(spec: ReportSpec, known: Sequence[str], beside: Sequence[str] = ()) -> None:
    """Refuse names, rows and footnotes of a report for which there is no row.

    Raises:
        SpecError: With the nearest row there is.
    """
    for key, names in (("names", spec.names), ("footnotes", spec.footnotes), ("rows", spec.rows)):
        for name in names:
            if name not in known and not (key == "names" and name in beside):
                raise SpecError(f"report {spec.name}: {key}: {unknown_name('row', name, known)}")
