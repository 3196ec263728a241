"""Numbers of figures, computed before anything is drawn."""

import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ema_lab.ablation.grid import format_value
from ema_lab.errors import SpecError, StoreError
from ema_lab.measured.selection import Measured, Row
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.figure import CurvesFigure, HeatmapFigure
from ema_lab.statistics import PairedDifference, paired_difference
from ema_lab.statistics.group_sequential import compare_decided
from ema_lab.statistics.ties import difference, merge_ties
from ema_lab.statistics.within import within_seeds
from ema_lab.store.curve import curve_rows
from ema_lab.store.layout import CURVE
from ema_lab.store.store import RunStore

logger = logging.getLogger(__name__)


class NothingToDrawError(SpecError):
    """Raised if a figure has no data yet. The rest of the report is made anyway."""


@dataclass(frozen=True)
class Point:
    """Row's cost and metric, over `value.count` seeds.

    `is_reference`: the row is the baseline of a figure of differences, at zero by definition.
    """

    row: str
    cost: float
    value: PairedDifference
    is_reference: bool = False


def mean_interval(values: Sequence[float], *, decided: bool = False) -> PairedDifference:
    """Return the mean of independent values and its 95 % t interval, as differences to zero.

    Args:
        values: Values, one per seed.
        decided: Whether seeds were added until comparisons were decided. The number of seeds then depends on
            their results, so that a t interval would cover too little; the bounds are NaN.
    """
    difference = paired_difference(values)
    return replace(difference, low=math.nan, high=math.nan) if decided else difference


def pareto_front(points: Sequence[tuple[float, float]], sign: int) -> list[int]:
    """Return the indices of the (cost, value) pairs that no other beats, the cheapest first.

    Another pair beats a pair if it costs no more and is no worse, and is better in either. Differences by
    rounding count as ties.
    """
    costs, values = (merge_ties([point[side] for point in points]) for side in range(2))
    exact = list(zip(costs, values, strict=True))

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] <= b[0] and sign * a[1] >= sign * b[1] and a != b

    front = [i for i, mine in enumerate(exact) if not any(beats(other, mine) for other in exact)]
    return sorted(front, key=lambda i: (exact[i], i))


def front_of(points: Sequence[Point], sign: int) -> list[int]:
    """Return the indices of the points on the Pareto front, the cheapest first.

    A single seed beats no mean over several seeds: luck alone could put it on the front.
    """
    most = max(point.value.count for point in points)
    kept = [i for i, point in enumerate(points) if point.value.count > 1 or most == 1]
    return [kept[i] for i in pareto_front([(points[k].cost, points[k].value.mean) for k in kept], sign)]


def shown_rows(rows: Sequence[Row], names: Sequence[str], most: int | None = None) -> list[Row]:
    """Return the rows that a figure names, or all of them; at most `most`, the baseline among them.

    Raises:
        SpecError: If no row has a name.
    """
    by_name = {row.name: row for row in rows}
    for name in names:
        if name not in by_name:
            raise SpecError(unknown_name("row", name, by_name))
    if names or most is None or len(rows) <= most:
        return [row for row in rows if not names or row.name in names]
    first = [row for row in rows if not row.is_baseline][: most - any(row.is_baseline for row in rows)]
    return [row for row in rows if row.is_baseline or row in first][:most]


def tradeoff_points(
    rows: Sequence[Row], metric: str, cost: str, *, decided: bool = False
) -> tuple[list[Point], bool]:
    """Return a point for every row that has both the metric and the cost, and whether bars are within seeds.

    `decided`: see `mean_interval`.
    """
    priced = [(row, cost_of(row, cost)) for row in rows]
    placed = [(row, x) for row, x in priced if x is not None and row.values(metric)]
    within = None if decided else within_seeds([row.by_seed(metric) for row, _ in placed])
    values = within or [mean_interval(row.values(metric), decided=decided) for row, _ in placed]
    points = [Point(row.name, x, value) for (row, x), value in zip(placed, values, strict=True)]
    return points, within is not None


def tradeoff_differences(
    rows: Sequence[Row], metric: str, cost: str, differences: Mapping[str, PairedDifference]
) -> list[Point]:
    """Return a point for every row that has the cost and a difference to the baseline, which is at zero.

    `differences`: see `forest_differences`.
    """
    points = []
    for row in rows:
        zero = PairedDifference(0.0, math.nan, math.nan, len(row.values(metric)))
        value = zero if row.is_baseline and zero.count else differences.get(row.name)
        if (x := cost_of(row, cost)) is not None and value is not None:
            points.append(Point(row.name, x, value, is_reference=row.is_baseline))
    return points


def cost_of(row: Row, cost: str) -> float | None:
    """Return the parameters, multiply-adds, or cached latency (ms per batch) of a row's model."""
    if cost == "latency":
        kept = getattr(row, "latency", None)  # None unless `ema-lab cost --latency` has timed the row
        return float(kept["ms"]) if kept else None
    return row.cost(cost)


@dataclass(frozen=True)
class Curve:
    """Row's mean by epoch, its band and number of seeds; bounds are NaN where an epoch has no band."""

    row: str
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    counts: tuple[int, ...]


def curves_of(
    rows: Sequence[Row], store: RunStore, spec: CurvesFigure, *, decided: bool = False
) -> list[Curve]:
    """Return a curve for every row with a finished run; `decided`: see `mean_interval`."""
    found = [(row, _by_seed(row, store, spec)) for row in rows]
    return [
        curve_of(row.name, by_seed, spec.band, decided=decided)
        for row, by_seed in found
        if any(by_seed.values())
    ]


def curve_differences(
    rows: Sequence[Row], store: RunStore, spec: CurvesFigure, *, decided: bool = False
) -> list[Curve]:
    """Return the paired difference to the baseline by epoch, of every other row with common seeds."""
    curves = []
    for row in rows:
        by_seed = {}
        for item in row.cells if not row.is_baseline else ():
            if item.record and item.baseline and item.baseline_id:
                zero = dict(_column_or_hole(store.folder(item.baseline_id), spec))
                mine = _column_or_hole(store.folder(item.cell.run_id), spec)
                by_seed[item.cell.seed] = {e: difference(value, zero[e]) for e, value in mine if e in zero}
        if any(by_seed.values()):
            curves.append(curve_of(row.name, by_seed, spec.band, decided=decided))
    return curves


def curve_of(row: str, by_seed: Mapping[int, Mapping[int, float]], band: str, *, decided: bool) -> Curve:
    """Return the mean and band by epoch of the curves of a row's seeds."""
    by_epoch: dict[int, list[float]] = {}
    for curve in by_seed.values():
        for epoch, value in curve.items():
            by_epoch.setdefault(epoch, []).append(value)
    epochs = sorted(by_epoch)
    means, lows, highs = zip(
        *(band_of(by_epoch[epoch], band, decided=decided) for epoch in epochs), strict=True
    )
    return Curve(row, tuple(epochs), means, lows, highs, tuple(len(by_epoch[epoch]) for epoch in epochs))


def _by_seed(row: Row, store: RunStore, spec: CurvesFigure) -> dict[int, dict[int, float]]:
    """Return a column of each finished run, by seed and epoch."""
    return {
        item.cell.seed: dict(_column_or_hole(store.folder(item.cell.run_id), spec))
        for item in row.cells
        if item.record
    }


def _column_or_hole(folder: Path, spec: CurvesFigure) -> list[tuple[int, float]]:
    """Return a run's column. Warn about an unusable curve and leave it out of the figure."""
    try:
        return _column(folder, spec)
    except StoreError as error:
        logger.warning("left out of the figure: %s", error)
        return []


def _column(folder: Path, spec: CurvesFigure) -> list[tuple[int, float]]:
    path = folder / CURVE
    try:
        lines = list(curve_rows(folder))
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None
    columns = [key for key in (lines[0] if lines else {}) if key != "epoch"]
    if spec.column not in columns:
        raise SpecError(f"column {spec.column!r} is not in {path}; it has {', '.join(columns) or 'no line'}")
    try:
        column = [(int(line["epoch"]), float(line[spec.column])) for line in lines if line[spec.column]]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from None
    if not all(math.isfinite(value) for _, value in column):
        raise StoreError(f"{path} cannot be read: {spec.column} has values that are not finite")
    return column


def band_of(values: Sequence[float], band: str, *, decided: bool) -> tuple[float, float, float]:
    """Return the mean of values and the bounds of their band; the bounds are NaN without one."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan
    if band == "range":
        return mean, min(values), max(values)
    if band == "std":
        std = statistics.stdev(values)
        return mean, mean - std, mean + std
    interval = mean_interval(values, decided=decided)
    return mean, interval.low, interval.high


@dataclass(frozen=True)
class Heatmap:
    """Labels down and across; `cells[i][j]` is a mean and its n, or None without a run."""

    down: tuple[str, ...]
    across: tuple[str, ...]
    cells: tuple[tuple[tuple[float, int] | None, ...], ...]
    left_out: tuple[str, ...]


def heatmap_of(rows: Sequence[Row], spec: HeatmapFigure) -> Heatmap:
    """Arrange the rows that have both factors as a heat map.

    Raises:
        SpecError: If no row has both factors, or two rows share a cell.
    """
    row_by_cell: dict[tuple[str, str], Row] = {}
    left_out = []
    for row in rows:
        key = tuple(_factor(row.cells[0], factor) for factor in spec.factors)
        if None in key:
            left_out.append(row.name)
            continue
        cell = (str(key[0]), str(key[1]))
        if cell in row_by_cell:
            rows_of_cell = f"{row_by_cell[cell].name!r} from {row.name!r}"
            raise SpecError(f"{' and '.join(spec.factors)} do not distinguish {rows_of_cell}")
        row_by_cell[cell] = row
    if not row_by_cell:
        axes = list(dict.fromkeys(key for row in rows for key in axes_of(row.cells[0])))
        wanted = " and ".join(spec.factors)
        raise SpecError(f"no row has a value of {wanted}; the axes are {', '.join(axes) or 'none'}")
    down = tuple(dict.fromkeys(cell[0] for cell in row_by_cell))
    across = tuple(dict.fromkeys(cell[1] for cell in row_by_cell))
    cells = tuple(tuple(_mean(row_by_cell.get((i, j)), spec.metric) for j in across) for i in down)
    return Heatmap(down, across, cells, tuple(left_out))


def axes_of(item: Measured) -> dict[str, Any]:
    """Return a cell's values on all axes, by key."""
    return dict(item.cell.own_axes + item.cell.axes)


def _factor(item: Measured, factor: str) -> str | None:
    if factor == "variant":
        return item.cell.variant
    axes = axes_of(item)
    return format_value(axes[factor]) if factor in axes else None


def _mean(row: Row | None, metric: str) -> tuple[float, int] | None:
    values = row.values(metric) if row else []
    return (statistics.fmean(values), len(values)) if values else None


def forest_differences(
    rows: Sequence[Row],
    metric: str,
    comparisons: int,
    *,
    decided: bool = False,
    planned_seeds: int | None = None,
    together: bool = False,
) -> list[tuple[str, PairedDifference]]:
    """Return the paired difference to the baseline of every row that has one, equal to the table's.

    Args:
        rows: Rows that the figure shows.
        metric: Metric that is compared.
        comparisons: Number of rows that the ablation compares with its baseline.
        decided: Whether seeds were added until it was decided. Intervals then hold for all compared rows at
            once, shown or not.
        planned_seeds: Most seeds, if they were fixed before seeds were added.
        together: Whether t intervals hold for all compared rows at once, too.
    """
    compared = [(row.name, row.differences(metric)) for row in rows if not row.is_baseline]
    with_differences = [(name, differences) for name, differences in compared if differences]
    if decided:
        return [
            (name, compare_decided(differences, comparisons, planned_seeds).difference)
            for name, differences in with_differences
        ]
    at_once = comparisons if together else 1
    return [(name, paired_difference(differences, at_once)) for name, differences in with_differences]
