"""Average ranks over many data sets, and which of them a test cannot tell apart."""

import itertools
import json
import math
import statistics
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations, count
from typing import Any

from ema_lab.ablation.grid import format_value
from ema_lab.errors import SpecError
from ema_lab.reports.figures.captions import listed
from ema_lab.reports.figures.numbers import NothingToDrawError, axes_of
from ema_lab.reports.naming import factor_value, gathered
from ema_lab.results.selection import Row
from ema_lab.specs.figure import CriticalDifferenceFigure
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics.ties import differences, merge_ties

FEWEST_METHODS = 3
PERMUTATIONS = 99_999


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


def ranks_of(data: Mapping[str, Mapping[str, Row]], spec: CriticalDifferenceFigure, sign: int) -> Ranks:
    """Rank the methods on each data set by their mean over seeds; Friedman's test, then the pairs.

    A data set on which a method has no finished run does not enter. Means that are equal but for rounding
    share their rank. `sign` is the metric's direction.
    Source: Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006).

    Raises:
        NothingToDrawError: If there are too few methods, or too few data sets that have runs of all methods.
    """
    import numpy as np
    from scipy.stats import rankdata

    methods = list(dict.fromkeys(name for rows in data.values() for name in rows))
    found = {name: _values(rows, methods, spec.metric) for name, rows in data.items()}
    dropped = tuple(
        (name, tuple(method for method in methods if not values[method]))
        for name, values in found.items()
        if not all(values.values())
    )
    complete = [values for values in found.values() if all(values.values())]
    _require(len(methods), len(data), dropped, spec)
    means = [[statistics.fmean(values[name]) for name in methods] for values in complete]
    table = np.array([merge_ties(row) for row in means])
    ranks = rankdata(-sign * table, axis=1)
    order = np.argsort(ranks.mean(axis=0), kind="stable")
    names, average = [methods[i] for i in order], ranks.mean(axis=0)[order]
    p = friedman_p(ranks)
    critical = nemenyi_difference(len(names), len(complete), spec.alpha) if spec.test == "nemenyi" else None
    same = _alike(table[:, order], average, critical, spec.alpha) if p < spec.alpha else None
    groups = _groups(len(names), same)
    counts = [len(value) for values in complete for value in values.values()]
    seeds = (min(counts), max(counts))
    return Ranks(tuple(names), tuple(map(float, average)), len(complete), p, critical, groups, dropped, seeds)


def by_data(report: ReportSpec, parts: Sequence[Sequence[Row]]) -> dict[str, dict[str, Row]]:
    """Return the rows by data set and method: a method is a row without its data set.

    The data sets are those of the report's table: its ablations', or the values of its factor; in a report
    that names neither, they are what was trained on.

    Args:
        report: Whose figure it is.
        parts: The rows of each ablation, in the report's order.

    Raises:
        SpecError: If a method has two rows on one data set.
    """
    if report.ablations:
        names = {source: name for name, source in reversed(list(report.ablations.items()))}
        sources = dict.fromkeys(report.ablations.values())
        return {names[one]: {row.name: row for row in rows} for one, rows in zip(sources, parts, strict=True)}
    rows = list(itertools.chain(*parts))
    key, axes = gathered(report), _data_axes(rows)
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        method, name = (
            _by_factor(report, row, key) if report.kind == "datasets" and key else _by_data(row, axes)
        )
        if method in found.setdefault(name, {}):
            raise SpecError(f"{method} has two rows on {name}; choose one with `rows` or `only`")
        found[name][method] = row
    return found


def _by_factor(report: ReportSpec, row: Row, key: str) -> tuple[str, str]:
    cell = row.cells[0].cell
    value = factor_value(report, cell, key)
    return cell.row_without(key), report.names.get(value, value)


def _data_axes(rows: Sequence[Row]) -> set[str]:
    """Return the axes that say what is trained on: keys of the data, and linked axes that decide it."""
    found: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        for key, value in axes_of(row.cells[0]).items():
            data = row.cells[0].cell.spec.data.canonical
            found.setdefault(key, {}).setdefault(repr(value), set()).add(data)
    deciding = {
        key
        for key, values in found.items()
        if all(len(data) == 1 for data in values.values()) and len(set[str]().union(*values.values())) > 1
    }
    return deciding | {key for key in found if key.partition(".")[0] == "data"}


def _by_data(row: Row, data_axes: Set[str]) -> tuple[str, str]:
    cell = row.cells[0].cell
    axes = {key: value for key, value in axes_of(row.cells[0]).items() if key not in data_axes}
    rest = ", ".join(f"{key.rpartition('.')[2]}={format_value(value)}" for key, value in axes.items())
    return f"{cell.variant} [{rest}]" if rest else cell.variant, _data_name(cell.spec.data.canonical)


def _data_name(canonical: str) -> str:
    """Return a data set's name and what else tells it from others."""
    data = json.loads(canonical)
    more = ", ".join(f"{key}={format_value(value)}" for key, value in data.items() if key != "name")
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
    what = f"a critical-difference diagram ({spec.test})"
    if methods < FEWEST_METHODS:
        raise NothingToDrawError(f"{what} needs {FEWEST_METHODS} methods or more, got {methods}")
    needed, complete = needed_datasets(methods, spec), datasets - len(dropped)
    if complete < needed:
        rule = f"{what} of {methods} methods needs {needed} data sets that all of them have"
        lost = f": {dropped_words(dropped)}" if dropped else ""
        raise NothingToDrawError(f"{rule}, got {complete}{lost}")


def dropped_words(dropped: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return `D (no run of se, ca)` for each data set that does not enter, or for the first few."""
    return listed([f"{name} (no run of {listed(methods)})" for name, methods in dropped])


def friedman_p(ranks: Any) -> float:
    """Return the p-value of Friedman's test for ranks (data sets, methods).

    Its chi-square approximation is for more than 10 data sets and 5 methods; for fewer, Demšar (2006,
    section 3.2.2) refers to the exact distribution. There, the ranks of each data set are permuted, with a
    fixed seed: valid at every size, and with ties.
    """
    import numpy as np
    from scipy.stats import friedmanchisquare

    datasets, methods = ranks.shape
    if (ranks == ranks[0, 0]).all():  # every method ties everywhere: the statistic is 0 / 0
        return 1.0
    if datasets > 10 and methods > 5:
        return float(friedmanchisquare(*ranks.T).pvalue)
    random = np.random.default_rng(0)
    sums = sum(random.permuted(np.tile(row, (PERMUTATIONS, 1)), axis=1) for row in ranks)
    spread = ((ranks.sum(axis=0) - datasets * (methods + 1) / 2) ** 2).sum()
    reached = int((((sums - datasets * (methods + 1) / 2) ** 2).sum(axis=1) >= spread).sum())
    return (reached + 1) / (PERMUTATIONS + 1)


def needed_datasets(methods: int, spec: CriticalDifferenceFigure) -> int:
    """Return the fewest data sets on which the diagram can tell any two of the methods apart.

    No fixed number, but what the tests of Demšar (2006) can reach: Friedman's smallest p-value of n data
    sets is (k!)^(1-n) for k methods, all n ranking them alike; Nemenyi's critical difference must lie below
    k - 1, the largest difference of average ranks; Wilcoxon's smallest p-value is 2^(1-n), and Holm's
    procedure holds it against alpha over the number of pairs.
    """

    def suffices(datasets: int) -> bool:
        if math.factorial(methods) ** (1 - datasets) >= spec.alpha:
            return False
        if spec.test == "wilcoxon":
            return 2.0 ** (1 - datasets) <= spec.alpha / math.comb(methods, 2)
        return nemenyi_difference(methods, datasets, spec.alpha) < methods - 1

    return next(datasets for datasets in count(2) if suffices(datasets))


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

    p = {(i, j): _p_value(wilcoxon, differences(table[:, i], table[:, j])) for i, j in pairs}
    return set(pairs) - holm_rejected(p, alpha)


def _p_value(wilcoxon: Any, found: Sequence[float]) -> float:
    return float(wilcoxon(found).pvalue) if any(found) else 1.0


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
