"""Intervals of means over common seeds, without the differences between seeds that all rows share."""

import math
import statistics
from collections.abc import Mapping, Sequence

from ema_lab.statistics.paired import PairedDifference
from ema_lab.statistics.summary import t_quantile


def within_seeds(rows: Sequence[Mapping[object, float]]) -> list[PairedDifference] | None:
    """Return each row's mean with its 95 % within-seed interval (Cousineau 2005, with Morey's 2008 factor).

    Each seed's mean over the rows is replaced by the mean over all seeds, so that bars show what differs
    between rows. A row with one seed has no interval. The bounds of equal values are NaN, too.

    Args:
        rows: Values by seed of each row.

    Returns:
        None unless at least two rows have several seeds, and all such rows have the same.
    """
    several = [row for row in rows if len(row) > 1]
    if len(several) < 2 or any(row.keys() != several[0].keys() for row in several):
        return None
    seeds = list(several[0])
    means = {seed: statistics.fmean(row[seed] for row in several) for seed in seeds}
    factor = math.sqrt(len(several) / (len(several) - 1) / len(seeds)) * t_quantile(len(seeds) - 1)
    intervals = []
    for row in rows:
        mean = statistics.fmean(row.values())
        half = factor * statistics.stdev(row[seed] - means[seed] for seed in seeds) if len(row) > 1 else 0.0
        low, high = (mean - half, mean + half) if half > 1e-9 * abs(mean) else (math.nan, math.nan)
        intervals.append(PairedDifference(mean, low, high, len(row)))
    return intervals
