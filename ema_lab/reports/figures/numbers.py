"""The numbers of a figure, before anything is drawn."""

import csv
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from ema_lab.errors import SpecError, StoreError
from ema_lab.experiments.grid import shown
from ema_lab.experiments.store import RunStore
from ema_lab.reports.selection import Measured, Row
from ema_lab.reports.statistics import PairedDifference, paired_difference
from ema_lab.specs.figure import CriticalDifferenceFigure, CurvesFigure, HeatmapFigure
from ema_lab.specs.metric import METRICS

FEWEST_METHODS = 3
FEWEST_DATASETS = 6  # below six pairs no Wilcoxon test reaches 0.05, and Friedman's chi-square is rough


class NothingToDrawError(SpecError):
    """No run is there yet that the figure could show."""


@dataclass(frozen=True)
class Point:
    """A row's cost and its metric: mean and 95 % t interval over `value.count` seeds."""

    row: str
    cost: float
    value: PairedDifference


def mean_interval(values: Sequence[float]) -> PairedDifference:
    """Return the mean of independent values and its 95 % t interval: that of differences to zero."""
    return paired_difference(values)


def pareto_front(points: Sequence[tuple[float, float]], sign: int) -> list[int]:
    """Return the indices of the (cost, value) pairs that none beats, the cheapest first.

    One beats another if it costs no more and is no worse, and is better in one of the two.
    """

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a[0] <= b[0] and sign * a[1] >= sign * b[1] and a != b

    front = [i for i, mine in enumerate(points) if not any(beats(other, mine) for other in points)]
    return sorted(front, key=lambda i: (points[i], i))


def tradeoff_points(rows: Sequence[Row], metric: str, cost: str) -> list[Point]:
    """Return a point for every row that has both the metric and the cost."""
    found = [(row.name, cost_of(row, cost), row.values(metric)) for row in rows]
    return [Point(name, x, mean_interval(values)) for name, x, values in found if x is not None and values]


def cost_of(row: Row, cost: str) -> float | None:
    """Return parameters, multiply-adds, or the latency (ms per batch) that was kept of a row's model."""
    if cost == "latency":
        kept = getattr(row, "latency", None)  # only a store that was timed has it
        return float(kept["ms"]) if kept else None
    return row.cost(cost)


@dataclass(frozen=True)
class Curve:
    """A row's mean by epoch and its band; NaN bounds where an epoch has one seed."""

    row: str
    epochs: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: int


def curves_of(rows: Sequence[Row], store: RunStore, spec: CurvesFigure) -> list[Curve]:
    """Return a curve for every row with a finished run."""
    curves = []
    for row in rows:
        by_epoch: dict[int, list[float]] = {}
        for item in row.cells:
            if item.record is not None:
                for epoch, value in _column(store.folder(item.cell.run_id) / "curve.csv", spec):
                    by_epoch.setdefault(epoch, []).append(value)
        if by_epoch:
            epochs = sorted(by_epoch)
            bands = [_band(by_epoch[epoch], spec.band) for epoch in epochs]
            means, lows, highs = zip(*bands, strict=True)
            curves.append(Curve(row.name, tuple(epochs), means, lows, highs, len(row.records)))
    return curves


def _column(path: Path, spec: CurvesFigure) -> list[tuple[int, float]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None
    columns = [key for key in (lines[0] if lines else {}) if key != "epoch"]
    if spec.column not in columns:
        raise SpecError(f"column {spec.column!r} is not in {path}; it has {', '.join(columns) or 'no line'}")
    try:
        return [(int(line["epoch"]), float(line[spec.column])) for line in lines if line[spec.column]]
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from None


def _band(values: Sequence[float], band: str) -> tuple[float, float, float]:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan
    if band == "range":
        return mean, min(values), max(values)
    if band == "std":
        std = statistics.stdev(values)
        return mean, mean - std, mean + std
    interval = mean_interval(values)
    return mean, interval.low, interval.high


@dataclass(frozen=True)
class Heatmap:
    """Labels down and across; `cells[i][j]` is a mean and its n, or None where no run is there."""

    down: tuple[str, ...]
    across: tuple[str, ...]
    cells: tuple[tuple[tuple[float, int] | None, ...], ...]
    left_out: tuple[str, ...]


def heatmap_of(rows: Sequence[Row], spec: HeatmapFigure) -> Heatmap:
    """Gather the rows that have both factors; a cell that two rows would share is an error.

    Raises:
        SpecError: If no row has both factors, or they do not tell two rows apart.
    """
    found: dict[tuple[str, str], Row] = {}
    left_out = []
    for row in rows:
        key = tuple(_factor(row.cells[0], factor) for factor in spec.factors)
        if None in key:
            left_out.append(row.name)
            continue
        place = (str(key[0]), str(key[1]))
        if place in found:
            rule = f"{' and '.join(spec.factors)} do not tell {found[place].name!r} from {row.name!r}"
            raise SpecError(rule)
        found[place] = row
    if not found:
        axes = list(dict.fromkeys(key for row in rows for key in _axes(row.cells[0])))
        wanted = " and ".join(spec.factors)
        raise SpecError(f"no row has a value of {wanted}; the axes are {', '.join(axes) or 'none'}")
    down = tuple(dict.fromkeys(place[0] for place in found))
    across = tuple(dict.fromkeys(place[1] for place in found))
    cells = tuple(tuple(_mean(found.get((i, j)), spec.metric) for j in across) for i in down)
    return Heatmap(down, across, cells, tuple(left_out))


def _axes(item: Measured) -> dict[str, Any]:
    return dict(item.cell.own_axes + item.cell.axes)


def _factor(item: Measured, factor: str) -> str | None:
    if factor == "variant":
        return item.cell.variant
    axes = _axes(item)
    return shown(axes[factor]) if factor in axes else None


def _mean(row: Row | None, metric: str) -> tuple[float, int] | None:
    values = row.values(metric) if row else []
    return (statistics.fmean(values), len(values)) if values else None


def forest_differences(rows: Sequence[Row], metric: str) -> list[tuple[str, PairedDifference]]:
    """Return the paired difference of every row that has one with the baseline."""
    found = [(row.name, row.differences(metric)) for row in rows if not row.is_baseline]
    return [(name, paired_difference(differences)) for name, differences in found if differences]


@dataclass(frozen=True)
class Ranks:
    """Average ranks (1 is best) over data sets, and the groups that the test cannot tell apart.

    `critical` is Nemenyi's critical difference; None for Wilcoxon's test. `dropped`: the data sets that
    do not enter, each with the methods it lacks. `seeds`: the fewest and the most of a mean.
    """

    methods: tuple[str, ...]
    average: tuple[float, ...]
    datasets: int
    friedman_p: float
    critical: float | None
    groups: tuple[tuple[int, int], ...]
    dropped: tuple[tuple[str, tuple[str, ...]], ...] = ()
    seeds: tuple[int, int] = (1, 1)


def ranks_of(data: Mapping[str, Mapping[str, Row]], spec: CriticalDifferenceFigure) -> Ranks:
    """Rank the methods on each data set by their mean over seeds; Friedman's test, then the pairs.

    A data set on which a method has no finished run does not enter.
    Source: Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006).

    Raises:
        SpecError: If the report has too few methods or too few data sets.
        NothingToDrawError: If too few of its data sets have runs of all methods.
    """
    import numpy as np
    from scipy.stats import friedmanchisquare, rankdata

    methods = list(dict.fromkeys(name for rows in data.values() for name in rows))
    found = {name: _values(rows, methods, spec.metric) for name, rows in data.items()}
    dropped = tuple(
        (name, tuple(method for method in methods if not values[method]))
        for name, values in found.items()
        if not all(values.values())
    )
    complete = [values for values in found.values() if all(values.values())]
    _require(len(methods), len(data), dropped, spec)
    table = np.array([[statistics.fmean(values[name]) for name in methods] for values in complete])
    ranks = rankdata(-METRICS[spec.metric].sign * table, axis=1)
    order = np.argsort(ranks.mean(axis=0), kind="stable")
    names, average = [methods[i] for i in order], ranks.mean(axis=0)[order]
    is_tie = (ranks == ranks[0, 0]).all()  # every method ties everywhere: the statistic is 0 / 0
    p = 1.0 if is_tie else float(friedmanchisquare(*table.T).pvalue)
    critical = nemenyi_difference(len(names), len(complete), spec.alpha) if spec.test == "nemenyi" else None
    same = _alike(table[:, order], average, critical, spec.alpha) if p < spec.alpha else None
    groups = _groups(len(names), same)
    counts = [len(value) for values in complete for value in values.values()]
    seeds = (min(counts), max(counts))
    return Ranks(tuple(names), tuple(map(float, average)), len(complete), p, critical, groups, dropped, seeds)


def by_data(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Return the rows by data set and method: a method is a row without its data set.

    Raises:
        SpecError: If a method has two rows on one data set.
    """
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        cell = row.cells[0].cell
        axes = {key: value for key, value in _axes(row.cells[0]).items() if not key.startswith("data")}
        rest = ", ".join(f"{key.rpartition('.')[2]}={shown(value)}" for key, value in axes.items())
        method = f"{cell.variant} [{rest}]" if rest else cell.variant
        name = _data_name(cell.spec.data.canonical)
        if method in found.setdefault(name, {}):
            raise SpecError(f"{method} has two rows on {name}; choose one with `rows` or `only`")
        found[name][method] = row
    return found


def _data_name(canonical: str) -> str:
    """Return a data set's name and what else tells it from others."""
    data = json.loads(canonical)
    more = ", ".join(f"{key}={shown(value)}" for key, value in data.items() if key != "name")
    return f"{data['name']} ({more})" if more else str(data["name"])


def _values(rows: Mapping[str, Row], methods: Sequence[str], metric: str) -> dict[str, list[float]]:
    """Return each method's values over the seeds on a data set; an empty list is a hole."""
    return {name: rows[name].values(metric) if name in rows else [] for name in methods}


def _require(
    methods: int,
    datasets: int,
    dropped: Sequence[tuple[str, Sequence[str]]],
    spec: CriticalDifferenceFigure,
) -> None:
    needed = needed_datasets(max(methods, FEWEST_METHODS), spec)
    rule = f"needs {FEWEST_METHODS} methods or more and {needed} data sets that all of them have"
    what = f"a critical-difference diagram ({spec.test}) {rule}"
    if methods < FEWEST_METHODS or datasets < needed:
        raise SpecError(f"{what}, got {methods} and {datasets}")
    if datasets - len(dropped) < needed:
        raise NothingToDrawError(f"{what}, got {datasets - len(dropped)}: {dropped_words(dropped)}")


def dropped_words(dropped: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return `D (no run of se, ca)` for each data set that does not enter."""
    return ", ".join(f"{name} (no run of {', '.join(methods)})" for name, methods in dropped)


def needed_datasets(methods: int, spec: CriticalDifferenceFigure) -> int:
    """Return the fewest data sets on which the test can tell any two of the methods apart."""
    if spec.test == "wilcoxon":  # the smallest p-value of n pairs is 2^(1-n); Holm divides alpha by the pairs
        pairs = methods * (methods - 1) // 2
        return max(FEWEST_DATASETS, math.ceil(1 + math.log2(pairs / spec.alpha)))
    widest = nemenyi_difference(methods, 1, spec.alpha)
    return max(FEWEST_DATASETS, math.ceil((widest / (methods - 1)) ** 2))


def nemenyi_difference(methods: int, datasets: int, alpha: float) -> float:
    """Return the difference of average ranks from which on Nemenyi's test tells two methods apart."""
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(1 - alpha, methods, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * datasets))


def _alike(table: Any, average: Any, critical: float | None, alpha: float) -> set[tuple[int, int]]:
    pairs = list(combinations(range(table.shape[1]), 2))
    if critical is not None:
        return {(i, j) for i, j in pairs if average[j] - average[i] < critical}
    from scipy.stats import wilcoxon

    p = {(i, j): _p_value(wilcoxon, table[:, i] - table[:, j]) for i, j in pairs}
    return set(pairs) - holm_rejected(p, alpha)


def _p_value(wilcoxon: Any, differences: Any) -> float:
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def holm_rejected(p: Mapping[tuple[int, int], float], alpha: float) -> set[tuple[int, int]]:
    """Return the pairs that Holm's step-down procedure rejects."""
    rejected: set[tuple[int, int]] = set()
    for step, (pair, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        if value > alpha / (len(p) - step):
            break
        rejected.add(pair)
    return rejected


def _groups(count: int, same: set[tuple[int, int]] | None) -> tuple[tuple[int, int], ...]:
    """Return the longest stretches of ranks within which no pair differs; all of them for None."""
    if same is None:
        return ((0, count - 1),)
    stretches = [(i, j) for i, j in same if all(p in same for p in combinations(range(i, j + 1), 2))]
    longest = [a for a in stretches if not any(b != a and b[0] <= a[0] and a[1] <= b[1] for b in stretches)]
    return tuple(sorted(longest))
