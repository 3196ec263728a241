"""Every row on every data set, with wins and losses against the baseline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.reports.naming import (
    DATA_KEY,
    baseline_name,
    check_names,
    factor_value,
    names_within,
    printed_row,
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
    """One column: a data set's name in print, its ablation and its rows by name."""

    name: str
    ablation: Ablation
    rows: Mapping[str, Row]


def by_data_set(spec: ReportSpec, ablation: Ablation, measured: Sequence[Measured]) -> list[DataSet]:
    """Split the cells of one ablation by their data set.

    Raises:
        SpecError: If a cell has no such factor.
    """
    key = spec.factors[0] if spec.factors else DATA_KEY
    found: dict[str, dict[str, list[Measured]]] = {}
    for item in measured:
        rows = found.setdefault(factor_value(spec, item.cell, key), {})
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
        for value, rows in found.items()
    ]


def datasets_table(spec: ReportSpec, data: Sequence[DataSet]) -> Table:
    """Return the table of a metric with a column for each data set.

    Raises:
        SpecError: If the report names rows that no ablation has.
    """
    known = list(dict.fromkeys(name for one in data for name in one.rows))
    cells = {row.name: row.cells[0].cell for one in reversed(data) for row in one.rows.values()}
    check_names(spec, known, _named_beside(spec, data))
    names = list(spec.rows) or known
    kind: ColumnKind = "delta" if spec.cells == "delta" else "metric"
    columns = [
        TableColumn(one.name, _header(spec, one), kind, spec.metric, spec.compared_metric.unit)
        for one in data
    ]
    by_column = [_column_cells(spec, one, names) for one in data]
    baselines = {
        name for name in names if any(name in one.rows and one.rows[name].is_baseline for one in data)
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


def _named_beside(spec: ReportSpec, data: Sequence[DataSet]) -> list[str]:
    """Return what may have a name in print beside rows: data sets, their factor, parts of rows' names."""
    cells = [row.cells[0].cell for one in data for row in one.rows.values()]
    found = [*(one.name for one in data), *names_within(cells)]
    if spec.ablation:
        key = spec.factors[0] if spec.factors else DATA_KEY
        found += [key, *(factor_value(spec, cell, key) for cell in cells)]
    return found


def _header(spec: ReportSpec, one: DataSet) -> str:
    metric = spec.compared_metric
    if spec.cells == "delta":
        return f"{one.name}: Δ vs {baseline_name(spec, one.ablation)}"
    return f"{one.name} ({metric.unit})" if metric.unit else one.name


def _column_cells(spec: ReportSpec, one: DataSet, names: Sequence[str]) -> list[TableCell]:
    hole = TableCell(flags=frozenset({Flag.HOLE}))
    build = delta_cell if spec.cells == "delta" else metric_cell
    rows = [one.rows[name] for name in names if name in one.rows]
    cells = [build(spec, row, spec.metric) for row in rows]
    if spec.cells == "value" and spec.rank:
        cells = ranked(spec, cells, rows, spec.metric)
    found = dict(zip((row.name for row in rows), cells, strict=True))
    return [found.get(name, hole) for name in names]


def _win_cells(spec: ReportSpec, data: Sequence[DataSet], names: Sequence[str]) -> list[TableCell]:
    """Compare every row with the baseline on every data set; Holm over all of these comparisons."""
    compared = {
        name: [row for one in data if (row := one.rows.get(name)) and row.differences(spec.metric)]
        for name in names
        if not any(name in one.rows and one.rows[name].is_baseline for one in data)
    }
    differences = [row.differences(spec.metric) for rows in compared.values() for row in rows]
    tests = zip(differences, holm([paired_test(one).p for one in differences]), strict=True)
    outcomes = iter([_outcome(summarise(one), p) for one, p in tests])
    cells = {
        name: _win_cell(spec, rows, [next(outcomes) for _ in rows], len(data))
        for name, rows in compared.items()
    }
    return [cells.get(name, TableCell("baseline")) for name in names]


def _outcome(differences: Summary, p: float) -> tuple[float, float]:
    """Return a mean difference and its p; where no seed differs at all, nothing speaks for a difference."""
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
    members = [one.rows[name] for one in data if name in one.rows]
    return TableRow(
        name,
        printed_row(spec, cell),
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
    rows = [one.rows[name] for one in data for name in names if name in one.rows]
    ablations = list({one.ablation.name: one.ablation for one in data}.values())
    wins = (
        "W/T/L: data sets on which a row is significantly better than the baseline, not different, and worse "
        "(paired t tests, Holm-corrected over all rows and data sets, 5 %)."
    )
    metrics = {
        column.label: [row.cells[place] for row in body]
        for place, column in enumerate(columns)
        if column.kind == "metric"
    }
    deltas = ["delta"] if spec.cells == "delta" else []
    baselines = " and ".join(dict.fromkeys(baseline_name(spec, one.ablation) for one in data))
    return (
        *number_notes(spec, [cell for column in metrics.values() for cell in column]),
        *comparison_notes(spec, baselines, deltas, bounded=has_interval(cells)),
        *rank_notes(spec, metrics),
        *([wins] if any(column.key == "win_tie_loss" for column in columns) else []),
        *flag_notes(cells),
        *run_notes(spec, ablations, rows),
    )
