"""Display names and checks of a report's keys, rows and factors."""

from collections.abc import Callable, Sequence

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import ABSENT, Cell, format_value, matches, value_of
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.report import ReportSpec

DATA_KEY = "data.name"


def short(key: str) -> str:
    """Return the last part of a dotted key; for a data set's ambiguous `name`, `data set`."""
    return "data set" if key == DATA_KEY else key.rpartition(".")[2]


def factor_value(spec: ReportSpec, cell: Cell, key: str) -> str:
    """Return a cell's value of a factor as text.

    Raises:
        SpecError: If the cell lacks the key.
    """
    value = value_of(cell, key)
    if value is ABSENT:
        keys = ("group",) if key == spec.group else ("factors",)
        raise spec.error_at(f"{key}: the row {cell.row!r} lacks this key; choose rows with `only`", *keys)
    return format_value(value)


def enters(spec: ReportSpec, cell: Cell) -> bool:
    """Return whether a cell passes the filter `only`."""
    wanted = {key: value if isinstance(value, list) else [value] for key, value in spec.only.items()}
    return all(matches(cell, key, value) for key, value in wanted.items())


def is_shown(spec: ReportSpec, cell: Cell) -> bool:
    """Return whether a cell belongs to a row of the report's table."""
    if spec.kind == "grid" and any(value_of(cell, factor) is ABSENT for factor in spec.factors):
        return False
    return enters(spec, cell) and (not spec.rows or table_row(spec, cell) in spec.rows)


def table_row(spec: ReportSpec, cell: Cell) -> str:
    """Return the name of a cell's table row.

    Rows of a grid and of data sets combine several rows of the ablation.
    """
    if spec.kind == "grid":
        return factor_value(spec, cell, spec.factors[0])
    return cell.row_without(gathered(spec)) if spec.kind == "datasets" else cell.row


def gathered(spec: ReportSpec) -> str | None:
    """Return the key whose values the table names outside the row name: a group or a data set."""
    if spec.kind == "datasets" and spec.ablation:
        return spec.factors[0] if spec.factors else DATA_KEY
    return spec.group


def display_name(spec: ReportSpec, cell: Cell) -> str:
    """Return a row's display name beside its group or data set.

    If `names` lacks the row, its parts are named.
    """
    inner = cell.row_without(gathered(spec))
    for name in (cell.row, inner):
        if name in spec.names:
            return spec.names[name]
    return spec.names.get(cell.variant, cell.variant) + axis_suffix(
        spec, cell, lambda key: key != gathered(spec)
    )


def axis_suffix(spec: ReportSpec, cell: Cell, wanted: Callable[[str | None], bool]) -> str:
    """Format a cell's values on some of its axes, such as ` [groups=4]`, with the report's names."""
    names = spec.names
    values = [
        f"{names.get(key, key.rpartition('.')[2])}={names.get(format_value(value), format_value(value))}"
        for key, value in cell.own_axes + cell.axes
        if wanted(key)
    ]
    return f" [{', '.join(values)}]" if values else ""


def names_within(cells: Sequence[Cell]) -> list[str]:
    """Return the parts of row names: variants, axes and their values."""
    axes = [item for cell in cells for item in cell.own_axes + cell.axes]
    names = [cell.variant for cell in cells] + [
        part for key, value in axes for part in (key, format_value(value))
    ]
    return list(dict.fromkeys(names))


def baseline_name(spec: ReportSpec, ablation: Ablation) -> str:
    """Return the baseline's display name."""
    return spec.names.get(str(ablation.baseline), str(ablation.baseline))


def check_names(spec: ReportSpec, known: Sequence[str], also_known: Sequence[str] = ()) -> None:
    """Refuse names, rows and footnotes of a report that match no row.

    Raises:
        SpecError: With the nearest existing row.
    """
    for key, names in (("names", spec.names), ("footnotes", spec.footnotes), ("rows", spec.rows)):
        for index, name in enumerate(names):
            if name not in known and not (key == "names" and name in also_known):
                raise spec.error_at(unknown_name("row", name, known), key, index if key == "rows" else name)
