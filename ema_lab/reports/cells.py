"""From the runs of a row to the cells of a table: numbers first, their text beside them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ema_lab.reports.selection import Measured, Row
from ema_lab.reports.statistics import (
    BOOTSTRAP_SEEDS,
    Summary,
    bootstrap_interval,
    effect_size,
    holm,
    paired_difference,
    paired_test,
    rank_rows,
    summarise,
    wilcoxon_test,
)
from ema_lab.reports.statistics.power import detectable_difference
from ema_lab.reports.table import Flag, Mark, SpreadKind, TableCell, TableColumn
from ema_lab.reports.text import difference_text, p_text
from ema_lab.specs.metric import COSTS, METRICS
from ema_lab.specs.report import ReportSpec


def metric_cell(spec: ReportSpec, row: Row, metric: str) -> TableCell:
    """Return `98.15 ± 0.49 (n=3)`; a single seed has no ±, missing seeds are named."""
    found = row.having(metric)
    cell = _cell(row, found)
    if not found:
        return cell
    values = [value for _, value in found]
    summary = summarise(values)
    half, low, high, kind = spread_of(summary, values, spec)
    text = f"{summary.mean:.{spec.digits}f}"
    if kind == "bootstrap" and low is not None and high is not None:
        text += f" [{low:.{spec.digits}f}, {high:.{spec.digits}f}]"
    elif half is not None:
        text += f" ± {half:.{spec.digits}f}"
    return replace(
        cell,
        text=text,
        count=_count(spec, summary.count, len(row.cells)),
        value=summary.mean,
        spread=half,
        spread_kind=kind,
        low=low,
        high=high,
    )


def spread_of(
    summary: Summary, values: Sequence[float], spec: ReportSpec
) -> tuple[float | None, float | None, float | None, SpreadKind | None]:
    """Return what follows ±, the interval's bounds, and their kind; nothing below two seeds."""
    if summary.count < 2:
        return None, None, None, None
    low, high = summary.interval
    if spec.spread == "bootstrap" and summary.count >= BOOTSTRAP_SEEDS:
        low, high = bootstrap_interval(values)
        return (high - low) / 2, low, high, "bootstrap"
    if spec.spread in {"interval", "bootstrap"}:
        return summary.half_width, low, high, "interval"
    half = summary.std if spec.spread == "std" else summary.standard_error
    return half, low, high, spec.spread


def delta_cell(spec: ReportSpec, row: Row, metric: str) -> TableCell:
    """Return `+0.28 [-0.54, +1.10]`; a single pair has no interval, missing pairs are named."""
    if row.is_baseline:
        return TableCell("baseline", expected=len(row.cells))
    found = row.pairs(metric)
    cell = compared_cell(row, found)
    if not found:
        return cell
    difference = paired_difference([value for _, value in found])
    single = math.isnan(difference.low)
    return replace(
        cell,
        text=difference_text(difference, spec.digits),
        count=_missing(difference.count, len(row.cells), always=single),
        value=difference.mean,
        spread=None if single else (difference.high - difference.low) / 2,
        spread_kind=None if single else "paired_interval",
        low=None if single else difference.low,
        high=None if single else difference.high,
    )


def p_cells(spec: ReportSpec, rows: Sequence[Row], metric: str) -> list[TableCell]:
    """Return the p-values of paired t tests against the baseline, Holm-corrected over these rows."""
    compared = [row for row in rows if not row.is_baseline]
    tests = {row.name: paired_test(row.differences(metric)) for row in compared}
    corrected = holm([test.p for test in tests.values()])
    p_values = dict(zip(tests, corrected, strict=True))
    return [
        TableCell("baseline", expected=len(row.cells))
        if row.is_baseline
        else _p_cell(row, metric, p_values[row.name], tests[row.name].why)
        for row in rows
    ]


def wilcoxon_cells(spec: ReportSpec, rows: Sequence[Row], metric: str) -> list[TableCell]:
    """Return the p-values of Wilcoxon tests, Holm-corrected, or why a row has too few pairs for one."""
    compared = [row for row in rows if not row.is_baseline]
    tests = {row.name: wilcoxon_test(row.differences(metric)) for row in compared}
    corrected = holm([math.nan if test.p is None else test.p for test in tests.values()])
    p_values = dict(zip(tests, corrected, strict=True))
    return [
        TableCell("baseline", expected=len(row.cells))
        if row.is_baseline
        else _p_cell(row, metric, p_values[row.name], f"n={tests[row.name].count}: cannot reach 0.05")
        for row in rows
    ]


def _p_cell(row: Row, metric: str, p: float, why: str) -> TableCell:
    found = row.pairs(metric)
    cell = compared_cell(row, found)
    if not found:
        return cell
    if math.isnan(p):
        return replace(cell, text="untested", count=why)
    return replace(cell, text=p_text(p), value=p, p=p)


def effect_cell(spec: ReportSpec, row: Row, metric: str) -> TableCell:
    """Return Hedges' g of the paired differences; a dash where it is not defined."""
    if row.is_baseline:
        return TableCell("baseline", expected=len(row.cells))
    found = row.pairs(metric)
    cell = compared_cell(row, found)
    if not found:
        return cell
    effect = effect_size([value for _, value in found])
    if math.isnan(effect):
        return replace(cell, text="untested", count="needs three differing pairs")
    return replace(cell, text=f"{effect:+.{spec.digits}f}", value=effect)


def detectable_cell(spec: ReportSpec, row: Row, metric: str) -> TableCell:
    """Return the smallest difference that the row's pairs can show, given their spread."""
    if row.is_baseline:
        return TableCell("baseline", expected=len(row.cells))
    found = row.pairs(metric)
    cell = compared_cell(row, found)
    if not found:
        return cell
    summary = summarise([value for _, value in found])
    if not summary.std > 0:
        return replace(cell, text="untested", count="needs two differing pairs")
    smallest = detectable_difference(summary.count, summary.std)
    return replace(cell, text=f"{smallest:.{spec.digits}f}", value=smallest)


def count_cell(spec: ReportSpec, row: Row, _metric: str) -> TableCell:
    """Return the number of finished runs, and of those asked for where some are missing."""
    found = [(item, 1.0) for item in row.cells if item.record is not None]
    text = f"{len(found)}" + (f" of {len(row.cells)}" if len(found) < len(row.cells) else "")
    return replace(_cell(row, found), text=text, value=len(found), values=())


def cost_cell(spec: ReportSpec, row: Row, key: str) -> TableCell:
    """Return a cost of the row's model, in the unit of the column's header."""
    source = next((item for item in row.cells if item.record and key in item.record.cost), None)
    cost = row.cost(key)
    if source is None or cost is None:
        return _cell(row, [])
    form = COSTS[key]
    cell = _cell(row, [(source, float(cost))])
    text = f"{cost / form.scale:,.{form.digits}f}"
    return replace(cell, text=text, value=cost, flags=cell.flags & {Flag.STALE})


def cost_delta_cell(spec: ReportSpec, row: Row, key: str) -> TableCell:
    """Return what a row's model costs more than its baseline's; of no seed, so without an interval."""
    if row.is_baseline:
        return TableCell("baseline", expected=len(row.cells))
    pairs = ((item, item.record, item.baseline) for item in row.cells)
    for item, mine, other in pairs:
        if mine and other and key in mine.cost and key in other.cost:
            more = mine.cost[key] - other.cost[key]
            form = COSTS[key]
            cell = compared_cell(row, [(item, float(more))])
            text = f"{more / form.scale:+,.{form.digits}f}"
            return replace(cell, text=text, value=more, flags=cell.flags & {Flag.STALE})
    return compared_cell(row, [])


def latency_cell(spec: ReportSpec, row: Row, key: str) -> TableCell:
    """Return milliseconds per batch, or their ratio to the baseline's with its interval."""
    if row.is_baseline:
        return TableCell("baseline", expected=len(row.cells))
    found = row.latency
    if found is None:
        return TableCell(flags=frozenset({Flag.HOLE}))
    if key == "latency":
        return TableCell(f"{found['ms']:.{spec.digits}f}", value=found["ms"])
    ratio, low, high = (found[name] for name in ("ratio", "ratio_low", "ratio_high"))
    return TableCell(f"{ratio:.2f} [{low:.2f}, {high:.2f}]", value=ratio, low=low, high=high)


def _cell(row: Row, found: Sequence[tuple[Measured, float]]) -> TableCell:
    """Return a cell without text that knows its runs, its n and what is to be said of them."""
    there = [item.cell.run_id for item, _ in found]
    flags = _flags(row, len(found))
    if found and any(item.stale for item in row.cells):
        flags |= {Flag.STALE}
    return TableCell(
        n=len(found),
        expected=len(row.cells),
        values=tuple(value for _, value in found),
        run_ids=tuple(there),
        missing_run_ids=tuple(run_id for run_id in dict.fromkeys(row.run_ids) if run_id not in there),
        flags=frozenset(flags),
    )


def compared_cell(row: Row, found: Sequence[tuple[Measured, float]]) -> TableCell:
    """Return the like for a comparison with the baseline: both sides count."""
    cell = _cell(row, found)
    flags = set(cell.flags)
    if found and any(item.stale_baseline for item in row.cells):
        flags.add(Flag.STALE)
    if found and not all(item.clean_pair for item in row.cells):
        flags.add(Flag.UNCLEAN)
    return replace(
        cell,
        baseline_run_ids=tuple(item.baseline_id for item, _ in found if item.baseline_id),
        flags=frozenset(flags),
    )


def _flags(row: Row, count: int) -> set[Flag]:
    flags: Mapping[Flag, bool] = {
        Flag.HOLE: count == 0,
        Flag.MISSING: 0 < count < len(row.cells),
        Flag.SINGLE_SEED: count == 1,
        Flag.PRUNED: any(item.pruned for item in row.cells),
    }
    return {flag for flag, applies in flags.items() if applies}


def _count(spec: ReportSpec, count: int, expected: int) -> str:
    return _missing(count, expected, always=spec.counts == "cells" or count == 1)


def _missing(count: int, expected: int, *, always: bool) -> str:
    if count < expected:
        return f"n={count} of {expected}"
    return f"n={count}" if always else ""


def ranked(
    cells: Sequence[TableCell], rows: Sequence[Row], metric: str, groups: Sequence[str] = ()
) -> list[TableCell]:
    """Return the cells of one column with marks of rank, within each group; none where all rows tie."""
    groups = groups or [""] * len(rows)
    marks: list[Mark | None] = [None] * len(rows)
    for group in dict.fromkeys(groups):
        places = [place for place, one in enumerate(groups) if one == group]
        ranks = rank_rows([rows[place].by_seed(metric) for place in places], METRICS[metric].sign)
        for place, rank in zip(places, ranks, strict=True):
            marks[place] = Mark(rank) if rank else None
    if {mark for mark, row in zip(marks, rows, strict=True) if row.having(metric)} == {Mark.TIE}:
        return list(cells)  # a note says so once, in the place of a sign in every cell
    return [replace(cell, mark=mark) for cell, mark in zip(cells, marks, strict=True)]


CELLS: Mapping[str, Callable[[ReportSpec, Row, str], TableCell]] = {
    "metric": metric_cell,
    "delta": delta_cell,
    "effect": effect_cell,
    "detectable": detectable_cell,
    "count": count_cell,
    "cost": cost_cell,
    "latency": latency_cell,
}


def column_cells(
    spec: ReportSpec, rows: Sequence[Row], column: TableColumn, groups: Sequence[str] = ()
) -> list[TableCell]:
    """Return the cells of one column, one a row; `groups` gathers the rows that are ranked together."""
    metric = column.key if column.kind == "latency" else column.metric or column.key
    if column.kind == "cost" and column.key != metric:
        return [cost_delta_cell(spec, row, metric) for row in rows]
    if column.kind == "p":
        build = wilcoxon_cells if column.key == "wilcoxon" else p_cells
        return build(spec, rows, metric)
    cells = [CELLS[column.kind](spec, row, metric) for row in rows]
    if spec.seeds == "decided":
        return cells  # a rank would need a number of seeds that is fixed beforehand
    return ranked(cells, rows, metric, groups) if column.kind == "metric" and spec.rank else cells
