"""Many comparisons at once: Holm's correction, the best of a column, wins over data sets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from ema_lab.reports.statistics.paired import SIGNIFICANCE, paired_test
from ema_lab.reports.statistics.summary import summarise

Rank = Literal["best", "second", "tie"]
BySeed = Mapping[object, float]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979), in the given order.

    A comparison that cannot be tested (NaN) stays NaN, yet counts: it was meant to be made.
    Equal to statsmodels' `multipletests(method="holm")`, whose import takes longer than a whole report.
    """
    count = len(p_values)
    corrected = [math.nan] * count
    largest = 0.0
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    for step, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, (count - step) * p))
        corrected[place] = largest
    return corrected


def rank_rows(rows: Sequence[BySeed], sign: int) -> list[Rank | None]:
    """Return which rows are best, second or tied with the best, as far as paired t tests support it.

    A row is best only if it is better than every other, with Holm's correction over all pairs of rows:
    the same data choose which row is called best, so no smaller family would hold the error. The second
    is better than all rows below it. Where there is no best, all rows that do not differ from the one
    with the best mean are ties.

    Args:
        rows: Values by seed (or by data set and seed), one mapping a row; empty for a row without runs.
        sign: +1 where more is better, -1 where less is.
    """
    present = [place for place, values in enumerate(rows) if values]
    order = sorted(present, key=lambda place: -sign * summarise(list(rows[place].values())).mean)
    ranks: list[Rank | None] = [None] * len(rows)
    if len(order) < 2:
        return ranks
    beaten = _beaten(rows, order, sign)
    first, *others = order
    ties = [place for place in others if (first, place) not in beaten]
    if ties:
        for place in (first, *ties):
            ranks[place] = "tie"
        return ranks
    ranks[first] = "best"
    second, *below = others
    if below and all((second, place) in beaten for place in below):
        ranks[second] = "second"
    return ranks


def _beaten(rows: Sequence[BySeed], order: Sequence[int], sign: int) -> set[tuple[int, int]]:
    """Return the pairs (better, worse) that differ significantly, all pairs of rows being the family."""
    pairs = list(combinations(order, 2))
    tests = [
        paired_test([sign * (rows[a][key] - rows[b][key]) for key in rows[a].keys() & rows[b].keys()])
        for a, b in pairs
    ]
    corrected = holm([test.p for test in tests])
    return {
        pair if test.t > 0 else pair[::-1]
        for pair, test, p in zip(pairs, tests, corrected, strict=True)
        if p < SIGNIFICANCE
    }


@dataclass(frozen=True)
class WinTieLoss:
    """Data sets on which a row is significantly better than the baseline, not different, and worse."""

    wins: int
    ties: int
    losses: int

    def __str__(self) -> str:
        return f"{self.wins}/{self.ties}/{self.losses}"


def win_tie_loss(differences: Sequence[tuple[float, float]], sign: int) -> WinTieLoss:
    """Count data sets by (mean difference, corrected p-value); a NaN p-value supports nothing: a tie."""
    wins = sum(p < SIGNIFICANCE and sign * mean > 0 for mean, p in differences)
    losses = sum(p < SIGNIFICANCE and sign * mean < 0 for mean, p in differences)
    return WinTieLoss(wins, len(differences) - wins - losses, losses)
