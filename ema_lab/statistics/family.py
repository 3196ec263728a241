"""Many comparisons at once: Holm's correction, the best of a column, wins over data sets."""

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
    """Return p-values corrected for their number (Holm 1979), in the given order.

    A comparison that cannot be tested (NaN) stays NaN, yet counts: it was meant to be made.
    Equal to statsmodels' `multipletests(method="holm")`, whose import takes longer than a whole report.
    """
    import numpy as np

    return [float(p) for p in _holm(np.asarray(p_values, dtype=float))]


def _holm(p_values: "Numbers") -> "Numbers":
    import numpy as np

    count = len(p_values)
    order = np.argsort(p_values, kind="stable")[: count - int(np.isnan(p_values).sum())]  # NaN sorts last
    corrected = np.full(count, math.nan)
    steps = np.minimum(1.0, (count - np.arange(len(order))) * p_values[order])
    corrected[order] = np.maximum.accumulate(steps)
    return corrected


def rank_rows(rows: Sequence[BySeed], sign: int, groups: Sequence[str] = ()) -> list[Rank | None]:
    """Return which rows are best, second or tied with the best, as far as paired t tests support it.

    A row is best only if it is better than every other, with Holm's correction over all pairs of rows:
    the same data choose which row is called best, so no smaller family would hold the error. The second
    is better than all rows below it. Where there is no best, the row with the best mean and all that
    were tested and do not differ from it are ties; what cannot be tested against it is untested.

    Args:
        rows: Values by seed (or by data set and seed), one mapping a row; empty for a row without runs.
        sign: +1 where more is better, -1 where less is.
        groups: The group of each row, where rows are ranked within groups; their pairs are one family.
    """
    import numpy as np

    groups = groups or [""] * len(rows)
    orders: dict[str, list[int]] = {}
    for place, values in enumerate(rows):
        if values:
            orders.setdefault(groups[place], []).append(place)
    for order in orders.values():
        order.sort(key=lambda place: -sign * summarise(list(rows[place].values())).mean)
    seeds = list(dict.fromkeys(seed for row in rows for seed in row))
    table = np.array([[sign * row.get(seed, math.nan) for seed in seeds] for row in rows])
    tests = [_pair_tests(table[order]) for order in orders.values()]
    corrected = _holm(np.concatenate([p for _, p in tests])) if tests else np.empty(0)
    ranks: list[Rank | None] = [None] * len(rows)
    start = 0
    for order, (t, p) in zip(orders.values(), tests, strict=True):
        found = _ranks(len(order), t, corrected[start : start + len(p)])
        start += len(p)
        for place, rank in zip(order, found, strict=True):
            ranks[place] = rank
    return ranks


def _pair_tests(rows: "Numbers") -> "tuple[Numbers, Numbers]":
    """Return t and p of a paired t test of each row with each below it, first row first.

    One row at a time with all below it: a table of thousands of rows has millions of pairs. As `paired_test`,
    but where no seed differs at all p is 1: nothing speaks for a difference.

    Args:
        rows: A value for each row and seed, NaN where it is missing.
    """
    import numpy as np
    from scipy.special import stdtr

    all_t, all_p = [np.empty(0)], [np.empty(0)]
    for place in range(len(rows) - 1):
        differences = rows[place] - rows[place + 1 :]
        there = ~np.isnan(differences)
        counts = there.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            means = np.where(there, differences, 0.0).sum(axis=1) / counts
            squares = (np.where(there, differences - means[:, None], 0.0) ** 2).sum(axis=1)
            errors = np.sqrt(squares / (counts - 1) / counts)
            spread = (counts > 1) & (errors > ROUNDING * np.maximum(1.0, np.abs(means)))
            t = np.where(spread, means / errors, math.nan)
        p = 2 * stdtr(counts - 1, -np.abs(t))
        equal = (counts > 1) & ~spread & (np.abs(means) <= ROUNDING)
        all_t.append(np.where(equal, 0.0, t))
        all_p.append(np.where(equal, 1.0, p))
    return np.concatenate(all_t), np.concatenate(all_p)


def _ranks(count: int, t: "Numbers", p: "Numbers") -> list[Rank | None]:
    """Return the ranks of rows whose best mean is first, from the tests of all their pairs."""
    ranks: list[Rank | None] = [None] * count
    standing = [_standing(*test) for test in zip(t[: count - 1], p[: count - 1], strict=True)]
    for place, one in enumerate(standing, start=1):
        if one in {"tie", "untested"}:
            ranks[place] = one
    if "tie" in standing:
        ranks[0] = "tie"
    elif count > 1 and set(standing) == {"better"}:
        ranks[0] = "best"
        below = slice(count - 1, 2 * count - 3)
        if count > 2 and all(_standing(*test) == "better" for test in zip(t[below], p[below], strict=True)):
            ranks[1] = "second"
    return ranks


def _standing(t: float, p: float) -> Literal["better", "worse", "tie", "untested"]:
    if math.isnan(p):
        return "untested"
    return "tie" if p >= SIGNIFICANCE else "better" if t > 0 else "worse"


@dataclass(frozen=True)
class WinTieLoss:
    """Tested data sets on which a row is significantly better than the baseline, not different, and worse."""

    wins: int
    ties: int
    losses: int

    def __str__(self) -> str:
        return f"{self.wins}/{self.ties}/{self.losses}"


def win_tie_loss(differences: Sequence[tuple[float, float]], sign: int) -> WinTieLoss:
    """Count data sets by (mean difference, corrected p-value); NaN ones are left out."""
    wins = sum(p < SIGNIFICANCE and sign * mean > 0 for mean, p in differences)
    losses = sum(p < SIGNIFICANCE and sign * mean < 0 for mean, p in differences)
    return WinTieLoss(wins, sum(p >= SIGNIFICANCE for _, p in differences), losses)
