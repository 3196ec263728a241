"""Table of a metric over two factors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ema_lab.ablation.ablation import Ablation
from ema_lab.measured.family import Family, family_of
from ema_lab.measured.selection import Measured, Row
from ema_lab.reports.naming import baseline_name, check_names, factor_value, short
from ema_lab.reports.table.cells import delta_cell, metric_cell
from ema_lab.reports.table.comparison import Marks, marks_of
from ema_lab.reports.table.effects import effect_tables
from ema_lab.reports.table.notes import (
    comparison_notes,
    flag_notes,
    has_interval,
    number_notes,
    run_notes,
    seed_notes,
)
from ema_lab.reports.table.rank_notes import Ranked, rank_notes
from ema_lab.reports.table.scope import scope_notes
from ema_lab.specs.report import ReportSpec
from ema_lab.tables.cell import Flag, TableCell
from ema_lab.tables.table import ColumnKind, Table, TableColumn, TableRow

Key = tuple[str, ...]


def grid_tables(
    spec: ReportSpec, ablation: Ablation, measured: Sequence[Measured], all_rows: Sequence[Row]
) -> tuple[Table, ...]:
    """Return the table of a metric over two factors and, if the product is full, tables of the effects.

    Args:
        spec: The report.
        ablation: Ablation of the cells.
        measured: Cells that pass the report's filter.
        all_rows: All rows of the ablation, for which tests are corrected.

    Raises:
        SpecError: If a cell lacks a factor, or several rows share one cell of the table.
    """
    places = _rows_by_cell(spec, ablation, measured)
    shown = list(places.values())
    grid = _grid(spec, ablation, places, family_of(all_rows, shown, shown))
    try:
        return grid, *effect_tables(spec, spec.title or ablation.name, places, all_rows)
    except ValueError as error:
        notes = (*grid.notes, f"No effects are estimated: {error}.")
        return (replace(grid, notes=notes),)


def _rows_by_cell(spec: ReportSpec, ablation: Ablation, measured: Sequence[Measured]) -> dict[Key, Row]:
    """Return the row of each table cell, in the order of the report."""
    measured_by_key: dict[Key, list[Measured]] = {}
    for item in measured:
        key = tuple(factor_value(spec, item.cell, factor) for factor in spec.factors)
        measured_by_key.setdefault(key, []).append(item)
    for key, items in measured_by_key.items():
        names = list(dict.fromkeys(item.cell.row for item in items))
        if len(names) > 1:
            where = " x ".join(key)
            message = f"the cell {where} has the rows {', '.join(names)}; choose one with `only`"
            raise spec.error_at(message, "factors")
    down, across = (list(dict.fromkeys(key[index] for key in measured_by_key)) for index in range(2))
    check_names(spec, down, [*across, *spec.factors])
    order = [key for value in spec.rows or down for key in measured_by_key if key[0] == value]
    return {
        key: Row(
            measured_by_key[key][0].cell.row,
            measured_by_key[key][0].cell.variant == ablation.baseline,
            tuple(measured_by_key[key]),
        )
        for key in order
    }


def _grid(spec: ReportSpec, ablation: Ablation, places: Mapping[Key, Row], family: Family) -> Table:
    down, across = (list(dict.fromkeys(key[index] for key in places)) for index in range(2))
    cells = {
        key: delta_cell(spec, row, spec.metric, family.num_compared)
        if spec.cells == "delta"
        else metric_cell(spec, row, spec.metric)
        for key, row in places.items()
    }
    is_ranked = spec.rank and spec.cells == "value"
    marks = marks_of(spec, spec.metric, family) if is_ranked else Marks({})
    cells = {key: marks.mark(cell, places[key]) for key, cell in cells.items()}
    columns = tuple(_column(spec, value) for value in across)
    body = tuple(_table_row(spec, places, cells, value, across) for value in down)
    table_cells = [cell for row in body for cell in row.cells]
    notes = (
        *_value_notes(spec, ablation, Ranked(tuple(table_cells), marks), family),
        *seed_notes(spec, list(places.values())),
        *scope_notes(table_cells),
        *flag_notes(table_cells),
        *run_notes(spec, [ablation], list(places.values())),
    )
    first, second = (spec.names.get(factor, short(factor)) for factor in spec.factors)
    title = f"{spec.title or ablation.name}: {_label(spec)} by {first} and {second}"
    return Table(
        "table", title, f"{first} \\ {second}", columns, body, notes, "", tuple(spec.footnotes.values())
    )


def _value_notes(spec: ReportSpec, ablation: Ablation, ranked: Ranked, family: Family) -> list[str]:
    if spec.cells == "value":
        return [
            *number_notes(spec, ranked.cells),
            *rank_notes(spec, {spec.compared_metric.label: ranked}, family),
        ]
    baseline = baseline_name(spec, ablation)
    return comparison_notes(spec, baseline, ["delta"], family, bounded=has_interval(ranked.cells))


def _label(spec: ReportSpec) -> str:
    metric = spec.compared_metric
    return f"{'Δ ' if spec.cells == 'delta' else ''}{metric.header}"


def _column(spec: ReportSpec, value: str) -> TableColumn:
    kind: ColumnKind = "delta" if spec.cells == "delta" else "metric"
    key, label = f"{short(spec.factors[1])}={value}", spec.names.get(value, value)
    return TableColumn(key, label, kind, spec.metric, spec.compared_metric.unit)


def _table_row(
    spec: ReportSpec,
    places: Mapping[Key, Row],
    cells: Mapping[Key, TableCell],
    value: str,
    across: Sequence[str],
) -> TableRow:
    hole = TableCell(flags=frozenset({Flag.HOLE}))
    members = [places[value, other] for other in across if (value, other) in places]
    return TableRow(
        value,
        spec.names.get(value, value),
        tuple(cells.get((value, other), hole) for other in across),
        footnotes=tuple(number for number, key in enumerate(spec.footnotes, start=1) if key == value),
        seeds=sum(len(row.cells) for row in members),
        n=sum(len(row.records) for row in members),
        stale=tuple(dict.fromkeys(part for row in members for part in row.stale)),
        run_ids=tuple(run_id for row in members for run_id in row.run_ids),
    )
