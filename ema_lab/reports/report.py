"""Tables of a report, built from its spec and the records."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.ablation.grid import matches
from ema_lab.measured.analysis import Analyses
from ema_lab.measured.family import family_of
from ema_lab.measured.images import ImageResults
from ema_lab.measured.selection import Measured, Row, measure, rows_of
from ema_lab.registry.registry import unknown_name
from ema_lab.reports.claims import claims_tables, published_tables
from ema_lab.reports.naming import (
    baseline_name,
    check_names,
    display_name,
    enters,
    names_within,
    short,
)
from ema_lab.reports.table.classes import classes_table
from ema_lab.reports.table.comparison import column_cells, column_marks
from ema_lab.reports.table.datasets import DataSet, by_data_set, datasets_table
from ema_lab.reports.table.grid import grid_tables
from ema_lab.reports.table.groups import group_of, with_groups
from ema_lab.reports.table.images import image_cells, image_notes, images_table
from ema_lab.reports.table.notes import latency_notes, notes_of
from ema_lab.reports.table.sequential import sequential_cells
from ema_lab.specs.columns import (
    COST_DELTAS,
    DELTA,
    IMAGE_COLUMNS,
    LATENCIES,
    is_metric_delta,
    needs_baseline,
)
from ema_lab.specs.metric import COSTS
from ema_lab.specs.report import ReportSpec
from ema_lab.specs.report_rules import WITH_COLUMNS
from ema_lab.specs.task import common_task
from ema_lab.statistics import comparable_means
from ema_lab.store.cost_cache import CachedCosts, cached_latencies
from ema_lab.store.store import RunStore
from ema_lab.tables.cell import TableCell
from ema_lab.tables.table import ColumnKind, Table, TableColumn, TableRow
from ema_lab.wording import number_of


def with_baseline(spec: ReportSpec, ablation: Ablation) -> Ablation:
    """Return the ablation with the report's baseline instead of its own.

    Raises:
        SpecError: If no variant has that name.
    """
    if spec.baseline is None:
        if spec.cells == "delta" and ablation.baseline is None:
            rule = f"delta needs a baseline, and the ablation {ablation.name} names none; add `baseline`"
            raise spec.error_at(rule, "cells")
        return ablation
    variants = list(dict.fromkeys(cell.variant for cell in ablation.cells))
    if spec.baseline not in variants:
        raise spec.error_at(unknown_name("variant", spec.baseline, variants), "baseline")
    return replace(ablation, baseline=spec.baseline)


def with_task(spec: ReportSpec, ablations: Iterable[Ablation]) -> ReportSpec:
    """Return the report's spec with the metrics of its ablations' task and the test that suits them.

    Raises:
        SpecError: If the ablations have several tasks, or their task lacks a metric that the report names.
    """
    ablations = list(ablations)
    specs = (cell.spec for ablation in ablations for cell in ablation.cells)
    spec = spec.for_task(common_task(specs, f"report {spec.name}"))
    if spec.test is not None:
        return spec
    is_table_of_rows = spec.kind in WITH_COLUMNS and not spec.is_decided
    can_pool = is_table_of_rows and all(ablation.has_several_comparisons for ablation in ablations)
    return spec.model_copy(update={"test": "pooled" if can_pool else "paired"})


def chosen(spec: ReportSpec, measured: Sequence[Measured]) -> list[Measured]:
    """Return the cells that pass `only`; their baselines stay available.

    Raises:
        SpecError: If no cell passes.
    """
    kept = [item for item in measured if enters(spec, item.cell)]
    if not kept:
        raise spec.error_at(f"no cell has {dict(spec.only)}; name values that cells have", "only")
    return kept


def _check_only(spec: ReportSpec, ablations: Sequence[Ablation]) -> None:
    """Refuse a value in a list of `only` that no cell has."""
    cells = [
        cell
        for ablation in ablations
        for cell in (*ablation.cells, *(left.cell for left in ablation.skipped))
    ]
    for key, wanted in spec.only.items():
        for number, value in enumerate(wanted if isinstance(wanted, list) else []):
            if not any(matches(cell, key, value) for cell in cells):
                raise spec.error_at(f"no cell has {value!r}", "only", key, number)


def build_table(
    spec: ReportSpec,
    ablation: Ablation,
    rows: Sequence[Row],
    timed: CachedCosts | None = None,
    all_rows: Sequence[Row] | None = None,
    by_image: ImageResults | None = None,
) -> Table:
    """Build a table of the kinds `main` and `leave_one_out` from rows of runs, with its caption.

    Args:
        spec: The report.
        ablation: Ablation of the rows.
        rows: Rows that pass the report's filter.
        timed: Cached latencies by row.
        all_rows: All rows of the ablation, for which tests are corrected; None if `rows` are all.
        by_image: Results by test image, for the columns over images.

    Raises:
        SpecError: If the report names a key that the ablation lacks.
    """
    _check(spec, ablation, rows)
    rows = [replace(row, latency=timed.measured.get(row.name)) if timed else row for row in rows]
    kept, rows = rows, ordered(spec, rows)
    columns = [table_column(key, spec, ablation) for key in spec.columns]
    family = with_groups(spec, family_of(all_rows or kept, kept, rows))
    by_column = [
        sequential_cells(spec, rows, column.key, family)
        if spec.is_decided and column.key in ("delta", "p")
        else image_cells(spec, rows, column, family, by_image)
        if by_image is not None and column.key in IMAGE_COLUMNS
        else column_cells(spec, rows, column, family)
        for column in columns
    ]
    marks = column_marks(spec, columns, family)
    for index, column in enumerate(columns):
        if column.key in marks:
            cells = zip(by_column[index], rows, strict=True)
            by_column[index] = [marks[column.key].mark(cell, row) for cell, row in cells]
    if spec.kind == "leave_one_out":
        checks = _check_columns(spec, rows)
        columns = [*checks, *columns]
        by_column = [*([_check_cell(spec, row, column) for row in rows] for column in checks), *by_column]
    footnotes = tuple(spec.footnotes.values())
    body = tuple(_table_row(spec, row, tuple(cells)) for row, *cells in zip(rows, *by_column, strict=True))
    if spec.group is not None:
        groups = list(dict.fromkeys(row.group for row in body))
        body = tuple(sorted(body, key=lambda row: groups.index(row.group)))
    notes = (
        *latency_notes(spec, timed),
        *image_notes(spec, baseline_name(spec, ablation), columns, rows, by_image),
        *notes_of(spec, ablation, columns, rows, body, family, marks),
    )
    label = "" if spec.group is None else spec.names.get(spec.group, short(spec.group))
    title = spec.title or ablation.name
    return Table("table", title, "Variant", tuple(columns), body, notes, label, footnotes)


def table_column(key: str, spec: ReportSpec, ablation: Ablation) -> TableColumn:
    """Return the column of a key, with its label and unit."""
    metrics = spec.task.metrics
    if key in metrics:
        return TableColumn(key, metrics[key].header, "metric", key, metrics[key].unit)
    name = key.removeprefix(DELTA)
    if is_metric_delta(key):
        label = f"Δ {metrics[name].label} vs {baseline_name(spec, ablation)}"
        return TableColumn(key, label, "delta", name, metrics[name].unit)
    if name in COSTS:
        unit = f" ({COSTS[name].unit})" if COSTS[name].unit else ""
        return TableColumn(
            key, f"{'Δ ' if key in COST_DELTAS else ''}{COSTS[name].label}{unit}", "cost", name
        )
    compared, label = spec.compared_metric, spec.compared_metric.label
    kinds: Mapping[str, tuple[str, ColumnKind]] = {
        "delta": (f"Δ {label} vs {baseline_name(spec, ablation)}", "delta"),
        "metric_images": (replace(compared, name=f"{compared.name} over seeds and images").header, "images"),
        "delta_images": (
            f"Δ {label} vs {baseline_name(spec, ablation)} over seeds and images",
            "images_delta",
        ),
        "intention": (replace(compared, name=f"{compared.name}, diverged at chance").header, "intention"),
        "p": ("p", "p"),
        "wilcoxon": ("Wilcoxon p", "p"),
        "equivalence": ("Equivalence p", "p"),
        "pairing": ("Pairing", "pairing"),
        "effect": ("g", "effect"),
        "detectable": ("Detectable", "detectable"),
        "latency": ("Latency (ms)", "latency"),
        "latency_ratio": (f"Latency / {baseline_name(spec, ablation)}", "latency"),
        "n": ("n", "count"),
    }
    return TableColumn(key, *kinds[key], spec.metric, spec.compared_metric.unit)


def _check(spec: ReportSpec, ablation: Ablation, rows: Sequence[Row]) -> None:
    comparisons = [column for column in spec.columns if needs_baseline(column)]
    if comparisons and ablation.baseline is None:
        rule = f"the column {comparisons[0]!r} needs a baseline; the ablation {ablation.name} names none"
        raise spec.error_at(rule, "columns", spec.columns.index(comparisons[0]))
    cells = [*ablation.cells, *(left.cell for left in ablation.skipped)]
    known = list(dict.fromkeys([*(row.name for row in rows), *(cell.row for cell in cells)]))
    groups = [spec.group, *(group_of(spec, row) for row in ordered(spec, rows))] if spec.group else []
    check_names(spec, known, [*groups, *names_within(cells)])
    if spec.kind == "leave_one_out" and ablation.baseline is None:
        raise spec.error_at("leave_one_out needs a baseline: the row with every part on", "kind")


def ordered(spec: ReportSpec, rows: Sequence[Row]) -> list[Row]:
    """Return the rows that the report names, or all rows in the report's order.

    The order by metric is that of the means over the seeds that all rows have, if there are any.
    """
    if spec.rows:
        by_name = {row.name: row for row in rows}
        return [by_name[name] for name in spec.rows if name in by_name]
    if spec.order == "file":
        return list(rows)
    sign = spec.compared_metric.sign
    means = comparable_means({row.name: row.by_seed(spec.metric) for row in rows})
    return sorted(rows, key=lambda row: (row.name not in means, -sign * means.get(row.name, 0.0)))


def _table_row(spec: ReportSpec, row: Row, cells: tuple[TableCell, ...]) -> TableRow:
    group = group_of(spec, row)
    notes = tuple(number for number, key in enumerate(spec.footnotes, start=1) if key == row.name)
    return TableRow(
        row.name,
        display_name(spec, row.cells[0].cell),
        cells,
        spec.names.get(group, group),
        notes,
        row.is_baseline,
        len(row.cells),
        len(row.records),
        tuple(row.stale),
        tuple(row.run_ids),
    )


def _check_columns(spec: ReportSpec, rows: Sequence[Row]) -> list[TableColumn]:
    """Return a column for each part that some row leaves out.

    Raises:
        SpecError: If `parts` names a row that does not exist.
    """
    names = [row.name for row in rows]
    for part, off in spec.parts.items():
        for name in off:
            if name not in names:
                raise spec.error_at(unknown_name("row", name, names), "parts", part)
    if spec.parts:
        return [TableColumn(part, part, "check") for part in spec.parts]
    return [TableColumn(row.name, _part(row.name), "check") for row in rows if not row.is_baseline]


def _part(name: str) -> str:
    for word in ("no ", "without ", "w/o ", "- "):
        if name.startswith(word):
            return name.removeprefix(word)
    return name


def _check_cell(spec: ReportSpec, row: Row, column: TableColumn) -> TableCell:
    is_on = row.name not in spec.parts.get(column.key, (column.key,))
    return TableCell("✓" if is_on else "–", value=int(is_on))


@dataclass(frozen=True)
class Report:
    """All tables of one report; a terminal shows the first one first."""

    name: str
    tables: tuple[Table, ...]
    missing: tuple[str, ...] = ()


def build_report(spec: ReportSpec, store: RunStore) -> Report:
    """Build the tables of a report from the records of a store.

    Raises:
        SpecError: If the report names a key that its ablations lack.
    """
    if spec.kind == "claims":
        tables, rows = claims_tables(spec, store)
        return Report(spec.name, tables, missing_runs(spec, [item for row in rows for item in row.cells]))
    if spec.kind == "datasets" and not spec.ablation:
        return _several_ablations(spec, store)
    ablation = with_baseline(spec, load_ablation(spec.ablation, spec.set))
    spec = with_task(spec, [ablation])
    ablation = _with_decided_seeds(spec, ablation, store)
    _check_only(spec, [ablation])
    every = measure(ablation, store)
    measured = chosen(spec, every)
    missing = missing_runs(spec, measured)
    if spec.kind == "grid":
        return Report(spec.name, grid_tables(spec, ablation, measured, rows_of(ablation, every)), missing)
    if spec.kind == "datasets":
        table = datasets_table(spec, by_data_set(spec, ablation, measured, every))
    elif spec.kind == "classes":
        analyses = Analyses(store, spec.task)
        table = classes_table(spec, ablation, rows_of(ablation, measured), analyses, rows_of(ablation, every))
    elif spec.kind == "images":
        by_image = ImageResults(Analyses(store, spec.task), spec.metric)
        table = images_table(spec, ablation, rows_of(ablation, measured), by_image, rows_of(ablation, every))
    else:
        rows = rows_of(ablation, measured)
        timed = _latencies(spec, ablation, rows, store)
        results = ImageResults(Analyses(store, spec.task), spec.metric) if spec.by_image else None
        table = build_table(spec, ablation, rows, timed, rows_of(ablation, every), results)
    return Report(spec.name, (table,), missing)


def _latencies(
    spec: ReportSpec, ablation: Ablation, rows: Sequence[Row], store: RunStore
) -> CachedCosts | None:
    """Return the rows' cached latencies if the report has a latency column."""
    return latencies(ablation, rows, store) if any(column in LATENCIES for column in spec.columns) else None


def latencies(ablation: Ablation, rows: Sequence[Row], store: RunStore) -> CachedCosts | None:
    """Return the rows' cached latencies; None if no row was timed.

    Each row was timed in turn with its baseline. The baseline's latency is the median of those times; it has
    no ratio.
    """
    firsts = {row.name: row.cells[0].cell for row in rows if not row.is_baseline}
    pairs = {
        name: (cell.spec, base.spec) for name, cell in firsts.items() if (base := ablation.baseline_of(cell))
    }
    kept = cached_latencies(store.root, pairs)
    if kept is None:
        return None
    times_by_model: dict[str, list[float]] = {}
    for name, times in kept.measured.items():
        times_by_model.setdefault(pairs[name][1].model_key, []).append(times["baseline_ms"])
    keys = {row.name: row.cells[0].cell.spec.model_key for row in rows if row.is_baseline}
    of_baselines = {
        name: {"ms": median(times_by_model[key])} for name, key in keys.items() if key in times_by_model
    }
    return replace(kept, measured={**kept.measured, **of_baselines})


def report_ablations(spec: ReportSpec, store: RunStore) -> list[Ablation]:
    """Return the ablations whose runs a report shows, each once."""
    names = list(spec.ablations.values()) or [spec.ablation]
    if spec.kind == "claims":
        published = published_tables(spec)
        linked = ((row.ablation or table.ablation) for _, table, _, row in published.rows() if row.variant)
        names = [name for name in linked if name]
    ablations = [load_ablation(name, spec.set) for name in dict.fromkeys(names)]
    return [_with_decided_seeds(spec, ablation, store) for ablation in ablations]


def _with_decided_seeds(spec: ReportSpec, ablation: Ablation, store: RunStore) -> Ablation:
    """Return the ablation with the stored seeds that `run --until-decided` added, if the report has them."""
    if not spec.is_decided:
        return ablation
    planned = spec.planned_seeds
    if planned is not None and planned < ablation.num_seeds:
        has = f"the ablation {ablation.name} has {number_of(ablation.num_seeds, 'seed')} in its file"
        raise spec.error_at(f"{has}, more than the {planned} planned", "seeds", "decided")
    return ablation.with_stored_seeds(store.folder_names(), planned)


def _several_ablations(spec: ReportSpec, store: RunStore) -> Report:
    data = []
    all_measured: list[Measured] = []
    ablations = {name: load_ablation(source, spec.set) for name, source in spec.ablations.items()}
    spec = with_task(spec, ablations.values())
    _check_only(spec, list(ablations.values()))
    for name, source_ablation in ablations.items():
        ablation = with_baseline(spec, source_ablation)
        every = measure(ablation, store)
        measured = chosen(spec, every)
        all_measured += measured
        rows = {row.name: row for row in rows_of(ablation, measured)}
        data.append(DataSet(name, ablation, rows, tuple(rows_of(ablation, every))))
    return Report(spec.name, (datasets_table(spec, data),), missing_runs(spec, all_measured))


def missing_runs(spec: ReportSpec, measured: Sequence[Measured]) -> tuple[str, ...]:
    """Return the missing runs of a report, each once, including those of baselines."""
    run_ids = [item.cell.run_id for item in measured if item.record is None]
    if spec.compares:
        run_ids += [item.baseline_id for item in measured if item.baseline is None and item.baseline_id]
    return tuple(dict.fromkeys(run_ids))
