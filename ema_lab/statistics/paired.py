"""Paired differences over common seeds: estimate, interval, tests, effect size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ema_lab.statistics.summary import ROUNDING, summarise
from ema_lab.statistics.ties import TIED

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference over `count` common seeds and its 95 % t interval.

    The bounds are NaN below two seeds, and where all differences are equal.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def has_interval(self) -> bool:
        """Whether its bounds are known."""
        return not math.isnan(self.low)


@dataclass(frozen=True)
class PairedTest:
    """A two-sided paired t test; `p` is NaN where there is nothing to test, and `why` says so."""

    t: float
    p: float
    count: int
    why: str = ""


@dataclass(frozen=True)
class WilcoxonTest:
    """A two-sided Wilcoxon signed-rank test; `p` is None where it cannot reach 0.05, and `why` says so."""

    p: float | None
    count: int
    why: str = ""


def paired_difference(differences: Sequence[float]) -> PairedDifference:
    """Estimate the mean of paired differences (variant minus baseline, a seed each).

    The interval is Student's t: with few seeds a percentile bootstrap covers far too little.
    """
    summary = summarise(differences)
    return PairedDifference(summary.mean, *summary.interval, summary.count)


def paired_test(differences: Sequence[float]) -> PairedTest:
    """Test whether the mean of paired differences is zero, with Student's t (two-sided).

    Equal differences have no spread to test against: t would be infinite with two pairs of a coarse metric.
    """
    count = len(differences)
    if count < 2:
        return PairedTest(math.nan, math.nan, count, "a test needs two pairs")
    summary = summarise(differences)
    if not summary.has_spread:
        return PairedTest(math.nan, math.nan, count, "all differences are equal")
    from scipy.special import stdtr

    t = summary.mean / summary.standard_error
    return PairedTest(t, float(2 * stdtr(count - 1, -abs(t))), count)


def wilcoxon_test(differences: Sequence[float]) -> WilcoxonTest:
    """Test the same without a normal distribution, by signed ranks (Wilcoxon 1945); exact without ties.

    Differences that are equal but for rounding are ties, as percentages of whole numbers of images are.
    """
    unit = max(ROUNDING, TIED * max(map(abs, differences), default=0.0))
    pairs = [steps for difference in differences if (steps := round(difference / unit))]
    if len(pairs) < wilcoxon_pairs_needed(1):  # five: the smallest two-sided p-value is 2 / 2^5 = 0.0625
        why = f"{len(pairs)} differing pairs cannot reach p = 0.05"
        return WilcoxonTest(None, len(pairs), why)
    from scipy.stats import wilcoxon

    return WilcoxonTest(float(wilcoxon(pairs).pvalue), len(pairs))


def wilcoxon_pairs_needed(comparisons: int) -> int:
    """Return how many differing pairs the signed-rank test needs to reach 0.05 at Holm's first step.

    The smallest two-sided p-value of n pairs is 2 / 2^n.
    """
    return math.ceil(math.log2(2 * comparisons / SIGNIFICANCE))


def effect_size(differences: Sequence[float]) -> float:
    """Return Hedges' g of paired differences: Cohen's d_z with the correction J for few pairs.

    d_z is the mean over the sample standard deviation of the differences; J = 1 - 3 / (4 (n - 1) - 1)
    (Hedges 1981; Lakens 2013). NaN below three pairs (J is not defined at two) and without spread.
    """
    if len(differences) < 3:
        return math.nan
    summary = summarise(differences)
    if not summary.has_spread:
        return math.nan
    correction = 1 - 3 / (4 * (summary.count - 1) - 1)
    return correction * summary.mean / summary.std
