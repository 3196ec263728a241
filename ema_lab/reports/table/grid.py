"""Table of a metric over two factors, and the effects of both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import ABSENT, format_value, value_of
from ema_lab.measured.family import Family, family_of
from ema_lab.measured.selection import Measured, Row, unclean_rows
from ema_lab.reports.naming import baseline_name, check_names, factor_value, short
from ema_lab.reports.table.cells import delta_cell, difference_numbers, metric_cell
from ema_lab.reports.table.comparison import PAIRED_T, Marks, marks_of
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
from ema_lab.statistics import holm
from ema_lab.statistics.factorial import Effect, effects
from ema_lab.tables.table import ColumnKind, Flag, Table, TableCell, TableColumn, TableRow
from ema_lab.tables.text import p_text
from ema_lab.wording import number_of

Key = tuple[str, ...]


def grid_tables(
    spec: ReportSpec, ablation: Ablation, measured: Sequence[Measured], all_rows: Sequence[Row]
) -> tuple[Table, ...]:
    """Return the table of a metric over two factors and, if the product is full, the effects.

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
        estimated = effects({key: row.by_seed(spec.metric) for key, row in places.items()}, spec.factors)
    except ValueError as error:
        notes = (*grid.notes, f"No effects are estimated: {error}.")
        return (replace(grid, notes=notes),)
    count = max(len(estimated), _num_effects(spec, all_rows))
    return grid, effects_table(spec, spec.title or ablation.name, estimated, places, count)


def _num_effects(spec: ReportSpec, all_rows: Sequence[Row]) -> int:
    """Return the number of main effects and interactions of the two factors in the whole ablation.

    A product of a x b levels has a b - 1 of them. Other factors repeat the product.
    """
    keys = [[value_of(row.cells[0].cell, factor) for factor in spec.factors] for row in all_rows]
    present = [tuple(map(format_value, key)) for key in keys if not any(value is ABSENT for value in key)]
    product = math.prod(len({key[index] for key in present}) for index in range(2))
    return len(present) - math.ceil(len(present) / product)


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


def effects_table(
    spec: ReportSpec, title: str, estimated: Sequence[Effect], places: Mapping[Key, Row], count: int
) -> Table:
    """Return main effects and interactions with intervals and corrected p-values, one per row.

    `count`: number of effects of the whole ablation, for which the p-values are corrected.
    """
    metric = spec.compared_metric
    hidden = [math.nan] * (count - len(estimated))  # planned, but not estimated here: Holm counts them
    corrected = holm([*(effect.test.p for effect in estimated), *hidden])[: len(estimated)]
    columns = (
        TableColumn("effect", f"Effect on {metric.label}", "delta", spec.metric, metric.unit),
        TableColumn("p", "p", "p", spec.metric),
    )
    rows = tuple(
        _effect_row(spec, effect, (p, count), places) for effect, p in zip(estimated, corrected, strict=True)
    )
    cells = [cell for row in rows for cell in row.cells]
    interval = " with its 95 % t interval" if has_interval(cells) else ""
    notes = (
        "Effect: a level against the first one of its factor, averaged over the other factor within each "
        f"seed; mean over seeds{interval}. An interaction is a difference of such differences.",
        f"p: paired t test of no effect, Holm-corrected {_corrected_for(len(estimated), count)}.",
        *scope_notes(cells),
        *flag_notes(cells),
        *(["‡: stale runs are part of these numbers."] if any(row.stale for row in rows) else []),
    )
    return Table("effects", f"{title}: effects", "Effect", columns, rows, notes)


def _corrected_for(shown: int, count: int) -> str:
    return (
        "over these rows"
        if shown == count
        else f"({shown} of {number_of(count, 'effect')} shown, corrected for {count})"
    )


def _effect_row(
    spec: ReportSpec, effect: Effect, corrected: tuple[float, int], places: Mapping[Key, Row]
) -> TableRow:
    """Return an effect's row with its runs: those of its levels, in the seeds that all levels have.

    `corrected`: the corrected p-value, and for how many effects it is corrected.
    """
    levels = [{level, reference} for level, reference in zip(effect.levels, effect.references, strict=True)]
    taken = [spec.factors.index(factor) for factor in effect.factors]
    rows = [
        row
        for key, row in places.items()
        if all(key[index] in among for index, among in zip(taken, levels, strict=True))
    ]
    seeds = {item.cell.seed for row in places.values() for item in row.cells}
    used = [
        replace(row, cells=tuple(item for item in row.cells if item.cell.seed in effect.seeds))
        for row in rows
    ]
    flags = {
        Flag.STALE: any(row.stale for row in used),
        Flag.UNCLEAN: any(unclean_rows(used)),
        Flag.SINGLE_SEED: len(effect.seeds) == 1,
        Flag.MISSING: len(effect.seeds) < len(seeds),
    }
    common = TableCell(
        n=len(effect.seeds),
        expected=len(seeds),
        values=effect.differences,
        run_ids=tuple(dict.fromkeys(run_id for row in used for run_id in row.run_ids)),
        missing_run_ids=tuple(item.cell.run_id for row in rows for item in row.cells if item.record is None),
        flags=frozenset(flag for flag, applies in flags.items() if applies),
    )
    return TableRow(
        _effect_name(effect, {}),
        _effect_name(effect, spec.names),
        _effect_cells(spec, effect, corrected, common),
        seeds=len(seeds),
        n=len(effect.seeds),
        stale=tuple(dict.fromkeys(part for row in used for part in row.stale)),
        run_ids=common.run_ids,
    )


def _effect_name(effect: Effect, names: Mapping[str, str]) -> str:
    parts = [
        f"{names.get(factor, short(factor))} {names.get(level, level)} vs {names.get(reference, reference)}"
        for factor, level, reference in zip(effect.factors, effect.levels, effect.references, strict=True)
    ]
    return " × ".join(parts)


def _effect_cells(
    spec: ReportSpec, effect: Effect, corrected: tuple[float, int], common: TableCell
) -> tuple[TableCell, TableCell]:
    p, family = corrected
    count = f"n={common.n}" + (f" of {common.expected}" if common.n < common.expected else "")
    first = replace(common, **difference_numbers(effect.difference, spec.digits), count=count)
    if math.isnan(p):
        return first, replace(common, text="untested", count=effect.test.why)
    second = replace(common, text=p_text(p), value=p, p=p, p_raw=effect.test.p, family=family)
    return first, replace(second, test=PAIRED_T, degrees=effect.test.count - 1)
