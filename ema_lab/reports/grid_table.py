"""A metric over two factors, and the effects of both."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ema_lab.errors import SpecError
from ema_lab.experiments.ablation import Ablation
from ema_lab.reports.cells import delta_cell, difference_numbers, metric_cell
from ema_lab.reports.naming import baseline_name, check_names, factor_value, short
from ema_lab.reports.notes import comparison_notes, flag_notes, number_notes, rank_notes, run_notes
from ema_lab.reports.selection import Measured, Row
from ema_lab.reports.statistics import holm, rank_rows
from ema_lab.reports.statistics.factorial import Effect, effects
from ema_lab.reports.table import ColumnKind, Flag, Mark, Table, TableCell, TableColumn, TableRow
from ema_lab.reports.text import p_text
from ema_lab.specs.metric import METRICS
from ema_lab.specs.report import ReportSpec

Key = tuple[str, ...]


def grid_tables(spec: ReportSpec, ablation: Ablation, measured: Sequence[Measured]) -> tuple[Table, ...]:
    """Return the table of a metric over two factors, and, where the product is full, that of effects.

    Raises:
        SpecError: If a cell has no such factor, or several rows share one place.
    """
    places = _places(spec, ablation, measured)
    grid = _grid(spec, ablation, places)
    try:
        found = effects({key: row.by_seed(spec.metric) for key, row in places.items()}, spec.factors)
    except ValueError as error:
        notes = (*grid.notes, f"No effects are estimated: {error}.")
        return (replace(grid, notes=notes),)
    return grid, effects_table(spec, spec.title or ablation.name, found, places)


def _places(spec: ReportSpec, ablation: Ablation, measured: Sequence[Measured]) -> dict[Key, Row]:
    found: dict[Key, list[Measured]] = {}
    for item in measured:
        key = tuple(factor_value(spec, item.cell, factor) for factor in spec.factors)
        found.setdefault(key, []).append(item)
    for key, items in found.items():
        names = list(dict.fromkeys(item.cell.row for item in items))
        if len(names) > 1:
            where = " x ".join(key)
            words = f"the place {where} has the rows {', '.join(names)}; choose one by `only`"
            raise SpecError(f"report {spec.name}: factors: {words}")
    return {
        key: Row(items[0].cell.row, items[0].cell.variant == ablation.baseline, tuple(items))
        for key, items in found.items()
    }


def _grid(spec: ReportSpec, ablation: Ablation, places: Mapping[Key, Row]) -> Table:
    down, across = (list(dict.fromkeys(key[place] for key in places)) for place in range(2))
    check_names(spec, down, [*across, *spec.factors])
    build = delta_cell if spec.cells == "delta" else metric_cell
    cells = {key: build(spec, row, spec.metric) for key, row in places.items()}
    if spec.rank and spec.cells == "value":
        ranks = rank_rows([row.by_seed(spec.metric) for row in places.values()], METRICS[spec.metric].sign)
        if {rank for rank in ranks if rank} != {"tie"} or None in ranks:
            marks = zip(places, ranks, strict=True)
            cells |= {key: replace(cells[key], mark=Mark(rank)) for key, rank in marks if rank}
    if spec.rows:
        down = list(spec.rows)
    rows = [row for key, row in places.items() if key[0] in down]
    columns = tuple(_column(spec, value) for value in across)
    body = tuple(_table_row(spec, places, cells, value, across) for value in down)
    shown = [cell for row in body for cell in row.cells]
    notes = (
        *number_notes(spec, columns, shown),
        *(comparison_notes(spec, baseline_name(spec, ablation), ["delta"]) if spec.cells == "delta" else ()),
        *(rank_notes(spec, METRICS[spec.metric].label, columns, shown) if spec.cells == "value" else ()),
        *flag_notes(shown),
        *run_notes([ablation], rows),
    )
    first, second = (spec.names.get(factor, short(factor)) for factor in spec.factors)
    title = f"{spec.title or ablation.name}: {_label(spec)} by {first} and {second}"
    return Table(
        "table", title, f"{first} \\ {second}", columns, body, notes, "", tuple(spec.footnotes.values())
    )


def _label(spec: ReportSpec) -> str:
    metric = METRICS[spec.metric]
    return f"{'Δ ' if spec.cells == 'delta' else ''}{metric.label} ({metric.unit})"


def _column(spec: ReportSpec, value: str) -> TableColumn:
    kind: ColumnKind = "delta" if spec.cells == "delta" else "metric"
    return TableColumn(f"{short(spec.factors[1])}={value}", spec.names.get(value, value), kind, spec.metric)


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


def effects_table(spec: ReportSpec, title: str, found: Sequence[Effect], places: Mapping[Key, Row]) -> Table:
    """Return main effects and interactions with their intervals and corrected p-values, a row each."""
    metric = METRICS[spec.metric]
    run_ids = tuple(item.cell.run_id for row in places.values() for item, _ in row.having(spec.metric))
    corrected = holm([effect.test.p for effect in found])
    stale = any(row.stale for row in places.values())
    columns = (
        TableColumn("effect", f"Effect on {metric.label}", "delta", spec.metric),
        TableColumn("p", "p", "p", spec.metric),
    )
    rows = tuple(
        TableRow(
            _effect_name(effect), _effect_name(effect), _effect_cells(spec, effect, p, run_ids, stale=stale)
        )
        for effect, p in zip(found, corrected, strict=True)
    )
    notes = (
        "Effect: a level against the first one of its factor, averaged over the other factor within each "
        "seed; mean over seeds with its 95 % t interval. An interaction is a difference of such differences.",
        "p: paired t test of no effect, Holm-corrected over these rows.",
        *(("‡: stale runs are part of these numbers.",) if stale else ()),
    )
    return Table("effects", f"{title}: effects", "Effect", columns, rows, notes)


def _effect_name(effect: Effect) -> str:
    parts = [
        f"{short(factor)} {level} vs {reference}"
        for factor, level, reference in zip(effect.factors, effect.levels, effect.references, strict=True)
    ]
    return " × ".join(parts)


def _effect_cells(
    spec: ReportSpec, effect: Effect, p: float, run_ids: tuple[str, ...], *, stale: bool
) -> tuple[TableCell, TableCell]:
    difference = effect.difference
    flags = {Flag.STALE: stale, Flag.SINGLE_SEED: difference.count == 1}
    common = TableCell(
        n=difference.count,
        expected=difference.count,
        run_ids=run_ids,
        flags=frozenset(flag for flag, applies in flags.items() if applies),
    )
    first = replace(
        common,
        **difference_numbers(difference, spec.digits),
        count=f"n={difference.count}",
        values=effect.differences,
    )
    if p != p:
        return first, replace(common, text="untested", count=effect.test.why)
    return first, replace(common, text=p_text(p), value=p, p=p)
