"""Multiple comparisons: Holm's correction, ranks of a table column, wins over data sets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ema_lab.statistics.paired import SIGNIFICANCE
from ema_lab.statistics.summary import ROUNDING, summarise

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]

Rank = Literal["best", "second", "tie", "untested"]
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


def rank_rows(rows: Sequence[BySeed], sign: int, groups: Sequence[str] = ()) -> list[Rank | None]:
    """Rank rows by paired t tests: best, second, tied with the best, or untested.

    A row is best only if it beats every other row under Holm's correction over all pairs of rows. The
    same data select the candidate, so a smaller family would not control the error. The second row beats
    all rows below it. If no row is best, the row with the best mean ties with every tested row that does
    not differ from it. A row that cannot be tested against the best mean is untested.

    Args:
        rows: Values by seed (or by data set and seed), one mapping per row. Empty for a row without runs.
        sign: +1 if higher is better, -1 if lower is.
        groups: Group of each row, to rank rows within groups. The pairs of all groups form one family.
    """
    import numpy as np

    groups = groups or [""] * len(rows)
    orders: dict[str, list[int]] = {}
    for index, values in enumerate(rows):
        if values:
            orders.setdefault(groups[index], []).append(index)
    for order in orders.values():
        order.sort(key=lambda index: -sign * summarise(list(rows[index].values())).mean)
    seeds = list(dict.fromkeys(seed for row in rows for seed in row))
    table = np.array([[sign * row.get(seed, math.nan) for seed in seeds] for row in rows])
    tests = [_pair_tests(table[order]) for order in orders.values()]
    corrected = _holm(np.concatenate([p for _, p in tests])) if tests else np.empty(0)
    ranks: list[Rank | None] = [None] * len(rows)
    start = 0
    for order, (t, p) in zip(orders.values(), tests, strict=True):
        group_ranks = _ranks(len(order), t, corrected[start : start + len(p)])
        start += len(p)
        for index, rank in zip(order, group_ranks, strict=True):
            ranks[index] = rank
    return ranks


def _pair_tests(rows: "Numbers") -> "tuple[Numbers, Numbers]":
    """Return t and p of the paired t tests of all pairs of rows, in the order of `itertools.combinations`.

    The loop tests one row against all rows below it, because thousands of rows have millions of pairs.
    Results equal those of `paired_test`, except that p is 1 if all differences are zero: identical rows
    are tied, not untested.

    Args:
        rows: Values of shape (rows, seeds), NaN if missing.
    """
    import numpy as np
    from scipy.special import stdtr

    all_t, all_p = [np.empty(0)], [np.empty(0)]
    for index in range(len(rows) - 1):
        differences = rows[index] - rows[index + 1 :]
        is_paired = ~np.isnan(differences)
        counts = is_paired.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            means = np.where(is_paired, differences, 0.0).sum(axis=1) / counts
            squares = (np.where(is_paired, differences - means[:, None], 0.0) ** 2).sum(axis=1)
            errors = np.sqrt(squares / (counts - 1) / counts)
            spread = (counts > 1) & (errors > ROUNDING * np.maximum(1.0, np.abs(means)))
            t = np.where(spread, means / errors, math.nan)
        p = 2 * stdtr(counts - 1, -np.abs(t))
        equal = (counts > 1) & ~spread & (np.abs(means) <= ROUNDING)
        all_t.append(np.where(equal, 0.0, t))
        all_p.append(np.where(equal, 1.0, p))
    return np.concatenate(all_t), np.concatenate(all_p)


def _ranks(count: int, t: "Numbers", p: "Numbers") -> list[Rank | None]:
    """Return the ranks of rows sorted by mean, best first, from the tests of all their pairs."""
    ranks: list[Rank | None] = [None] * count
    outcomes = [_outcome(*test) for test in zip(t[: count - 1], p[: count - 1], strict=True)]
    for index, outcome in enumerate(outcomes, start=1):
        if outcome in {"tie", "untested"}:
            ranks[index] = outcome
    if "tie" in outcomes:
        ranks[0] = "tie"
    elif count > 1 and set(outcomes) == {"better"}:
        ranks[0] = "best"
        below = slice(count - 1, 2 * count - 3)  # pairs of the second row, after the first row's count - 1
        if count > 2 and all(_outcome(*test) == "better" for test in zip(t[below], p[below], strict=True)):
            ranks[1] = "second"
    return ranks


def _outcome(t: float, p: float) -> Literal["better", "worse", "tie", "untested"]:
    if math.isnan(p):
        return "untested"
    return "tie" if p >= SIGNIFICANCE else "better" if t > 0 else "worse"


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
