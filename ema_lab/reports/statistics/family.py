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


def rank_rows(rows: Sequence[BySeed], sign: int, groups: Sequence[str] = ()) -> list[Rank | None]:
    """Return which rows are best, second or tied with the best, as far as paired t tests support it.

    A row is best only if it is better than every other, with Holm's correction over all pairs of rows:
    the same data choose which row is called best, so no smaller family would hold the error. The second
    is better than all rows below it. Where there is no best, the row with the best mean and all that
    were tested and do not differ from it are ties; what cannot be tested is no tie.

    Args:
        rows: Values by seed (or by data set and seed), one mapping a row; empty for a row without runs.
        sign: +1 where more is better, -1 where less is.
        groups: The group of each row, where rows are ranked within groups; their pairs are one family.
    """
    groups = groups or [""] * len(rows)
    orders: dict[str, list[int]] = {}
    for place, values in enumerate(rows):
        if values:
            orders.setdefault(groups[place], []).append(place)
    for order in orders.values():
        order.sort(key=lambda place: -sign * summarise(list(rows[place].values())).mean)
    compared = _compared(rows, [pair for order in orders.values() for pair in combinations(order, 2)], sign)
    ranks: list[Rank | None] = [None] * len(rows)
    for order in orders.values():
        for place, rank in _ranks(order, compared).items():
            ranks[place] = rank
    return ranks


Pair = tuple[int, int]
Comparison = Literal["better", "worse", "equal", "untested"]


def _compared(rows: Sequence[BySeed], pairs: Sequence[Pair], sign: int) -> dict[Pair, Comparison]:
    """Return how the first row of each pair stands to the second, all pairs being the family."""
    tests = [
        paired_test([sign * (rows[a][key] - rows[b][key]) for key in rows[a].keys() & rows[b].keys()])
        for a, b in pairs
    ]
    found: dict[Pair, Comparison] = {}
    for pair, test, p in zip(pairs, tests, holm([test.p for test in tests]), strict=True):
        if math.isnan(p):
            found[pair] = "untested"
        else:
            found[pair] = "equal" if p >= SIGNIFICANCE else "better" if test.t > 0 else "worse"
    return found


def _ranks(order: Sequence[int], compared: Mapping[Pair, Comparison]) -> dict[int, Rank]:
    """Return the ranks that some rows get; `order` has the best mean first."""
    first, *others = order
    standing = {place: compared[first, place] for place in others}
    ties = [place for place, one in standing.items() if one == "equal"]
    if ties:
        return dict.fromkeys([first, *ties], "tie")
    if not others or set(standing.values()) != {"better"}:
        return {}
    second, *below = others
    if below and all(compared[second, place] == "better" for place in below):
        return {first: "best", second: "second"}
    return {first: "best"}


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
