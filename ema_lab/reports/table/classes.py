"""Table of a metric by row and class, from the stored predictions of the runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ema_lab.ablation.ablation import Ablation
from ema_lab.measured.analysis import Analyses, class_counts, class_rows
from ema_lab.measured.family import Family, family_of
from ema_lab.measured.selection import Row
from ema_lab.reports.naming import baseline_name, check_names, display_name, names_within
from ema_lab.reports.table.cells import delta_cell, metric_cell
from ema_lab.reports.table.comparison import Marks, marks_of
from ema_lab.reports.table.notes import (
    comparison_notes,
    flag_notes,
    has_interval,
    number_notes,
    run_notes,
)
from ema_lab.reports.table.rank_notes import Ranked, rank_notes
from ema_lab.reports.table.scope import scope_notes
from ema_lab.specs.class_names import class_names
from ema_lab.specs.report import ReportSpec
from ema_lab.tables.cell import TableCell
from ema_lab.tables.table import ColumnKind, Table, TableColumn, TableRow


def classes_table(
    spec: ReportSpec,
    ablation: Ablation,
    rows: Sequence[Row],
    analyses: Analyses,
    all_rows: Sequence[Row] | None = None,
) -> Table:
    """Return the table of a metric with one column, or one row, per class.

    Args:
        spec: The report.
        ablation: Ablation of the rows.
        rows: Rows that pass the report's filter.
        analyses: Analyses of stored predictions.
        all_rows: All rows of the ablation, for which tests are corrected; None if `rows` are all.

    Raises:
        SpecError: If the report names rows that the ablation lacks, or its data sets have different classes.
    """
    cells = [row.cells[0].cell for row in rows]
    names = _class_names(spec, rows)
    check_names(spec, [row.name for row in rows], [*names, *names_within(cells)])
    kept = rows
    if spec.rows:
        by_name = {row.name: row for row in rows}
        rows = [by_name[name] for name in spec.rows if name in by_name]
    metric = spec.compared_metric
    counts = class_counts(analyses, rows, metric.protocol)
    family = family_of(all_rows or kept, kept, rows)
    families = [
        replace(family, rows=tuple(of_class))
        for of_class in class_rows(analyses, family.rows, spec.metric, metric.protocol)
    ]
    is_ranked = spec.cells == "value" and spec.rank
    marks = [marks_of(spec, spec.metric, each) if is_ranked else Marks({}) for each in families]
    by_class = [
        _class_cells(spec, [row.name for row in rows], each, its)
        for each, its in zip(families, marks, strict=True)
    ]
    kind: ColumnKind = "delta" if spec.cells == "delta" else "metric"
    columns = [
        TableColumn(f"class={name}", _header(spec, name, counts, number), kind, spec.metric, metric.unit)
        for number, name in enumerate(names)
    ]
    body = [_row(spec, row, tuple(column[index] for column in by_class)) for index, row in enumerate(rows)]
    ranked = {
        column.label: Ranked(tuple(row.cells[index] for row in body), each)
        for index, (column, each) in enumerate(zip(columns, marks, strict=True))
    }
    table = Table(
        "table",
        _title(spec, ablation),
        "Variant",
        tuple(columns),
        tuple(body),
        _notes(spec, ablation, rows, body, family, ranked),
        "",
        tuple(spec.footnotes.values()),
    )
    return table if spec.across == "classes" else _transposed(table, kind, rows)


def _title(spec: ReportSpec, ablation: Ablation) -> str:
    metric = spec.compared_metric
    what = metric.header
    if spec.cells == "delta":
        unit = f" ({metric.unit_of_differences})" if metric.unit else ""
        what = f"Δ {metric.label} vs {baseline_name(spec, ablation)}{unit}"
    return f"{spec.title or ablation.name}: {what} by class"


def _class_names(spec: ReportSpec, rows: Sequence[Row]) -> tuple[str, ...]:
    listed = list(dict.fromkeys(class_names(item.cell.spec.data) for row in rows for item in row.cells))
    if len(listed) > 1:
        raise spec.error_at("the rows have data sets with different classes; choose one with `only`", "kind")
    return listed[0]


def _header(spec: ReportSpec, name: str, counts: Sequence[int] | None, number: int) -> str:
    """Return a class's display name with the number of its boxes or images in the evaluated split."""
    label = spec.names.get(name, name)
    return label if counts is None else f"{label} ({counts[number]:,})"


def _class_cells(spec: ReportSpec, names: Sequence[str], family: Family, marks: Marks) -> list[TableCell]:
    by_name = {row.name: row for row in family.rows}
    rows = [by_name[name] for name in names]
    if spec.cells == "delta":
        return [delta_cell(spec, row, spec.metric, family.num_compared) for row in rows]
    return [marks.mark(metric_cell(spec, row, spec.metric), row) for row in rows]


def _row(spec: ReportSpec, row: Row, cells: tuple[TableCell, ...]) -> TableRow:
    return TableRow(
        row.name,
        display_name(spec, row.cells[0].cell),
        cells,
        footnotes=tuple(number for number, key in enumerate(spec.footnotes, start=1) if key == row.name),
        is_baseline=row.is_baseline,
        seeds=len(row.cells),
        n=len(row.records),
        stale=tuple(row.stale),
        run_ids=tuple(row.run_ids),
    )


def _notes(
    spec: ReportSpec,
    ablation: Ablation,
    rows: Sequence[Row],
    body: Sequence[TableRow],
    family: Family,
    ranked: Mapping[str, Ranked],
) -> tuple[str, ...]:
    cells = [cell for row in body for cell in row.cells]
    deltas = ["delta"] if spec.cells == "delta" else []
    counted = "boxes" if spec.task.analyses("curves") else "images"
    return (
        f"In brackets behind a class: its {counted} in the evaluated split. Tests of one class are not "
        "corrected for the number of classes.",
        *(number_notes(spec, cells) if not deltas else []),
        *comparison_notes(spec, baseline_name(spec, ablation), deltas, family, bounded=has_interval(cells)),
        *(rank_notes(spec, ranked, family) if not deltas else []),
        *scope_notes(cells),
        *flag_notes(cells),
        *run_notes(spec, [ablation], rows),
    )


def _transposed(table: Table, kind: ColumnKind, rows: Sequence[Row]) -> Table:
    """Return the table with the classes as rows and the ablation's rows as columns."""
    columns = tuple(
        replace(table.columns[0], key=row.key, label=row.name + "".join(f" [{n}]" for n in row.footnotes))
        for row in table.rows
    )
    runs = tuple(run_id for row in table.rows for run_id in row.run_ids)
    body = tuple(
        TableRow(
            column.key,
            column.label,
            tuple(row.cells[index] for row in table.rows),
            seeds=sum(row.seeds for row in table.rows),
            n=sum(row.n for row in table.rows),
            stale=tuple(dict.fromkeys(part for row in table.rows for part in row.stale)),
            run_ids=runs,
        )
        for index, column in enumerate(table.columns)
    )
    return replace(table, row_label="Class", columns=columns, rows=body)
