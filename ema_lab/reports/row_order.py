"""Rows of a report with their order and names, shared by tables, figures and page."""

from collections import Counter
from collections.abc import Sequence

from ema_lab.ablation.ablation import Ablation
from ema_lab.measured.selection import Row, measure, rows_of
from ema_lab.reports.naming import axis_suffix, factor_value, gathered, table_row
from ema_lab.reports.report import chosen, ordered, report_ablations, with_baseline, with_task
from ema_lab.specs.report import ReportSpec
from ema_lab.store.store import RunStore


def report_rows(spec: ReportSpec, store: RunStore) -> list[tuple[Ablation, list[Row]]]:
    """Return each ablation of a report, with its baseline, and the rows that the report shows.

    Raises:
        SpecError: If the report names a key that its ablations lack.
    """
    ablations = [with_baseline(spec, ablation) for ablation in report_ablations(spec, store)]
    spec = with_task(spec, ablations)
    return [
        (ablation, shown_rows(spec, rows_of(ablation, chosen(spec, measure(ablation, store)))))
        for ablation in ablations
    ]


def shown_rows(spec: ReportSpec, rows: Sequence[Row]) -> list[Row]:
    """Return the rows of one ablation that the report's table shows, in the table's order.

    Raises:
        SpecError: If a row lacks the report's group or factor key.
    """
    if spec.kind in {"main", "leave_one_out"}:
        rows_in_order = ordered(spec, rows)
        groups = [
            factor_value(spec, row.cells[0].cell, spec.group) if spec.group else "" for row in rows_in_order
        ]
        by_name = {row.name: group for row, group in zip(rows_in_order, groups, strict=True)}
        return sorted(rows_in_order, key=lambda row: groups.index(by_name[row.name]))
    names = {row.name: table_row(spec, row.cells[0].cell) for row in rows}
    if not spec.rows:
        return list(rows)
    kept = [row for row in rows if names[row.name] in spec.rows]
    return sorted(kept, key=lambda row: spec.rows.index(names[row.name]))


def row_labels(spec: ReportSpec, rows: Sequence[Row]) -> dict[str, str]:
    """Return each row's display name; equal names get their group or data set appended."""
    labels = {row.name: _label(spec, row) for row in rows}
    counts = Counter(labels.values())
    key = gathered(spec)
    keys = {row.name: axis_suffix(spec, row.cells[0].cell, lambda axis: axis == key) for row in rows}
    return {name: f"{label}{keys[name]}" if counts[label] > 1 else label for name, label in labels.items()}


def _label(spec: ReportSpec, row: Row) -> str:
    cell = row.cells[0].cell
    if row.name in spec.names:
        return spec.names[row.name]
    inner, key = cell.row_without(gathered(spec)), gathered(spec)
    if inner in spec.names:  # a report on data sets names methods, without the data set
        return spec.names[inner] + axis_suffix(spec, cell, lambda axis: axis == key)
    return spec.names.get(cell.variant, cell.variant) + axis_suffix(spec, cell, lambda _: True)


def modules_of(ablation: Ablation, rows: Sequence[Row]) -> dict[str, str]:
    """Return the attention module of each row, in the order of the file."""
    names = {row.name for row in rows}
    modules = {name: cells[0].spec.model.attention.name for name, cells in ablation.rows().items()}
    return {name: module for name, module in modules.items() if name in names}
