"""Means over a handful of seeds, and paired differences."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1) of `count` seeds; the latter is NaN below two."""

    mean: float
    std: float
    count: int


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference over `count` common seeds and its 95 % t interval; NaN bounds below two."""

    mean: float
    low: float
    high: float
    count: int


def summarise(values: Sequence[float]) -> Summary:
    """Summarise the seeds of one row.

    Raises:
        ValueError: If there is none.
    """
    if not values:
        raise ValueError("summarise needs at least one value")
    std = statistics.stdev(values) if len(values) > 1 else math.nan
    return Summary(statistics.fmean(values), std, len(values))


def paired_difference(differences: Sequence[float]) -> PairedDifference:
    """Estimate the mean of paired differences (variant minus baseline, a seed each).

    The interval is Student's t: with few seeds a percentile bootstrap covers far too little.
    """
    summary = summarise(differences)
    if summary.count < 2:
        return PairedDifference(summary.mean, math.nan, math.nan, summary.count)
    from scipy.stats import t

    quantile = float(t.ppf((1 + CONFIDENCE) / 2, summary.count - 1))
    half = quantile * summary.std / math.sqrt(summary.count)
    return PairedDifference(summary.mean, summary.mean - half, summary.mean + half, summary.count)
