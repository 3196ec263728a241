"""Comparisons that may be looked at after every seed, with the error held.

The test is the Bayes factor of a paired t test with a normal prior on the standardised effect and the
right Haar prior on the scale, an e-process for normal differences of unknown variance: under no effect it
exceeds 1/a at any time, ever, with probability at most a (Ville's inequality; Lai 1976; Hendriksen, de
Heide and Grünwald 2021; Wang and Ramdas 2025). So seeds may be added one by one, a stopped search may be
taken up again, and its limit may be raised, without a correction. What this costs: at 20 seeds t must
exceed 3.6 where a test planned for 20 seeds needs 2.1, and nothing is decided before four seeds. A
difference of two standard deviations of the paired differences is decided after 6 seeds on average (9 in a
family of six comparisons), one of a single standard deviation in 83 % (60 %) of cases within 20.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ema_lab.statistics.family import holm
from ema_lab.statistics.paired import SIGNIFICANCE, PairedDifference
from ema_lab.statistics.summary import Summary, summarise

PRIOR_VARIANCE = 4.0  # of the standardised effect: decides clear effects sooner than 1, others as soon
MIN_SEEDS = 3  # two equal differences of a coarse metric would be decided at once
Decision = Literal["better", "worse", "equal", "open"]


@dataclass(frozen=True)
class Followed:
    """One comparison so far.

    Attributes:
        count: Common seeds. `mean`: of the differences; NaN without one.
        low: Lower bound of the always-valid interval (-inf while nothing is known); `high` its upper.
        p: The always-valid p-value of this comparison alone.
    """

    count: int
    mean: float
    low: float
    high: float
    p: float

    @property
    def difference(self) -> PairedDifference:
        """The mean with its interval; without bounds while it is open, and where looks exclude each other."""
        is_bounded = not math.isinf(self.low) and self.low <= self.high
        bounds = (self.low, self.high) if is_bounded else (math.nan, math.nan)
        return PairedDifference(self.mean, *bounds, self.count)


def e_value(differences: Sequence[float]) -> float:
    """Return the evidence against no difference: at most 1 on average under it. 1 below two differences."""
    return _evidence(summarise(differences)) if differences else 1.0


def _evidence(seen: Summary) -> float:
    if not seen.has_spread:
        return 1.0  # equal differences say nothing of a normal distribution
    squared = (seen.mean / seen.standard_error) ** 2 / (seen.count - 1)
    spread = 1 + seen.count * PRIOR_VARIANCE
    log = -0.5 * math.log(spread) + 0.5 * seen.count * (math.log1p(squared) - math.log1p(squared / spread))
    return math.exp(min(log, 700.0))


def confidence_half_width(seen: Summary, significance: float) -> float:
    """Return half the width of the always-valid interval of the mean; infinite while it is unbounded."""
    if not seen.has_spread:
        return math.inf
    spread = 1 + seen.count * PRIOR_VARIANCE
    bound = math.exp(math.log(spread / significance**2) / seen.count)
    if bound >= spread:
        return math.inf
    squared = (bound - 1) / (1 - bound / spread)
    return math.sqrt((seen.count - 1) * squared) * seen.standard_error


def follow(differences: Sequence[float], comparisons: int = 1) -> Followed:
    """Return where a comparison stands after all its seeds, looked at after each of them.

    Args:
        differences: Variant minus baseline, in the order of the seeds.
        comparisons: How many there are: the intervals hold for all of them together (Bonferroni).
    """
    largest, low, high = 1.0, -math.inf, math.inf
    for count in range(MIN_SEEDS, len(differences) + 1):
        seen = summarise(differences[:count])
        largest = max(largest, _evidence(seen))
        half = confidence_half_width(seen, SIGNIFICANCE / comparisons)
        low, high = max(low, seen.mean - half), min(high, seen.mean + half)
    mean = summarise(differences).mean if differences else math.nan
    return Followed(len(differences), mean, low, high, 1 / largest)


def decide(followed: Sequence[Followed], sign: int, margin: float = 0.0) -> list[Decision]:
    """Return what is decided of each comparison.

    Different: the always-valid p-values, Holm-corrected over all comparisons; the chance of calling any
    equal rows different is at most 5 %. Equal: the whole interval lies within the margin; the chance of
    calling any rows equal that differ by the margin or more is at most 5 %.

    Args:
        followed: All comparisons with the baseline.
        sign: +1 where more is better, -1 where less is.
        margin: Differences below it do not matter; 0 never calls two rows equal.
    """
    decisions: list[Decision] = []
    for one, p in zip(followed, holm([one.p for one in followed]), strict=True):
        if p < SIGNIFICANCE:
            decisions.append("better" if sign * one.mean > 0 else "worse")
        elif margin > 0 and -margin < one.low and one.high < margin:
            decisions.append("equal")
        else:
            decisions.append("open")
    return decisions
