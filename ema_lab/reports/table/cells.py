"""From the runs of a row to the cells of a table: numbers first, their text beside them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ema_lab.results.selection import Measured, Row, unclean_rows
from ema_lab.specs.metric import COSTS
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import (
    BOOTSTRAP_SEEDS,
    PairedDifference,
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
from ema_lab.statistics.paired import SIGNIFICANCE
from ema_lab.statistics.power import detectable_difference
from ema_lab.tables.table import Flag, Mark, SpreadKind, TableCell, TableColumn
from ema_lab.tables.text import difference_text, p_text


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
        count=_count(spec, summary.count, len(row.cells), without_interval=kind is None),
        value=summary.mean,
        spread=half,
        spread_kind=kind,
        low=low,
        high=high,
    )


def spread_of(
    summary: Summary, values: Sequence[float], spec: ReportSpec
) -> tuple[float | None, float | None, float | None, SpreadKind | None]:
    """Return what follows ±, the interval's bounds, and their kind; nothing below two seeds.

    Equal values have a standard deviation, zero, but no interval; nor have means over seeds that were added
    until something was decided, which a t interval would cover too seldom.
    """
    if summary.count < 2:
        return None, None, None, None
    low, high = summary.interval if summary.has_spread and spec.seeds == "file" else (None, None)
    if spec.spread in {"std", "se"}:
        return summary.std if spec.spread == "std" else summary.standard_error, low, high, spec.spread
    if not summary.has_spread:
        return None, None, None, None
    if spec.spread == "bootstrap" and summary.count >= BOOTSTRAP_SEEDS:
        low, high = bootstrap_interval(values)
        return (high - low) / 2, low, high, "bootstrap"
    return summary.half_width, low, high, "interval"


def delta_cell(spec: ReportSpec, row: Row, metric: str) -> TableCell:
    """Return `+0.28 [-0.54, +1.10]`; a single pair has no interval, missing pairs are named."""
    if row.is_baseline:
        return TableCell("baseline", expected=len(row.cells))
    found = row.pairs(metric)
    cell = compared_cell(row, found)
    if not found:
        return cell
    difference = paired_difference([value for _, value in found])
    count = _missing(difference.count, len(row.cells), without_interval=not difference.has_interval)
    return replace(cell, **difference_numbers(difference, spec.digits), count=count)


def difference_numbers(
    difference: PairedDifference, digits: int, kind: SpreadKind = "paired_interval"
) -> dict[str, Any]:
    """Return what a cell shows of a difference: its text and numbers; no bounds where there are none."""
    bounded = difference.has_interval
    return {
        "text": difference_text(difference, digits),
        "value": difference.mean,
        "spread": (difference.high - difference.low) / 2 if bounded else None,
        "spread_kind": kind if bounded else None,
        "low": difference.low if bounded else None,
        "high": difference.high if bounded else None,
    }


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
    """Return the p-values of Wilcoxon tests, Holm-corrected, or why a row has too few pairs for one.

    How many pairs a table needs before any can reach 0.05 is said in its caption.
    """
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
        few = "needs three pairs" if len(found) < 3 else "all differences are equal"
        return replace(cell, text="untested", count=few)
    return replace(cell, text=f"{effect:+.{spec.digits}f}", value=effect)


def detectable_cells(spec: ReportSpec, rows: Sequence[Row], metric: str) -> list[TableCell]:
    """Return the smallest difference that each row's pairs can show, given their spread.

    Like the p-values beside it, it is meant for all rows at once: at the level of Holm's first step.
    """
    level = SIGNIFICANCE / max(1, sum(not row.is_baseline for row in rows))
    return [_detectable_cell(spec, row, metric, level) for row in rows]


def _detectable_cell(spec: ReportSpec, row: Row, metric: str, level: float) -> TableCell:
    if row.is_baseline:
        return TableCell("baseline", expected=len(row.cells))
    found = row.pairs(metric)
    cell = compared_cell(row, found)
    if not found:
        return cell
    summary = summarise([value for _, value in found])
    if not summary.has_spread:
        few = "needs two pairs" if summary.count < 2 else "all differences are equal"
        return replace(cell, text="untested", count=few)
    smallest = detectable_difference(summary.count, summary.std, significance=level)
    return replace(cell, text=f"{smallest:.{spec.digits}f}", value=smallest)


def count_cell(spec: ReportSpec, row: Row, _metric: str) -> TableCell:
    """Return the number of finished runs, and of those asked for where some are missing."""
    found = [(item, 1.0) for item in row.cells if item.record is not None]
    text = f"{len(found)}" + (f" of {len(row.cells)}" if len(found) < len(row.cells) else "")
    return replace(_cell(row, found), text=text, value=len(found), values=())


def cost_cell(spec: ReportSpec, row: Row, key: str) -> TableCell:
    """Return a cost of the row's model, in the unit of the column's header."""
    found = [(item, item.record.cost[key]) for item in row.cells if item.record and key in item.record.cost]
    return _one_cost(_cell(row, found), key)


def _one_cost(cell: TableCell, key: str, sign: str = "") -> TableCell:
    """Return the cell of a cost that no seed changes; where runs differ in it, their range and no value."""
    if not cell.values:
        return cell
    form, low, high = COSTS[key], min(cell.values), max(cell.values)
    low_text, high_text = (f"{cost / form.scale:{sign},.{form.digits}f}" for cost in (low, high))
    cell = replace(cell, flags=cell.flags & {Flag.STALE})
    if low == high:
        return replace(cell, text=low_text, value=low)
    return replace(cell, text=f"{low_text} to {high_text}", count="runs differ", low=low, high=high)


def cost_delta_cell(spec: ReportSpec, row: Row, key: str) -> TableCell:
    """Return what a row's model costs more than its baseline's; of no seed, so without an interval."""
    if row.is_baseline:
        return TableCell("baseline", expected=len(row.cells))
    found = [
        (item, item.record.cost[key] - item.baseline.cost[key])
        for item in row.cells
        if item.record and item.baseline and key in item.record.cost and key in item.baseline.cost
    ]
    return _one_cost(compared_cell(row, found), key, "+")


def latency_cell(spec: ReportSpec, row: Row, key: str) -> TableCell:
    """Return milliseconds per batch, or their ratio to the baseline's with its interval."""
    if row.is_baseline and key == "latency_ratio":
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
    """Return the like for a comparison with the baseline: both sides count, and both may be missing."""
    cell = _cell(row, found)
    paired = {item.cell.run_id for item, _ in found}
    lacking = [item for item in row.cells if item.cell.run_id not in paired]
    missing = [item.cell.run_id for item in lacking if item.record is None]
    missing += [item.baseline_id for item in lacking if item.baseline is None and item.baseline_id]
    flags = set(cell.flags)
    if found and any(item.stale_baseline for item in row.cells):
        flags.add(Flag.STALE)
    if found and not all(item.clean_pair for item in row.cells):
        flags.add(Flag.UNCLEAN)
    return replace(
        cell,
        baseline_run_ids=tuple(item.baseline_id for item, _ in found if item.baseline_id),
        missing_run_ids=tuple(dict.fromkeys(missing)),
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


def _count(spec: ReportSpec, count: int, expected: int, *, without_interval: bool) -> str:
    said = _missing(count, expected, without_interval=without_interval)
    return said or (f"n={count}" if spec.counts == "cells" else "")


def _missing(count: int, expected: int, *, without_interval: bool) -> str:
    """Say n where seeds are missing or where there is no interval, and why there is none."""
    if count == expected and not without_interval:
        return ""
    words = f"n={count}" + (f" of {expected}" if count < expected else "")
    return f"{words}, all equal" if without_interval and count > 1 else words


TESTED = {Mark.BEST, Mark.SECOND, Mark.TIE}


def ranked(
    spec: ReportSpec,
    cells: Sequence[TableCell],
    rows: Sequence[Row],
    metric: str,
    groups: Sequence[str] = (),
) -> list[TableCell]:
    """Return the cells of one column with marks of rank, within each group; none where no row is told apart.

    A mark that rests on pairs that are not clean is flagged: those of all rows, and of ties those with ties.
    """
    ranks = rank_rows([row.by_seed(metric) for row in rows], spec.task.metrics[metric].sign, groups)
    marks = [Mark(rank) if rank else None for rank in ranks]
    groups = groups or [""] * len(rows)
    there = [place for place, row in enumerate(rows) if row.having(metric)]
    others = len(there) - len({groups[place] for place in there})  # all but the best mean of each group
    if {marks[place] for place in there} == {Mark.TIE} or marks.count(Mark.UNTESTED) == others:
        return list(cells)  # a note says so once, in the place of a sign in every cell
    ties = [place for place, mark in enumerate(marks) if mark is Mark.TIE]
    unclean = unclean_rows(rows, groups)
    among_ties = unclean_rows([rows[place] for place in ties], [groups[place] for place in ties])
    for place, flagged in zip(ties, among_ties, strict=True):
        unclean[place] = flagged
    return [
        replace(cell, mark=mark, flags=cell.flags | ({Flag.UNCLEAN} if flagged and mark in TESTED else set()))
        for cell, mark, flagged in zip(cells, marks, unclean, strict=True)
    ]


CELLS: Mapping[str, Callable[[ReportSpec, Row, str], TableCell]] = {
    "metric": metric_cell,
    "delta": delta_cell,
    "effect": effect_cell,
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
    if column.kind == "detectable":
        return detectable_cells(spec, rows, metric)
    if column.kind == "p":
        build = wilcoxon_cells if column.key == "wilcoxon" else p_cells
        return build(spec, rows, metric)
    cells = [CELLS[column.kind](spec, row, metric) for row in rows]
    if spec.seeds == "decided":
        return cells  # a rank would need a number of seeds that is fixed beforehand
    return ranked(spec, cells, rows, metric, groups) if column.kind == "metric" and spec.rank else cells
