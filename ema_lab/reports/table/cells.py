"""Cells of a table, computed from the runs of a row: numbers with their text."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ema_lab.measured.selection import Measured, Row
from ema_lab.specs.metric import COSTS
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import (
    BOOTSTRAP_SEEDS,
    PairedDifference,
    Summary,
    bootstrap_interval,
    effect_size,
    paired_difference,
    summarise,
)
from ema_lab.statistics.pairing import pairing_ratio
from ema_lab.statistics.pooled import Contrast
from ema_lab.tables.cell import Flag, SpreadKind, TableCell
from ema_lab.tables.text import difference_text, number_text


def metric_cell(spec: ReportSpec, row: Row, metric: str) -> TableCell:
    """Return a metric's cell, such as `98.15 ± 0.49 (n=3)`; a single seed has no ±."""
    measured_values = row.finished(metric)
    cell = measured_cell(row, measured_values)
    if not measured_values:
        return cell
    values = [value for _, value in measured_values]
    summary = summarise(values)
    half, low, high, kind = spread_of(summary, values, spec)
    text = number_text(summary.mean, spec.digits)
    if kind == "bootstrap" and low is not None and high is not None:
        text += f" [{number_text(low, spec.digits)}, {number_text(high, spec.digits)}]"
    elif half is not None:
        text += f" ± {half:.{spec.digits}f}"
    return replace(
        cell,
        text=text,
        count=count_text(spec, summary.count, len(row.cells), without_interval=kind is None),
        value=summary.mean,
        spread=half,
        spread_kind=kind,
        low=low,
        high=high,
    )


def spread_of(
    summary: Summary, values: Sequence[float], spec: ReportSpec
) -> tuple[float | None, float | None, float | None, SpreadKind | None]:
    """Return the number after ±, the interval's bounds, and their kind; all None below two seeds.

    Equal values have a standard deviation, zero, but no interval. Means over seeds that were added until a
    decision have no interval either: a t interval would cover too seldom.
    """
    if summary.count < 2:
        return None, None, None, None
    low, high = summary.interval if summary.has_spread and not spec.is_decided else (None, None)
    if spec.spread in {"std", "se"}:
        return summary.std if spec.spread == "std" else summary.standard_error, low, high, spec.spread
    if not summary.has_spread:
        return None, None, None, None
    if spec.spread == "bootstrap" and summary.count >= BOOTSTRAP_SEEDS:
        low, high = bootstrap_interval(values)
        return (high - low) / 2, low, high, "bootstrap"
    return summary.half_width, low, high, "interval"


def comparison_cell(
    row: Row, metric: str, fields_of: Callable[[list[float]], Mapping[str, Any]]
) -> TableCell:
    """Return a cell that compares a row with the baseline on their common seeds.

    The baseline's own cell says `baseline`. A row without a pair is a hole.

    Args:
        row: The row.
        metric: Compared metric.
        fields_of: Returns the cell's fields, such as its text, from the paired differences.
    """
    if row.is_baseline:
        return TableCell("baseline", expected=len(row.cells))
    pairs = row.pairs(metric)
    cell = compared_cell(row, pairs)
    return replace(cell, **fields_of([value for _, value in pairs])) if pairs else cell


def delta_cell(
    spec: ReportSpec, row: Row, metric: str, comparisons: int = 1, contrast: Contrast | None = None
) -> TableCell:
    """Return a difference's cell, such as `+0.28 [-0.54, +1.10]`; a single pair has no interval.

    Args:
        spec: The report.
        row: The row.
        metric: Compared metric.
        comparisons: Number of differences whose intervals hold together, if the report asks for such.
        contrast: Contrast of the row by pooled variances; None takes its own differences.
    """
    is_simultaneous = spec.intervals == "simultaneous"
    kind: SpreadKind = "simultaneous_interval" if is_simultaneous else "paired_interval"

    def fields(differences: list[float]) -> dict[str, Any]:
        at_once = comparisons if is_simultaneous else 1
        difference = contrast.interval(at_once) if contrast else paired_difference(differences, at_once)
        count = missing_text(difference.count, len(row.cells), without_interval=not difference.has_interval)
        return {**difference_numbers(difference, spec.digits, kind), "count": count}

    return comparison_cell(row, metric, fields)


def difference_numbers(
    difference: PairedDifference, digits: int, kind: SpreadKind = "paired_interval"
) -> dict[str, Any]:
    """Return a cell's fields for a difference: text and numbers; no bounds without an interval."""
    bounded = difference.has_interval
    return {
        "text": difference_text(difference, digits),
        "value": difference.mean,
        "spread": (difference.high - difference.low) / 2 if bounded else None,
        "spread_kind": kind if bounded else None,
        "low": difference.low if bounded else None,
        "high": difference.high if bounded else None,
    }


def effect_cell(spec: ReportSpec, row: Row, metric: str) -> TableCell:
    """Return Hedges' g of the paired differences, or `untested` where g is undefined."""

    def fields(differences: list[float]) -> dict[str, Any]:
        effect = effect_size(differences)
        if math.isnan(effect):
            few = "needs three pairs" if len(differences) < 3 else "all differences are equal"
            return {"text": "untested", "count": few}
        return {"text": number_text(effect, spec.digits, "+"), "value": effect}

    return comparison_cell(row, metric, fields)


def pairing_cell(_spec: ReportSpec, row: Row, metric: str) -> TableCell:
    """Return the variance of paired over unpaired differences and its interval: `0.68 [0.30, 1.30]`."""
    if row.is_baseline:
        return TableCell("baseline", expected=len(row.cells))
    pairs = row.both_values(metric)
    cell = compared_cell(row, row.pairs(metric))
    if not pairs:
        return cell
    found = pairing_ratio([mine for mine, _ in pairs], [other for _, other in pairs])
    if found.why:
        return replace(cell, text="untested", count=found.why)
    text = f"{found.ratio:.2f} [{found.low:.2f}, {found.high:.2f}]"
    return replace(cell, text=text, value=found.ratio, low=found.low, high=found.high)


def count_cell(spec: ReportSpec, row: Row, _metric: str) -> TableCell:
    """Return the number of finished runs, and the number requested if some are missing."""
    finished = [(item, 1.0) for item in row.cells if item.record is not None]
    text = f"{len(finished)}" + (f" of {len(row.cells)}" if len(finished) < len(row.cells) else "")
    return replace(measured_cell(row, finished), text=text, value=len(finished), values=())


def cost_cell(spec: ReportSpec, row: Row, key: str) -> TableCell:
    """Return a cost of the row's model, in the unit of the column's header."""
    costs = [(item, item.record.cost[key]) for item in row.cells if item.record and key in item.record.cost]
    return _one_cost(measured_cell(row, costs), key)


def _one_cost(cell: TableCell, key: str, sign: str = "") -> TableCell:
    """Return the cell of a cost, which no seed changes; if runs differ, their range and no value."""
    if not cell.values:
        return cell
    form, low, high = COSTS[key], min(cell.values), max(cell.values)
    low_text, high_text = (number_text(cost / form.scale, form.digits, f"{sign},") for cost in (low, high))
    cell = replace(cell, flags=cell.flags & {Flag.STALE})
    if low == high:
        return replace(cell, text=low_text, value=low)
    return replace(cell, text=f"{low_text} to {high_text}", count="runs differ", low=low, high=high)


def cost_delta_cell(spec: ReportSpec, row: Row, key: str) -> TableCell:
    """Return the additional cost over the baseline; costs have no seeds, so no interval."""
    if row.is_baseline:
        return TableCell("baseline", expected=len(row.cells))
    costs = [
        (item, item.record.cost[key] - item.baseline.cost[key])
        for item in row.cells
        if item.record and item.baseline and key in item.record.cost and key in item.baseline.cost
    ]
    return _one_cost(compared_cell(row, costs), key, "+")


def latency_cell(spec: ReportSpec, row: Row, key: str) -> TableCell:
    """Return milliseconds per batch, or their ratio to the baseline's with its interval."""
    if row.is_baseline and key == "latency_ratio":
        return TableCell("baseline", expected=len(row.cells))
    latency = row.latency
    if latency is None:
        return TableCell(flags=frozenset({Flag.HOLE}))
    if key == "latency":
        return TableCell(f"{latency['ms']:.{spec.digits}f}", value=latency["ms"])
    ratio, low, high = (latency[name] for name in ("ratio", "ratio_low", "ratio_high"))
    return TableCell(f"{ratio:.2f} [{low:.2f}, {high:.2f}]", value=ratio, low=low, high=high)


def measured_cell(row: Row, pairs: Sequence[tuple[Measured, float]]) -> TableCell:
    """Return a cell without text that has its runs, n and flags."""
    run_ids = [item.cell.run_id for item, _ in pairs]
    flags = _flags(row, len(pairs))
    if pairs and any(item.stale for item in row.cells):
        flags |= {Flag.STALE}
    return TableCell(
        n=len(pairs),
        expected=len(row.cells),
        values=tuple(value for _, value in pairs),
        run_ids=tuple(run_ids),
        missing_run_ids=tuple(run_id for run_id in dict.fromkeys(row.run_ids) if run_id not in run_ids),
        flags=frozenset(flags),
    )


def compared_cell(row: Row, pairs: Sequence[tuple[Measured, float]]) -> TableCell:
    """Return a cell without text for a comparison: runs and flags of both the row and the baseline."""
    cell = measured_cell(row, pairs)
    paired = {item.cell.run_id for item, _ in pairs}
    lacking = [item for item in row.cells if item.cell.run_id not in paired]
    missing = [item.cell.run_id for item in lacking if item.record is None]
    missing += [item.baseline_id for item in lacking if item.baseline is None and item.baseline_id]
    flags = set(cell.flags)
    if pairs and any(item.stale_baseline for item in row.cells):
        flags.add(Flag.STALE)
    if pairs and not all(item.clean_pair for item in row.cells):
        flags.add(Flag.UNCLEAN)
    return replace(
        cell,
        baseline_run_ids=tuple(item.baseline_id for item, _ in pairs if item.baseline_id),
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


def count_text(spec: ReportSpec, count: int, expected: int, *, without_interval: bool) -> str:
    """Return n as the report shows it in cells of a metric."""
    missing = missing_text(count, expected, without_interval=without_interval)
    return missing or (f"n={count}" if spec.counts == "cells" else "")


def missing_text(count: int, expected: int, *, without_interval: bool) -> str:
    """Return n if seeds or the interval are missing, with the reason."""
    if count == expected and not without_interval:
        return ""
    text = f"n={count}" + (f" of {expected}" if count < expected else "")
    return f"{text}, all equal" if without_interval and count > 1 else text


def intention_cell(spec: ReportSpec, row: Row, metric: str) -> TableCell:
    """Return the mean of all runs that ended, such as `66.10 ± 48.90 (2 of 3 finished)`.

    A diverged run has the value of guessing. A single run has no ±.
    """
    ended = row.intention(metric)
    cell = measured_cell(row, ended)
    if not ended:
        return cell
    summary = summarise([value for _, value in ended])
    diverged = sum(item.diverged for item, _ in ended)
    has_spread = summary.count > 1
    text = f"{summary.mean:.{spec.digits}f}" + (f" ± {summary.std:.{spec.digits}f}" if has_spread else "")
    missing = missing_text(summary.count, len(row.cells), without_interval=not has_spread)
    finished = f"{summary.count - diverged} of {summary.count} finished"
    return replace(
        cell,
        text=text,
        count=", ".join(filter(None, (finished, missing))),
        value=summary.mean,
        spread=summary.std if has_spread else None,
        spread_kind="std" if has_spread else None,
        diverged=diverged,
    )


CELLS: Mapping[str, Callable[[ReportSpec, Row, str], TableCell]] = {
    "metric": metric_cell,
    "intention": intention_cell,
    "effect": effect_cell,
    "pairing": pairing_cell,
    "count": count_cell,
    "cost": cost_cell,
    "latency": latency_cell,
}
