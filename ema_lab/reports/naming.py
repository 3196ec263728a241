"""How a report's keys, rows and factors are named and checked."""

from collections.abc import Callable, Sequence

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import ABSENT, Cell, format_value, matches, value_of
from ema_lab.registry.registry import unknown_name
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
        place = ("group",) if key == spec.group else ("factors",)
        raise spec.error_at(f"{key}: the row {cell.row!r} has no such key; choose rows by `only`", *place)
    return format_value(value)


def enters(spec: ReportSpec, cell: Cell) -> bool:
    """Whether `only` leaves a cell."""
    wanted = {key: value if isinstance(value, list) else [value] for key, value in spec.only.items()}
    return all(matches(cell, key, value) for key, value in wanted.items())


def is_shown(spec: ReportSpec, cell: Cell) -> bool:
    """Whether a cell belongs to a row that the report's table shows."""
    if spec.kind == "grid" and any(value_of(cell, factor) is ABSENT for factor in spec.factors):
        return False
    return enters(spec, cell) and (not spec.rows or table_row(spec, cell) in spec.rows)


def table_row(spec: ReportSpec, cell: Cell) -> str:
    """Return the name of the table's row in which a cell stands: a grid and data sets gather several."""
    if spec.kind == "grid":
        return factor_value(spec, cell, spec.factors[0])
    return cell.row_without(gathered(spec)) if spec.kind == "datasets" else cell.row


def gathered(spec: ReportSpec) -> str | None:
    """Return the key whose values a table names apart from its rows, if there is one."""
    if spec.kind == "datasets" and spec.ablation:
        return spec.factors[0] if spec.factors else DATA_KEY
    return spec.group


def printed_row(spec: ReportSpec, cell: Cell) -> str:
    """Return a row's name in print, beside its group or data set: its own, or its parts' names."""
    inner = cell.row_without(gathered(spec))
    for name in (cell.row, inner):
        if name in spec.names:
            return spec.names[name]
    return spec.names.get(cell.variant, cell.variant) + axis_words(
        spec, cell, lambda key: key != gathered(spec)
    )


def axis_words(spec: ReportSpec, cell: Cell, wanted: Callable[[str | None], bool]) -> str:
    """Return ` [groups=4]`: a cell's values on some of its axes, as the report names them."""
    names = spec.names
    words = [
        f"{names.get(key, key.rpartition('.')[2])}={names.get(format_value(value), format_value(value))}"
        for key, value in cell.own_axes + cell.axes
        if wanted(key)
    ]
    return f" [{', '.join(words)}]" if words else ""


def names_within(cells: Sequence[Cell]) -> list[str]:
    """Return what the names of rows are made of: variants, axes and their values."""
    axes = [item for cell in cells for item in cell.own_axes + cell.axes]
    found = [cell.variant for cell in cells] + [
        part for key, value in axes for part in (key, format_value(value))
    ]
    return list(dict.fromkeys(found))


def baseline_name(spec: ReportSpec, ablation: Ablation) -> str:
    """Return the baseline's name in print."""
    return spec.names.get(str(ablation.baseline), str(ablation.baseline))


def check_names(spec: ReportSpec, known: Sequence[str], beside: Sequence[str] = ()) -> None:
    """Refuse names, rows and footnotes of a report for which there is no row.

    Raises:
        SpecError: With the nearest row there is.
    """
    for key, names in (("names", spec.names), ("footnotes", spec.footnotes), ("rows", spec.rows)):
        for place, name in enumerate(names):
            if name not in known and not (key == "names" and name in beside):
                raise spec.error_at(unknown_name("row", name, known), key, place if key == "rows" else name)
