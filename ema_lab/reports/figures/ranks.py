"""Average ranks over many data sets, and the groups of methods that a test cannot distinguish."""

import itertools
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations, count
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import ABSENT, format_value, value_of
from ema_lab.errors import SpecError
from ema_lab.measured.selection import Row, select_rows
from ema_lab.reports.figures.captions import listed
from ema_lab.reports.figures.numbers import NothingToDrawError, axes_of
from ema_lab.reports.naming import factor_value, gathered
from ema_lab.specs.figure import CriticalDifferenceFigure
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics.ties import differences, merge_ties
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of

FEWEST_METHODS = 3
PERMUTATIONS = 99_999


@dataclass(frozen=True)
class Ranks:
    """Average ranks (1 is best) over data sets, and the groups that the test cannot distinguish.

    `compared`: number of ranked methods, shown or not. `critical` is Nemenyi's critical difference; None for
    Wilcoxon's test. `dropped`: excluded data sets, each with the methods that it lacks. `seeds`: smallest and
    largest number of seeds of a shown mean.
    """

    methods: tuple[str, ...]
    average: tuple[float, ...]
    compared: int
    datasets: int
    friedman_p: float
    critical: float | None
    groups: tuple[tuple[int, int], ...]
    dropped: tuple[tuple[str, tuple[str, ...]], ...] = ()
    seeds: tuple[int, int] = (1, 1)


def ranks_of(
    data: Mapping[str, Mapping[str, Row]],
    spec: CriticalDifferenceFigure,
    sign: int,
    hidden: Mapping[str, Mapping[str, Row]] | None = None,
) -> Ranks:
    """Rank the methods on each data set by their mean over seeds; apply Friedman's test, then test pairs.

    Data sets on which a method has no finished run are excluded. Means that differ only by rounding share
    their rank. Source: Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006).

    Methods that are not shown are ranked and tested, too: three of 20 equal methods, chosen after a look at
    the results on ten data sets, would otherwise differ in 98 % of cases. A hidden method that
    lacks a data set is left out.

    Args:
        data: Rows of the shown methods, by data set.
        spec: The figure.
        sign: Direction of the metric.
        hidden: Rows of the other methods that the ablations compare.

    Raises:
        NothingToDrawError: If there are too few methods, or too few data sets with runs of all methods.
    """
    import numpy as np
    from scipy.stats import rankdata

    shown = list(dict.fromkeys(name for rows in data.values() for name in rows))
    values_by_data = {name: _values(rows, shown, spec.metric) for name, rows in data.items()}
    dropped = tuple(
        (name, tuple(method for method in shown if not values[method]))
        for name, values in values_by_data.items()
        if not all(values.values())
    )
    complete = {name: values for name, values in values_by_data.items() if all(values.values())}
    others = _complete_methods({name: (hidden or {}).get(name, {}) for name in complete}, spec.metric)
    methods = [*shown, *others]
    _require(len(methods), len(data), dropped, spec)
    table = np.array([merge_ties(row) for row in _means(complete, shown, others)])
    ranks = rankdata(-sign * table, axis=1)
    order = np.argsort(ranks.mean(axis=0), kind="stable")
    average = ranks.mean(axis=0)[order]
    p = friedman_p(ranks)
    critical = nemenyi_difference(len(methods), len(complete), spec.alpha) if spec.test == "nemenyi" else None
    same = _alike(table[:, order], average, critical, spec.alpha) if p < spec.alpha else None
    kept = [place for place, index in enumerate(order) if index < len(shown)]
    if same is not None:
        same = {(i, j) for i, j in combinations(range(len(kept)), 2) if (kept[i], kept[j]) in same}
    counts = [len(value) for values in complete.values() for value in values.values()]
    return Ranks(
        tuple(methods[order[place]] for place in kept),
        tuple(float(average[place]) for place in kept),
        len(methods),
        len(complete),
        p,
        critical,
        _groups(len(kept), same),
        dropped,
        (min(counts), max(counts)),
    )


def _means(
    complete: Mapping[str, Mapping[str, Sequence[float]]],
    shown: Sequence[str],
    others: Mapping[str, Mapping[str, Sequence[float]]],
) -> list[list[float]]:
    """Return the mean over seeds of each method, the shown ones first, for each data set."""
    return [
        [
            *(statistics.fmean(values[method]) for method in shown),
            *(statistics.fmean(others[method][name]) for method in others),
        ]
        for name, values in complete.items()
    ]


def _complete_methods(
    data: Mapping[str, Mapping[str, Row]], metric: str
) -> dict[str, dict[str, list[float]]]:
    """Return the values by method and data set of the methods that have finished runs on every data set."""
    names = dict.fromkeys(method for rows in data.values() for method in rows)
    values = {
        method: {name: rows[method].values(metric) if method in rows else [] for name, rows in data.items()}
        for method in names
    }
    return {method: by_data for method, by_data in values.items() if all(by_data.values())}


def hidden_by_data(
    report: ReportSpec, sections: Sequence[tuple[Ablation, Sequence[Row]]], store: RunStore
) -> dict[str, dict[str, Row]]:
    """Return the rows of the ablations that a report does not show, by data set and method.

    A method that several factors repeat on a data set counts as several methods.

    Args:
        report: Report of the figure.
        sections: Ablations with the rows that are shown.
        store: The store with the runs.
    """
    sources = list(dict.fromkeys(report.ablations.values()))
    titles = {source: name for name, source in reversed(list(report.ablations.items()))}
    found: dict[str, dict[str, Row]] = {}
    for number, (ablation, shown) in enumerate(sections):
        names = {row.name for row in shown}
        rows = select_rows(ablation, store)
        axes, key = _data_axes(rows), gathered(report)
        for row in rows:
            if row.name in names:
                continue
            if report.ablations:
                method, data = row.name, titles[sources[number]]
            elif report.kind == "datasets" and key:
                if value_of(row.cells[0].cell, key) is ABSENT:
                    continue
                method, data = _by_factor(report, row, key)
            else:
                method, data = _by_data(row, axes)
            there = found.setdefault(data, {})
            there[next(name for name in _numbered(method) if name not in there)] = row
    return found


def _numbered(method: str) -> Iterator[str]:
    """Yield the names of a hidden method and of its repetitions, which no shown method has."""
    return (f"{method} #{number}" for number in count(1))


def by_data(report: ReportSpec, parts: Sequence[Sequence[Row]]) -> dict[str, dict[str, Row]]:
    """Return the rows by data set and method. The method is the row's name without its data set.

    Data sets are those of the report's table: its ablations, or the values of its factor. In a report with
    neither, they are the training data.

    Args:
        report: Report of the figure.
        parts: Rows of each ablation, in the report's order.

    Raises:
        SpecError: If a method has two rows on one data set.
    """
    if report.ablations:
        names = {source: name for name, source in reversed(list(report.ablations.items()))}
        sources = dict.fromkeys(report.ablations.values())
        return {
            names[source]: {row.name: row for row in rows}
            for source, rows in zip(sources, parts, strict=True)
        }
    rows = list(itertools.chain(*parts))
    key, axes = gathered(report), _data_axes(rows)
    rows_by_data: dict[str, dict[str, Row]] = {}
    for row in rows:
        method, name = (
            _by_factor(report, row, key) if report.kind == "datasets" and key else _by_data(row, axes)
        )
        if method in rows_by_data.setdefault(name, {}):
            raise SpecError(f"{method} has two rows on {name}; choose one with `rows` or `only`")
        rows_by_data[name][method] = row
    return rows_by_data


def _by_factor(report: ReportSpec, row: Row, key: str) -> tuple[str, str]:
    cell = row.cells[0].cell
    value = factor_value(report, cell, key)
    return cell.row_without(key), report.names.get(value, value)


def _data_axes(rows: Sequence[Row]) -> set[str]:
    """Return the axes that determine the training data: keys of the data, and linked axes."""
    data_by_axis: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        for key, value in axes_of(row.cells[0]).items():
            data = row.cells[0].cell.spec.data.canonical
            data_by_axis.setdefault(key, {}).setdefault(repr(value), set()).add(data)
    deciding = {
        key
        for key, values in data_by_axis.items()
        if all(len(data) == 1 for data in values.values()) and len(set[str]().union(*values.values())) > 1
    }
    return deciding | {key for key in data_by_axis if key.partition(".")[0] == "data"}


def _by_data(row: Row, data_axes: Set[str]) -> tuple[str, str]:
    cell = row.cells[0].cell
    axes = {key: value for key, value in axes_of(row.cells[0]).items() if key not in data_axes}
    rest = ", ".join(f"{key.rpartition('.')[2]}={format_value(value)}" for key, value in axes.items())
    return f"{cell.variant} [{rest}]" if rest else cell.variant, _data_name(cell.spec.data.canonical)


def _data_name(canonical: str) -> str:
    """Return a data set's name and its other options."""
    data = json.loads(canonical)
    more = ", ".join(f"{key}={format_value(value)}" for key, value in data.items() if key != "name")
    return f"{data['name']} ({more})" if more else str(data["name"])


def _values(rows: Mapping[str, Row], methods: Sequence[str], metric: str) -> dict[str, list[float]]:
    """Return each method's values over the seeds on a data set; empty for a missing method."""
    return {name: rows[name].values(metric) if name in rows else [] for name in methods}


def _require(
    methods: int,
    datasets: int,
    dropped: Sequence[tuple[str, Sequence[str]]],
    spec: CriticalDifferenceFigure,
) -> None:
    diagram = f"a critical-difference diagram ({spec.test})"
    if methods < FEWEST_METHODS:
        raise NothingToDrawError(f"{diagram} needs {FEWEST_METHODS} methods or more, got {methods}")
    needed, complete = needed_datasets(methods, spec), datasets - len(dropped)
    if complete < needed:
        sets = number_of(needed, "data set")
        rule = f"{diagram} of {number_of(methods, 'method')} needs {sets} that all of them have"
        lost = f": {dropped_text(dropped)}" if dropped else ""
        raise NothingToDrawError(f"{rule}, got {complete}{lost}")


def dropped_text(dropped: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return `D (no run of se, ca)` for each excluded data set, shortened if there are many."""
    return listed([f"{name} (no run of {listed(methods)})" for name, methods in dropped])


def friedman_p(ranks: Any) -> float:
    """Return the p-value of Friedman's test for ranks (data sets, methods).

    The chi-square approximation needs more than 10 data sets and 5 methods. For fewer, Demšar (2006, section
    3.2.2) refers to the exact distribution. Here the ranks of each data set are permuted instead, with a
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
    """Return the smallest number of data sets on which the diagram can distinguish any two methods.

    The number follows from the tests in Demšar (2006). Friedman's smallest p-value of n data sets is
    (k!)^(1-n) for k methods, if all n rank them alike. Nemenyi's critical difference must be below k - 1, the
    largest difference of average ranks. Wilcoxon's smallest p-value is 2^(1-n), which Holm compares with
    alpha over the number of pairs.
    """

    def suffices(datasets: int) -> bool:
        if math.factorial(methods) ** (1 - datasets) >= spec.alpha:
            return False
        if spec.test == "wilcoxon":
            return 2.0 ** (1 - datasets) <= spec.alpha / math.comb(methods, 2)
        return nemenyi_difference(methods, datasets, spec.alpha) < methods - 1

    return next(datasets for datasets in count(2) if suffices(datasets))


def nemenyi_difference(methods: int, datasets: int, alpha: float) -> float:
    """Return Nemenyi's critical difference of average ranks."""
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


def _p_value(wilcoxon: Any, pair_differences: Sequence[float]) -> float:
    return float(wilcoxon(pair_differences).pvalue) if any(pair_differences) else 1.0


def holm_rejected(p: Mapping[tuple[int, int], float], alpha: float) -> set[tuple[int, int]]:
    """Return the pairs that Holm's step-down procedure rejects."""
    rejected: set[tuple[int, int]] = set()
    for step, (pair, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        if value > alpha / (len(p) - step):
            break
        rejected.add(pair)
    return rejected


def _groups(count: int, same: set[tuple[int, int]] | None) -> tuple[tuple[int, int], ...]:
    """Return the maximal ranges of ranks within which no pair differs; one range of all for None."""
    if same is None:
        return ((0, count - 1),)
    stretches = [(i, j) for i, j in same if all(p in same for p in combinations(range(i, j + 1), 2))]
    longest = [a for a in stretches if not any(b != a and b[0] <= a[0] and a[1] <= b[1] for b in stretches)]
    return tuple(sorted(longest))
