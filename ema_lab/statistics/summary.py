"""A handful of seeds in a few numbers: mean, sample standard deviation, standard error, interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.95
BOOTSTRAP_SEEDS = 20  # below, the bootstrap covers too little: the plain one 76 % at three seeds
RESAMPLES = 10_000
ROUNDING = 1e-12  # of the mean, or of 1 where that is smaller: values that differ by no more are equal


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1) of `count` seeds; the latter is NaN below two."""

    mean: float
    std: float
    count: int

    @property
    def standard_error(self) -> float:
        """The standard error of the mean, from the sample standard deviation (n - 1)."""
        return self.std / math.sqrt(self.count)

    @property
    def has_spread(self) -> bool:
        """Whether the values differ. Equal ones, common where a metric is coarse, show no uncertainty."""
        return self.count > 1 and self.standard_error > ROUNDING * max(1.0, abs(self.mean))

    @property
    def is_zero(self) -> bool:
        """Whether all values, differences say, are zero."""
        return self.count > 1 and not self.has_spread and abs(self.mean) <= ROUNDING

    @property
    def half_width(self) -> float:
        """Half of the mean's 95 % t interval; NaN below two seeds, and where all values are equal."""
        if not self.has_spread:
            return math.nan
        return t_quantile(self.count - 1) * self.standard_error

    @property
    def interval(self) -> tuple[float, float]:
        """The mean's 95 % t interval."""
        return self.mean - self.half_width, self.mean + self.half_width


@cache
def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """Return the factor of a two-sided t interval: 4.303 at two degrees of freedom."""
    from scipy.special import stdtrit  # what scipy.stats.t.ppf calls, half a second sooner

    return float(stdtrit(degrees, (1 + confidence) / 2))


def summarise(values: Sequence[float]) -> Summary:
    """Summarise the seeds of one row.

    Raises:
        ValueError: If there is none.
    """
    if not values:
        raise ValueError("summarise needs at least one value")
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Summary(mean, math.nan, 1)
    squares = math.fsum((value - mean) ** 2 for value in values)  # statistics.stdev takes ten times longer
    return Summary(mean, math.sqrt(squares / (count - 1)), count)


def bootstrap_interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean, expanded for small samples.

    The plain percentile interval (Efron 1979) is too narrow by the factor that separates the normal from
    the t quantile and n - 1 from n: it covers 92.9 % at 20 seeds. Its percentiles are moved outwards so
    that it is as wide as the t interval on normal data (Hesterberg 2015, section 5.3).

    Raises:
        ValueError: Below 20 seeds, where even so it covers too little.
    """
    if len(values) < BOOTSTRAP_SEEDS:
        rule = f"the percentile bootstrap needs at least {BOOTSTRAP_SEEDS} seeds"
        raise ValueError(f"{rule}, got {len(values)}")
    import numpy as np
    from scipy.special import ndtr

    count = len(values)
    tail = float(ndtr(-math.sqrt(count / (count - 1)) * t_quantile(count - 1)))
    random = np.random.default_rng(seed)
    means = random.choice(np.asarray(values), (RESAMPLES, count)).mean(axis=1)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
