"""Table of every row on every data set, with wins and losses against the baseline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import ABSENT, Cell, value_of
from ema_lab.measured.family import Family, family_of
from ema_lab.measured.selection import Measured, Row
from ema_lab.reports.naming import (
    DATA_KEY,
    baseline_name,
    check_names,
    display_name,
    factor_value,
    names_within,
    table_row,
)
from ema_lab.reports.table.cells import compared_cell, delta_cell, metric_cell
from ema_lab.reports.table.comparison import Marks, marks_of
from ema_lab.reports.table.notes import (
    comparison_notes,
    flag_notes,
    has_interval,
    number_notes,
    run_notes,
    seed_notes,
)
from ema_lab.reports.table.over_datasets import Method, mean_cells, mean_columns, mean_notes
from ema_lab.reports.table.rank_notes import Ranked, rank_notes
from ema_lab.reports.table.scope import scope_notes
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import Summary, holm, paired_test, summarise, win_tie_loss
from ema_lab.tables.cell import Flag, TableCell
from ema_lab.tables.table import ColumnKind, Table, TableColumn, TableRow
from ema_lab.wording import number_of


@dataclass(frozen=True)
class DataSet:
    """Column of the table: a data set's display name, its ablation and its rows by name.

    Attributes:
        name: Display name.
        ablation: Ablation of the rows.
        rows: Rows that pass the report's filter, by name.
        all_rows: All rows of the ablation on this data set, for which tests are corrected.
    """

    name: str
    ablation: Ablation
    rows: Mapping[str, Row]
    all_rows: tuple[Row, ...]

    def family(self, names: Sequence[str]) -> Family:
        """Return the family of the rows with these names."""
        shown = [self.rows[name] for name in names if name in self.rows]
        return family_of(self.all_rows, list(self.rows.values()), shown)


def by_data_set(
    spec: ReportSpec, ablation: Ablation, measured: Sequence[Measured], every: Sequence[Measured]
) -> list[DataSet]:
    """Split the cells of one ablation by their data set.

    Args:
        spec: The report.
        ablation: Ablation of the cells.
        measured: Cells that pass the report's filter.
        every: All cells. A cell that lacks the factor belongs to no data set.

    Raises:
        SpecError: If a cell of `measured` lacks the factor.
    """
    key = spec.factors[0] if spec.factors else DATA_KEY
    rows_by_value = _rows_by_value(spec, ablation, measured, key)
    with_key = [item for item in every if value_of(item.cell, key) is not ABSENT]
    all_by_value = _rows_by_value(spec, ablation, with_key, key)
    return [
        DataSet(spec.names.get(value, value), ablation, rows, tuple(all_by_value[value].values()))
        for value, rows in rows_by_value.items()
    ]


def _rows_by_value(
    spec: ReportSpec, ablation: Ablation, measured: Sequence[Measured], key: str
) -> dict[str, dict[str, Row]]:
    """Return the rows by value of a factor and by name without it."""
    measured_by_value: dict[str, dict[str, list[Measured]]] = {}
    for item in measured:
        rows = measured_by_value.setdefault(factor_value(spec, item.cell, key), {})
        rows.setdefault(item.cell.row_without(key), []).append(item)
    return {
        value: {
            name: Row(name, items[0].cell.variant == ablation.baseline, tuple(items))
            for name, items in rows.items()
        }
        for value, rows in measured_by_value.items()
    }


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
    is_ranked = spec.cells == "value" and spec.rank
    marks = [
        marks_of(spec, spec.metric, data_set.family(names)) if is_ranked else Marks({}) for data_set in data
    ]
    comparisons = sum(data_set.family(names).num_compared for data_set in data)
    by_column = [
        _delta_cells(spec, data_set, names, comparisons)
        if spec.cells == "delta"
        else _value_cells(spec, data_set, names, each)
        for data_set, each in zip(data, marks, strict=True)
    ]
    baselines = {
        name
        for name in names
        if any(name in data_set.rows and data_set.rows[name].is_baseline for data_set in data)
    }
    if baselines and len(data) > 1:
        columns.append(TableColumn("win_tie_loss", "W/T/L", "text"))
        by_column.append(_win_cells(spec, data, names))
        methods = _methods(data, names)
        columns += mean_columns(spec, _baseline_names(spec, data))
        by_column += mean_cells(spec, methods, names, len(data))
    body = tuple(
        _table_row(spec, cells[name], tuple(row), data, is_baseline=name in baselines)
        for name, *row in zip(names, *by_column, strict=True)
    )
    ranked = {
        column.label: Ranked(tuple(row.cells[index] for row in body), each)
        for index, (column, each) in enumerate(zip(columns, marks, strict=False))
        if column.kind == "metric"
    }
    title = spec.title or spec.name
    return Table(
        "table",
        f"{title}: {spec.compared_metric.label} by data set",
        "Variant",
        tuple(columns),
        body,
        _notes(spec, data, names, body, ranked),
        "",
        tuple(spec.footnotes.values()),
    )


def _methods(data: Sequence[DataSet], names: Sequence[str]) -> dict[str, Method]:
    """Return all rows of the ablations by name, shown or not, with their rows on each data set."""
    rows: dict[str, list[Row]] = {}
    for data_set in data:
        for row in data_set.family(names).rows:
            rows.setdefault(row.name, []).append(row)
    return {name: Method(tuple(each), any(row.is_baseline for row in each)) for name, each in rows.items()}


def _baseline_names(spec: ReportSpec, data: Sequence[DataSet]) -> str:
    return " and ".join(dict.fromkeys(baseline_name(spec, data_set.ablation) for data_set in data))


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


def _value_cells(spec: ReportSpec, data_set: DataSet, names: Sequence[str], marks: Marks) -> list[TableCell]:
    rows = [data_set.rows[name] for name in names if name in data_set.rows]
    return _with_holes(
        names, {row.name: marks.mark(metric_cell(spec, row, spec.metric), row) for row in rows}
    )


def _delta_cells(
    spec: ReportSpec, data_set: DataSet, names: Sequence[str], comparisons: int
) -> list[TableCell]:
    rows = [data_set.rows[name] for name in names if name in data_set.rows]
    return _with_holes(names, {row.name: delta_cell(spec, row, spec.metric, comparisons) for row in rows})


def _with_holes(names: Sequence[str], cells: Mapping[str, TableCell]) -> list[TableCell]:
    hole = TableCell(flags=frozenset({Flag.HOLE}))
    return [cells.get(name, hole) for name in names]


def _win_cells(spec: ReportSpec, data: Sequence[DataSet], names: Sequence[str]) -> list[TableCell]:
    """Compare every row with the baseline on every data set; Holm corrects over all comparisons.

    The comparisons are those of the whole ablations, whatever rows are shown.
    """
    compared = [
        (index, row) for index, data_set in enumerate(data) for row in data_set.family(names).compared
    ]
    corrected = holm([paired_test(row.differences(spec.metric)).p for _, row in compared])
    p_values = {(index, row.name): p for (index, row), p in zip(compared, corrected, strict=True)}
    return [_win_cell_of(spec, data, name, p_values) for name in names]


def _win_cell_of(
    spec: ReportSpec, data: Sequence[DataSet], name: str, p_values: Mapping[tuple[int, str], float]
) -> TableCell:
    present = [(index, data_set.rows[name]) for index, data_set in enumerate(data) if name in data_set.rows]
    if any(row.is_baseline for _, row in present):
        return TableCell("baseline")
    tested = [(index, row) for index, row in present if row.differences(spec.metric)]
    outcomes = [
        _outcome(summarise(row.differences(spec.metric)), p_values[index, name]) for index, row in tested
    ]
    return _win_cell(spec, [row for _, row in tested], outcomes, len(data))


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
    body: Sequence[TableRow],
    ranked: Mapping[str, Ranked],
) -> tuple[str, ...]:
    cells = [cell for row in body for cell in row.cells]
    rows = [data_set.rows[name] for data_set in data for name in names if name in data_set.rows]
    ablations = list({data_set.ablation.name: data_set.ablation for data_set in data}.values())
    families = [data_set.family(names) for data_set in data]
    shown, compared = (
        sum(counts)
        for counts in zip(*((each.num_compared_shown, len(each.compared)) for each in families), strict=True)
    )
    hidden = (
        ""
        if shown == compared
        else f": {shown} of {number_of(compared, 'comparison')} shown, corrected for {compared}"
    )
    wins = (
        "W/T/L: data sets on which a row is significantly better than the baseline, not different, and worse "
        f"(paired t tests, Holm-corrected over all rows and data sets{hidden}, 5 %)."
    )
    deltas = ["delta"] if spec.cells == "delta" else []
    baselines = _baseline_names(spec, data)
    methods = _methods(data, names)
    over_data = mean_notes(spec, baselines, methods, sum(not methods[name].is_baseline for name in names))
    return (
        *number_notes(spec, [cell for column in ranked.values() for cell in column.cells]),
        *(note for data_set in data for note in _seed_notes(spec, data_set, names)),
        *comparison_notes(
            spec, baselines, deltas, families[0], bounded=has_interval(cells), comparisons=compared
        ),
        *rank_notes(spec, ranked, *families),
        *([wins, *over_data] if len(data) > 1 and any(row.is_baseline for row in body) else []),
        *scope_notes(cells, "the test set of each"),
        *flag_notes(cells),
        *run_notes(spec, ablations, rows),
    )


def _seed_notes(spec: ReportSpec, data_set: DataSet, names: Sequence[str]) -> list[str]:
    rows = [data_set.rows[name] for name in names if name in data_set.rows]
    return [f"{data_set.name}: {note}" for note in seed_notes(spec, rows)]
