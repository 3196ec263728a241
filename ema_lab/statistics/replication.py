"""New seeds beside an earlier mean, such as a published number: both are measurements.

The earlier mean of m seeds varies by s / √m about its own truth, as the new mean of n seeds varies by s / √n.
Only the new seeds are known one by one, so their standard deviation s stands for both. The difference of the
two means then follows Student's t with n - 1 degrees of freedom and the standard error s √(1/n + 1/m). An
earlier mean taken as exact would instead be contradicted by 16 % of true repetitions at n = 3 and m = 1, and
by 64 % at n = 20.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ema_lab.statistics.equivalence import equivalence_p
from ema_lab.statistics.paired import SIGNIFICANCE
from ema_lab.statistics.summary import Summary, summarise, t_quantile


@dataclass(frozen=True)
class Replication:
    """New seeds, and the number of seeds behind the earlier mean.

    Attributes:
        summary: Summary of the new seeds.
        earlier_seeds: Number of seeds behind the earlier mean.
    """

    summary: Summary
    earlier_seeds: int

    @property
    def standard_error(self) -> float:
        """Standard error of the difference of the two means."""
        return self.summary.std * math.sqrt(1 / self.summary.count + 1 / self.earlier_seeds)

    @property
    def is_testable(self) -> bool:
        """Whether the new seeds differ, so that their spread is known."""
        return self.summary.has_spread

    @property
    def interval(self) -> tuple[float, float]:
        """95 % prediction interval of the earlier mean, given the new seeds. NaN if untestable."""
        if not self.is_testable:
            return math.nan, math.nan
        half = t_quantile(self.summary.count - 1) * self.standard_error
        return self.summary.mean - half, self.summary.mean + half

    def p_of_difference(self, earlier: float, rounding: float = 0.0) -> float:
        """Return the two-sided p-value of equal truths; NaN if untestable.

        Args:
            earlier: The earlier mean.
            rounding: Largest difference between it and the number before rounding. Any number in this range
                may be meant, so the nearest to the new mean counts.
        """
        if not self.is_testable:
            return math.nan
        from scipy.special import stdtr

        distance = max(0.0, abs(self.summary.mean - earlier) - rounding)
        return float(2 * stdtr(self.summary.count - 1, -distance / self.standard_error))

    def p_of_agreement(self, earlier: float, margin: float, rounding: float = 0.0) -> float:
        """Return the p-value of two one-sided tests that the truths differ by less than `margin`.

        Of the numbers that `rounding` allows, the farthest from the new mean counts. NaN if untestable.
        """
        if not self.is_testable:
            return math.nan
        distance = abs(self.summary.mean - earlier) + rounding
        return equivalence_p(distance, self.standard_error, self.summary.count - 1, margin)

    def bound(self, earlier: float, rounding: float = 0.0, significance: float = SIGNIFICANCE) -> float:
        """Return the smallest margin within which `p_of_agreement` would be below `significance`."""
        if not self.is_testable:
            return math.nan
        distance = abs(self.summary.mean - earlier) + rounding
        return distance + t_quantile(self.summary.count - 1, 1 - 2 * significance) * self.standard_error


def replicate(values: Sequence[float], earlier_seeds: int) -> Replication:
    """Return the comparison of new seeds with an earlier mean.

    Raises:
        ValueError: If no value is given, or `earlier_seeds` is below 1.
    """
    if earlier_seeds < 1:
        raise ValueError(f"an earlier mean needs at least one seed, got {earlier_seeds}")
    return Replication(summarise(values), earlier_seeds)
