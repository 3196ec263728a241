"""Multiple comparisons: Holm's correction, ranks of a table column, wins over data sets."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from ema_lab.statistics.moderation import OWN_LEVEL, moderate, pairs_correlation
from ema_lab.statistics.paired import SIGNIFICANCE
from ema_lab.statistics.summary import ROUNDING

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]

Rank = Literal["best", "second", "untested"]
BySeed = Mapping[object, float]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-corrected p-values (Holm 1979) in the order of the input.

    An untestable comparison (NaN) stays NaN but counts towards the family, because it was planned.
    The result equals statsmodels' `multipletests(method="holm")`, whose import takes longer than a report.
    """
    import numpy as np

    return [float(p) for p in _holm(np.asarray(p_values, dtype=float))]


def _holm(p_values: "Numbers") -> "Numbers":
    import numpy as np

    count = len(p_values)
    order = np.argsort(p_values, kind="stable")[: count - int(np.isnan(p_values).sum())]  # NaN sorts last
    corrected = np.full(count, math.nan)
    # Holm multiplies the i-th smallest p (from 0) by the `count - i` hypotheses that are left. The running
    # maximum is the step-down rule: no hypothesis is rejected after one with a smaller p was kept.
    steps = np.minimum(1.0, (count - np.arange(len(order))) * p_values[order])
    corrected[order] = np.maximum.accumulate(steps)
    return corrected


def rank_rows(
    rows: Sequence[BySeed], sign: int, groups: Sequence[str] = (), *, pooled: bool = False
) -> list[Rank | None]:
    """Rank rows by paired t tests: best, second, or untested.

    The best row beats every other tested row, whatever the order of their means: with different seeds, the
    row with the best mean may lose every comparison over common seeds. Holm's correction counts all pairs of
    rows, because the same data select the candidate. The second row beats every other tested row except the
    best. An untested row shares no test with any row: it blocks no mark, and a caption must name it.

    Args:
        rows: Values by seed (or by data set and seed), one mapping per row. Empty for a row without runs.
        sign: +1 if higher is better, -1 if lower is.
        groups: Group of each row, to rank rows within groups. The pairs of all groups form one family.
        pooled: Whether the variances of a group's pairs are moderated by each other; a pair then also has to
            differ by its own variance at 4 %, as in `pooled.py`.
    """
    import numpy as np

    groups = groups or [""] * len(rows)
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    seeds = list(dict.fromkeys(seed for row in rows for seed in row))
    table = np.array([[sign * row.get(seed, math.nan) for seed in seeds] for row in rows])
    tests = [_pair_tests(table[indices], pooled=pooled) for indices in members.values()]
    corrected = _holm(np.concatenate([each.p for each in tests])) if tests else np.empty(0)
    ranks: list[Rank | None] = [None] * len(rows)
    start = 0
    for indices, each in zip(members.values(), tests, strict=True):
        p = np.maximum(each.own_p, corrected[start : start + len(each.p)])
        group_ranks = _ranks(len(indices), each.t, p)
        start += len(each.p)
        for index, rank in zip(indices, group_ranks, strict=True):
            ranks[index] = rank if rows[index] else None
    return ranks


def pair_count(groups: Sequence[str]) -> int:
    """Return the number of pairs of rows within groups: the family of the tests in `rank_rows`."""
    return sum(math.comb(count, 2) for count in Counter(groups).values())


class _PairTests(NamedTuple):
    """Tests of all pairs of rows, in the order of `itertools.combinations`. NaN if untestable.

    `own_p` is by a pair's own variance, scaled as `Contrast.own_p` is; `p`, which is to be corrected, is by
    the moderated variance if that is used.
    """

    t: "Numbers"
    own_p: "Numbers"
    p: "Numbers"


def _pair_tests(rows: "Numbers", *, pooled: bool) -> _PairTests:
    """Return the paired t tests of all pairs of rows.

    The loop tests one row against all rows below it, because thousands of rows have millions of pairs.
    Without pooling, results equal those of `paired_test`, except that p is 1 if all differences are zero:
    identical rows are tied, not untested.

    Args:
        rows: Values of shape (rows, seeds), NaN if missing.
        pooled: Whether variances are moderated.
    """
    import numpy as np

    all_means, all_errors, all_degrees = [np.empty(0)], [np.empty(0)], [np.empty(0)]
    for index in range(len(rows) - 1):
        differences = rows[index] - rows[index + 1 :]
        is_paired = ~np.isnan(differences)
        counts = is_paired.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            means = np.where(is_paired, differences, 0.0).sum(axis=1) / counts
            squares = (np.where(is_paired, differences - means[:, None], 0.0) ** 2).sum(axis=1)
            errors = np.sqrt(squares / (counts - 1) / counts)
            # Equal differences leave a spread of rounding errors, from which t would be huge.
            spread = (counts > 1) & (errors > ROUNDING * np.maximum(1.0, np.abs(means)))
        all_means.append(means)
        all_errors.append(np.where(spread, errors, 0.0))
        all_degrees.append(counts - 1.0)
    means, errors, degrees = map(np.concatenate, (all_means, all_errors, all_degrees))
    t, own_p = _t_tests(means, errors, degrees)
    if not pooled or len(means) < 2:
        return _PairTests(t, own_p, own_p)
    # `errors` belong to means: times the number of pairs, they give the variance of a difference.
    variances = errors**2 * (degrees + 1)
    moderated = moderate(variances, np.maximum(degrees, 0.0), pairs_correlation(len(rows)))
    ratios = np.sqrt(moderated.variances / np.where(variances > 0, variances, 1.0))
    _, p = _t_tests(means, errors * ratios, moderated.degrees)
    scaled = np.where(moderated.is_pooled, np.minimum(1.0, own_p * SIGNIFICANCE / OWN_LEVEL), own_p)
    return _PairTests(t, scaled, p)


def _t_tests(means: "Numbers", errors: "Numbers", degrees: "Numbers") -> "tuple[Numbers, Numbers]":
    """Return t and p of mean differences; NaN without an error, unless all differences are zero."""
    import numpy as np
    from scipy.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(errors > 0, means / errors, math.nan)
    p = 2 * stdtr(degrees, -np.abs(t))
    equal = (degrees > 0) & (errors == 0) & (np.abs(means) <= ROUNDING)
    return np.where(equal, 0.0, t), np.where(equal, 1.0, p)


def _ranks(count: int, t: "Numbers", p: "Numbers") -> list[Rank | None]:
    """Return the ranks of `count` rows from the tests of all their pairs, in the order of `_pair_tests`."""
    import numpy as np

    wins, tests = np.zeros(count, dtype=int), np.zeros(count, dtype=int)
    start = 0
    for index in range(count - 1):
        pairs = slice(start, start + count - 1 - index)
        start = pairs.stop
        significant, is_tested = p[pairs] < SIGNIFICANCE, ~np.isnan(p[pairs])
        wins[index] += (significant & (t[pairs] > 0)).sum()
        wins[index + 1 :] += significant & (t[pairs] < 0)
        tests[index] += is_tested.sum()
        tests[index + 1 :] += is_tested
    rivals = int((tests > 0).sum()) - 1
    has_best = rivals > 0 and rivals in wins
    ranks: list[Rank | None] = ["untested" if number == 0 else None for number in tests]
    for tested in np.flatnonzero(tests) if has_best else ():
        if wins[tested] == rivals:
            ranks[tested] = "best"
        elif wins[tested] == rivals - 1 and rivals > 1:  # it lost to the best row alone
            ranks[tested] = "second"
    return ranks


@dataclass(frozen=True)
class WinTieLoss:
    """Numbers of tested data sets on which a row is better than the baseline, not different, and worse."""

    wins: int
    ties: int
    losses: int

    def __str__(self) -> str:
        return f"{self.wins}/{self.ties}/{self.losses}"


def win_tie_loss(differences: Sequence[tuple[float, float]], sign: int) -> WinTieLoss:
    """Count wins, ties and losses from (mean difference, corrected p-value) pairs. NaN pairs do not count."""
    wins = sum(p < SIGNIFICANCE and sign * mean > 0 for mean, p in differences)
    losses = sum(p < SIGNIFICANCE and sign * mean < 0 for mean, p in differences)
    return WinTieLoss(wins, sum(p >= SIGNIFICANCE for _, p in differences), losses)
