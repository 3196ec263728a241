"""Table of every row on every data set, with wins and losses against the baseline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.reports.naming import (
    DATA_KEY,
    baseline_name,
    check_names,
    display_name,
    factor_value,
    names_within,
    table_row,
)
from ema_lab.reports.table.cells import compared_cell, delta_cell, metric_cell, ranked
from ema_lab.reports.table.notes import (
    comparison_notes,
    flag_notes,
    has_interval,
    number_notes,
    rank_notes,
    run_notes,
)
from ema_lab.results.selection import Measured, Row
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import Summary, holm, paired_test, summarise, win_tie_loss
from ema_lab.tables.table import ColumnKind, Flag, Table, TableCell, TableColumn, TableRow


@dataclass(frozen=True)
class DataSet:
    """Column of the table: a data set's display name, its ablation and its rows by name."""

    name: str
    ablation: Ablation
    rows: Mapping[str, Row]


def by_data_set(spec: ReportSpec, ablation: Ablation, measured: Sequence[Measured]) -> list[DataSet]:
    """Split the cells of one ablation by their data set.

    Raises:
        SpecError: If a cell lacks the factor.
    """
    key = spec.factors[0] if spec.factors else DATA_KEY
    measured_by_value: dict[str, dict[str, list[Measured]]] = {}
    for item in measured:
        rows = measured_by_value.setdefault(factor_value(spec, item.cell, key), {})
        rows.setdefault(item.cell.row_without(key), []).append(item)
    return [
        DataSet(
            spec.names.get(value, value),
            ablation,
            {
                name: Row(name, items[0].cell.variant == ablation.baseline, tuple(items))
                for name, items in rows.items()
            },
        )
        for value, rows in measured_by_value.items()
    ]


def datasets_table(spec: ReportSpec, data: Sequence[DataSet]) -> Table:
    """Return the table of a metric with a column for each data set.

    Raises:
        SpecError: If the report names rows that no ablation has.
    """
    known = list(dict.fromkeys(name for data_set in data for name in data_set.rows))
    cells = {row.name: row.cells[0].cell for data_set in reversed(data) for row in data_set.rows.values()}
    check_names(spec, known, _other_names(spec, data))
    names = list(spec.rows) or known
    kind: ColumnKind = "delta" if spec.cells == "delta" else "metric"
    columns = [
        TableColumn(data_set.name, _header(spec, data_set), kind, spec.metric, spec.compared_metric.unit)
        for data_set in data
    ]
    by_column = [_column_cells(spec, data_set, names) for data_set in data]
    baselines = {
        name
        for name in names
        if any(name in data_set.rows and data_set.rows[name].is_baseline for data_set in data)
    }
    if baselines and len(data) > 1:
        columns.append(TableColumn("win_tie_loss", "W/T/L", "text"))
        by_column.append(_win_cells(spec, data, names))
    body = tuple(
        _table_row(spec, cells[name], tuple(row), data, is_baseline=name in baselines)
        for name, *row in zip(names, *by_column, strict=True)
    )
    title = spec.title or spec.name
    return Table(
        "table",
        f"{title}: {spec.compared_metric.label} by data set",
        "Variant",
        tuple(columns),
        body,
        _notes(spec, data, names, columns, body),
        "",
        tuple(spec.footnotes.values()),
    )


def _other_names(spec: ReportSpec, data: Sequence[DataSet]) -> list[str]:
    """Return the other names that a report may rename: data sets, their factor, parts of row names."""
    cells = [row.cells[0].cell for data_set in data for row in data_set.rows.values()]
    names = [*(data_set.name for data_set in data), *names_within(cells)]
    if spec.ablation:
        key = spec.factors[0] if spec.factors else DATA_KEY
        names += [key, *(factor_value(spec, cell, key) for cell in cells)]
    return names


def _header(spec: ReportSpec, data_set: DataSet) -> str:
    metric = spec.compared_metric
    if spec.cells == "delta":
        return f"{data_set.name}: Δ vs {baseline_name(spec, data_set.ablation)}"
    return f"{data_set.name} ({metric.unit})" if metric.unit else data_set.name


def _column_cells(spec: ReportSpec, data_set: DataSet, names: Sequence[str]) -> list[TableCell]:
    hole = TableCell(flags=frozenset({Flag.HOLE}))
    build = delta_cell if spec.cells == "delta" else metric_cell
    rows = [data_set.rows[name] for name in names if name in data_set.rows]
    cells = [build(spec, row, spec.metric) for row in rows]
    if spec.cells == "value" and spec.rank:
        cells = ranked(spec, cells, rows, spec.metric)
    cell_by_name = dict(zip((row.name for row in rows), cells, strict=True))
    return [cell_by_name.get(name, hole) for name in names]


def _win_cells(spec: ReportSpec, data: Sequence[DataSet], names: Sequence[str]) -> list[TableCell]:
    """Compare every row with the baseline on every data set; Holm corrects over all comparisons."""
    compared = {
        name: [row for data_set in data if (row := data_set.rows.get(name)) and row.differences(spec.metric)]
        for name in names
        if not any(name in data_set.rows and data_set.rows[name].is_baseline for data_set in data)
    }
    differences = [row.differences(spec.metric) for rows in compared.values() for row in rows]
    tests = zip(differences, holm([paired_test(values).p for values in differences]), strict=True)
    outcomes = iter([_outcome(summarise(values), p) for values, p in tests])
    cells = {
        name: _win_cell(spec, rows, [next(outcomes) for _ in rows], len(data))
        for name, rows in compared.items()
    }
    return [cells.get(name, TableCell("baseline")) for name in names]


def _outcome(differences: Summary, p: float) -> tuple[float, float]:
    """Return a mean difference and its p-value; p is 1 if all differences are zero."""
    return differences.mean, 1.0 if differences.is_zero else p


def _win_cell(
    spec: ReportSpec, rows: Sequence[Row], outcomes: Sequence[tuple[float, float]], count: int
) -> TableCell:
    """Return wins, ties and losses over the data sets that allow a test."""
    if not rows:
        return TableCell(expected=count, flags=frozenset({Flag.HOLE}))
    tested = sum(not math.isnan(p) for _, p in outcomes)
    cells = [compared_cell(row, row.pairs(spec.metric)) for row in rows]
    return TableCell(
        str(win_tie_loss(outcomes, spec.compared_metric.sign)) if tested else "untested",
        f"{tested} of {count} tested" if 0 < tested < count else "",
        n=tested,
        expected=count,
        run_ids=tuple(run_id for cell in cells for run_id in cell.run_ids),
        baseline_run_ids=tuple(run_id for cell in cells for run_id in cell.baseline_run_ids),
        missing_run_ids=tuple(run_id for cell in cells for run_id in cell.missing_run_ids),
        flags=frozenset(flag for cell in cells for flag in cell.flags & {Flag.STALE, Flag.UNCLEAN}),
    )


def _table_row(
    spec: ReportSpec, cell: Cell, cells: tuple[TableCell, ...], data: Sequence[DataSet], *, is_baseline: bool
) -> TableRow:
    name = table_row(spec, cell)
    members = [data_set.rows[name] for data_set in data if name in data_set.rows]
    return TableRow(
        name,
        display_name(spec, cell),
        cells,
        footnotes=tuple(number for number, key in enumerate(spec.footnotes, start=1) if key == name),
        is_baseline=is_baseline,
        seeds=sum(len(row.cells) for row in members),
        n=sum(len(row.records) for row in members),
        stale=tuple(dict.fromkeys(part for row in members for part in row.stale)),
        run_ids=tuple(run_id for row in members for run_id in row.run_ids),
    )


def _notes(
    spec: ReportSpec,
    data: Sequence[DataSet],
    names: Sequence[str],
    columns: Sequence[TableColumn],
    body: Sequence[TableRow],
) -> tuple[str, ...]:
    cells = [cell for row in body for cell in row.cells]
    rows = [data_set.rows[name] for data_set in data for name in names if name in data_set.rows]
    ablations = list({data_set.ablation.name: data_set.ablation for data_set in data}.values())
    wins = (
        "W/T/L: data sets on which a row is significantly better than the baseline, not different, and worse "
        "(paired t tests, Holm-corrected over all rows and data sets, 5 %)."
    )
    metrics = {
        column.label: [row.cells[index] for row in body]
        for index, column in enumerate(columns)
        if column.kind == "metric"
    }
    deltas = ["delta"] if spec.cells == "delta" else []
    baselines = " and ".join(dict.fromkeys(baseline_name(spec, data_set.ablation) for data_set in data))
    return (
        *number_notes(spec, [cell for column in metrics.values() for cell in column]),
        *comparison_notes(spec, baselines, deltas, bounded=has_interval(cells)),
        *rank_notes(spec, metrics),
        *([wins] if any(column.key == "win_tie_loss" for column in columns) else []),
        *flag_notes(cells),
        *run_notes(spec, ablations, rows),
    )
