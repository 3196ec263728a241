"""Gain of pairing: variance of paired differences relative to that of unpaired ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ema_lab.statistics.paired import SIGNIFICANCE
from ema_lab.statistics.summary import summarise

MIN_PAIRS = 3


@dataclass(frozen=True)
class PairingRatio:
    """Variance of paired over unpaired differences, from 0 to 2, with its 95 % interval.

    1 means no correlation between a row and its baseline over seeds: pairing neither gains nor loses
    precision. Below 1, it makes intervals narrower by the square root of the ratio. All numbers are NaN if
    undefined, and `why` gives the reason.
    """

    ratio: float
    low: float
    high: float
    count: int
    why: str = ""


def pairing_ratio(row: Sequence[float], baseline: Sequence[float]) -> PairingRatio:
    """Return the ratio of the sample variance of the differences to the sum of both sample variances.

    The interval assumes normal values of equal variances. Sums and differences of the pairs are then
    independent, and the ratio of their variances is F distributed (Pitman 1939). With other variances it is
    approximate.

    Args:
        row: Values of a row, one per common seed.
        baseline: Values of its baseline for the same seeds.
    """
    count = len(row)
    if count < MIN_PAIRS:
        return PairingRatio(math.nan, math.nan, math.nan, count, "needs three pairs")
    from scipy.special import fdtri

    pairs = list(zip(row, baseline, strict=True))
    differences, sums = summarise([a - b for a, b in pairs]), summarise([a + b for a, b in pairs])
    if not differences.has_spread and not sums.has_spread:
        return PairingRatio(math.nan, math.nan, math.nan, count, "all values are equal")
    of_differences = differences.std**2 if differences.has_spread else 0.0
    of_sums = sums.std**2 if sums.has_spread else 0.0
    quantile = float(fdtri(count - 1, count - 1, 1 - SIGNIFICANCE / 2))

    def ratio(factor: float) -> float:
        # The variances of sums and differences add to twice the sum of both variances.
        return 2 * factor * of_differences / (factor * of_differences + of_sums)

    return PairingRatio(ratio(1.0), ratio(1 / quantile), ratio(quantile), count)
