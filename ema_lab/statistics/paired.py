"""Paired differences over common seeds: mean, interval, tests and effect size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ema_lab.statistics.summary import ROUNDING, summarise, t_quantile
from ema_lab.statistics.ties import TIE_TOLERANCE

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference over `count` common seeds with the bounds of its interval.

    The bounds are NaN below two seeds, and if all differences are equal.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def has_interval(self) -> bool:
        """Whether the interval has bounds."""
        return not math.isnan(self.low)


@dataclass(frozen=True)
class PairedTest:
    """Result of a two-sided paired t test. `p` is NaN for an untestable pair, and `why` gives the reason."""

    t: float
    p: float
    count: int
    why: str = ""


@dataclass(frozen=True)
class WilcoxonTest:
    """Result of a two-sided Wilcoxon signed-rank test over `count` differing pairs.

    `p` is None if the test cannot reach 0.05, and `why` gives the reason.
    """

    p: float | None
    count: int
    why: str = ""


def paired_difference(differences: Sequence[float], comparisons: int = 1) -> PairedDifference:
    """Estimate the mean of paired differences (variant minus baseline, one per seed).

    The interval is Student's t, because a percentile bootstrap covers far too little with few seeds.

    Args:
        differences: Variant minus baseline, one per seed.
        comparisons: Number of intervals that hold together with 95 % (Bonferroni). Each row's differences
            have a deviation of their own, for which Dunnett's critical value, of one pooled deviation, would
            not hold.

    Raises:
        ValueError: If `differences` is empty.
    """
    summary = summarise(differences)
    if comparisons == 1 or not summary.has_spread:
        return PairedDifference(summary.mean, *summary.interval, summary.count)
    half = t_quantile(summary.count - 1, 1 - SIGNIFICANCE / comparisons) * summary.standard_error
    return PairedDifference(summary.mean, summary.mean - half, summary.mean + half, summary.count)


def paired_test(differences: Sequence[float]) -> PairedTest:
    """Test whether the mean of paired differences is zero, by a two-sided paired t test.

    Equal differences are untestable: two equal pairs of a coarse metric would give an infinite t.
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
    """Test paired differences by signed ranks, without assuming normality (Wilcoxon 1945).

    The p-value is exact without ties. Differences that are equal up to rounding count as ties, because
    percentages of whole images differ in their last bits.
    """
    unit = max(ROUNDING, TIE_TOLERANCE * max(map(abs, differences), default=0.0))
    pairs = [steps for difference in differences if (steps := round(difference / unit))]
    if len(pairs) < wilcoxon_pairs_needed(1):  # five pairs: p is at least 2 / 2^5 = 0.0625
        why = f"{len(pairs)} differing pairs cannot reach p = 0.05"
        return WilcoxonTest(None, len(pairs), why)
    from scipy.stats import wilcoxon

    return WilcoxonTest(float(wilcoxon(pairs).pvalue), len(pairs))


def wilcoxon_pairs_needed(comparisons: int) -> int:
    """Return the number of differing pairs that the signed-rank test needs for 0.05 at Holm's first step.

    The smallest two-sided p-value of n pairs is 2 / 2^n.

    Args:
        comparisons: Number of comparisons in the family.
    """
    return math.ceil(math.log2(2 * comparisons / SIGNIFICANCE))


def effect_size(differences: Sequence[float]) -> float:
    """Return Hedges' g of paired differences: Cohen's d_z times the small-sample correction J.

    d_z is the mean divided by the sample standard deviation of the differences, and
    J = 1 - 3 / (4 (n - 1) - 1) (Hedges 1981; Lakens 2013). The result is NaN below three pairs, where J is
    undefined, and if all differences are equal.
    """
    if len(differences) < 3:
        return math.nan
    summary = summarise(differences)
    if not summary.has_spread:
        return math.nan
    correction = 1 - 3 / (4 * (summary.count - 1) - 1)
    return correction * summary.mean / summary.std
