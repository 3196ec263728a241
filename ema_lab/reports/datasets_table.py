"""Every row on every data set, with wins and losses against the baseline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ema_lab.experiments.ablation import Ablation
from ema_lab.reports.cells import delta_cell, metric_cell, ranked
from ema_lab.reports.naming import DATA_KEY, baseline_name, check_names, factor_value
from ema_lab.reports.notes import all_tie, comparison_notes, flag_notes, number_notes, rank_notes, run_notes
from ema_lab.reports.selection import Measured, Row
from ema_lab.reports.statistics import holm, paired_test, summarise, win_tie_loss
from ema_lab.reports.table import ColumnKind, Flag, Table, TableCell, TableColumn, TableRow
from ema_lab.specs.metric import METRICS
from ema_lab.specs.report import ReportSpec


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
    check_names(spec, known, [one.name for one in data] + [*spec.names])
    names = list(spec.rows) or known
    kind: ColumnKind = "delta" if spec.cells == "delta" else "metric"
    columns = [TableColumn(one.name, _header(spec, one), kind, spec.metric) for one in data]
    by_column = [_column_cells(spec, one, names) for one in data]
    baselines = {
        name for name in names if any(name in one.rows and one.rows[name].is_baseline for one in data)
    }
    if baselines and len(data) > 1:
        columns.append(TableColumn("win_tie_loss", "W/T/L", "text"))
        by_column.append(_win_cells(spec, data, names))
    body = tuple(
        _table_row(spec, name, tuple(cells), data, is_baseline=name in baselines)
        for name, *cells in zip(names, *by_column, strict=True)
    )
    title = spec.title or spec.name
    return Table(
        "table",
        f"{title}: {METRICS[spec.metric].label} by data set",
        "Variant",
        tuple(columns),
        body,
        _notes(spec, data, names, columns, body),
        "",
        tuple(spec.footnotes.values()),
    )


def _header(spec: ReportSpec, one: DataSet) -> str:
    metric = METRICS[spec.metric]
    if spec.cells == "delta":
        return f"{one.name}: Δ vs {baseline_name(spec, one.ablation)}"
    return f"{one.name} ({metric.unit})"


def _column_cells(spec: ReportSpec, one: DataSet, names: Sequence[str]) -> list[TableCell]:
    hole = TableCell(flags=frozenset({Flag.HOLE}))
    build = delta_cell if spec.cells == "delta" else metric_cell
    rows = [one.rows[name] for name in names if name in one.rows]
    cells = [build(spec, row, spec.metric) for row in rows]
    if spec.cells == "value" and spec.rank:
        cells = ranked(cells, rows, spec.metric)
    found = dict(zip((row.name for row in rows), cells, strict=True))
    return [found.get(name, hole) for name in names]


def _win_cells(spec: ReportSpec, data: Sequence[DataSet], names: Sequence[str]) -> list[TableCell]:
    """Compare every row with the baseline on every data set; Holm over all of these comparisons."""
    places = [
        (name, one.rows[name])
        for name in names
        for one in data
        if name in one.rows and not one.rows[name].is_baseline and one.rows[name].differences(spec.metric)
    ]
    corrected = holm([paired_test(row.differences(spec.metric)).p for _, row in places])
    found: dict[str, list[tuple[float, float]]] = {}
    for (name, row), p in zip(places, corrected, strict=True):
        found.setdefault(name, []).append((summarise(row.differences(spec.metric)).mean, p))
    cells = []
    for name in names:
        rows = [one.rows[name] for one in data if name in one.rows]
        pairs = [item for row in rows for item, _ in row.pairs(spec.metric)]
        if any(row.is_baseline for row in rows):
            cells.append(TableCell("baseline"))
            continue
        counted = win_tie_loss(found.get(name, []), METRICS[spec.metric].sign)
        tested = sum(not math.isnan(p) for _, p in found.get(name, []))
        cell = TableCell(
            str(counted) if name in found else None,
            n=tested,
            expected=len(rows),
            run_ids=tuple(item.cell.run_id for item in pairs),
            baseline_run_ids=tuple(item.baseline_id for item in pairs if item.baseline_id),
            flags=frozenset() if name in found else frozenset({Flag.HOLE}),
        )
        few = f"{len(found.get(name, []))} of {len(data)}" if len(found.get(name, [])) < len(data) else ""
        cells.append(replace(cell, count=few if name in found else ""))
    return cells


def _table_row(
    spec: ReportSpec, name: str, cells: tuple[TableCell, ...], data: Sequence[DataSet], *, is_baseline: bool
) -> TableRow:
    members = [one.rows[name] for one in data if name in one.rows]
    return TableRow(
        name,
        spec.names.get(name, name),
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
    open_columns = [
        column.label
        for place, column in enumerate(columns)
        if column.kind == "metric" and all_tie([row.cells[place] for row in body])
    ]
    baselines = " and ".join(dict.fromkeys(baseline_name(spec, one.ablation) for one in data))
    return (
        *number_notes(spec, columns, cells),
        *(comparison_notes(spec, baselines, ["delta"]) if spec.cells == "delta" else ()),
        *rank_notes(spec, ", ".join(open_columns), columns, cells, undecided=bool(open_columns)),
        *([wins] if any(column.key == "win_tie_loss" for column in columns) else []),
        *flag_notes(cells),
        *run_notes(ablations, rows),
    )
