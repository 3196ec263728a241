"""Group-sequential comparisons: t tests after every seed, up to a number of seeds fixed in advance.

The function of Hwang, Shih and DeCani (1990) with gamma = -6 spends the error of 5 % over the looks: little
of it early, most of it near the last seed. The boundaries are exact for normal differences of unknown
deviation. Without an effect, u = sum / sqrt(sum of squares) of the differences is a Markov chain, because
the direction of a normal sample is independent of its length. Each boundary therefore follows from one
integration per look (Armitage, McPherson and Rowe 1969, for z instead of t).

The p-value of a look is the smallest level at which the look reaches its boundary. The p-value of a
comparison is the smallest over all looks so far. It is valid at every look and may enter Holm's correction
(Liu and Anderson 2008). The interval is the repeated confidence interval of Jennison and Turnbull (1989),
which holds at all looks at once.

A comparison is futile if its planned seeds would decide it with a predictive probability below 5 %. The
rule is not binding: the error is held even if a futile comparison gets more seeds.

Against a t test of 20 seeds fixed in advance, the power falls by at most 3 points for one comparison and by
at most 5 points in a family of six (`tests/statistics/test_group_sequential.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ema_lab.statistics.paired import SIGNIFICANCE
from ema_lab.statistics.sequential import MIN_SEEDS, SequentialComparison, compare_sequentially
from ema_lab.statistics.summary import summarise

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]

MOST_PLANNED = 100  # seeds; the time of a design grows with them
SPENDING = -6.0  # gamma of the spending function
FUTILE = 0.05  # predictive power below which no seed is added
LEAST_LEVEL = 1e-6  # smallest p-value
CELL, MAX_Z = 0.05, 7.0  # width and end of the cells of |z| that the integration uses


@dataclass(frozen=True, eq=False)
class Design:
    """Boundaries of the looks after `MIN_SEEDS`, ..., `max_seeds` seeds, for a range of levels.

    Attributes:
        max_seeds: Number of seeds of the last look.
        levels: Total errors, rising.
        boundaries: Boundary of every look (down) and level (across), as |z| of the same two-sided p as |t|.
    """

    max_seeds: int
    levels: "Numbers"
    boundaries: "Numbers"

    def critical(self, count: int, level: float) -> float:
        """Return the |t| that `count` seeds must reach at a total error of `level`."""
        import numpy as np

        z = np.interp(math.log(level), np.log(self.levels), self.boundaries[count - MIN_SEEDS])
        return float(_t_of_z(z, count))

    def level(self, count: int, t: float) -> float:
        """Return the smallest total error at which `t` reaches the boundary of `count` seeds."""
        import numpy as np
        from scipy.special import ndtri, stdtr

        z = -ndtri(stdtr(count - 1, -abs(t)))
        boundaries = self.boundaries[count - MIN_SEEDS]
        return math.exp(np.interp(z, boundaries[::-1], np.log(self.levels)[::-1]))

    def futile_level(self, count: int, t: float) -> float:
        """Return the largest level at which further seeds are futile after `count` seeds; 0 if none is."""
        import numpy as np

        last = _t_of_z(self.boundaries[-1], self.max_seeds)
        is_futile = predictive_power(t, count, self.max_seeds, last) < FUTILE
        return float(np.max(self.levels[is_futile], initial=0.0))


def spent(count: int, max_seeds: int) -> float:
    """Return the share of the error that the looks up to `count` seeds may spend."""
    share = (count - MIN_SEEDS + 1) / (max_seeds - MIN_SEEDS + 1)
    return math.expm1(-SPENDING * share) / math.expm1(-SPENDING)


def predictive_power(t: float, count: int, max_seeds: int, critical: "Numbers") -> "Numbers":
    """Return the predictive probability that |t| exceeds `critical` at `max_seeds` seeds.

    The prior is flat. The mean of the future differences then follows the present one with Student's t, and
    the deviation is taken to stay as it is (Spiegelhalter, Freedman and Blackburn 1986).
    """
    from scipy.special import stdtr

    centre = abs(t) * math.sqrt(max_seeds / count)
    scale = math.sqrt((max_seeds - count) / count)
    upper = stdtr(count - 1, (centre - critical) / scale)
    lower = stdtr(count - 1, (-centre - critical) / scale)
    return upper + lower  # type: ignore[no-any-return]


@cache
def design_of(max_seeds: int) -> Design:
    """Return the design with a look after every seed up to `max_seeds`.

    Raises:
        ValueError: If `max_seeds` is not 3 to 100.
    """
    import numpy as np
    from scipy.special import ndtr

    if not MIN_SEEDS <= max_seeds <= MOST_PLANNED:
        raise ValueError(f"a design needs {MIN_SEEDS} to {MOST_PLANNED} seeds, got {max_seeds}")
    # All levels, not 5 % alone: a p-value is the smallest level that a look reaches, and Holm needs p-values.
    levels = np.union1d(np.geomspace(LEAST_LEVEL, 1.0, 121), SIGNIFICANCE)
    edges = np.linspace(0.0, MAX_Z, round(MAX_Z / CELL) + 1)
    tails = 2 * ndtr(-edges)
    # Probability of each cell of |z| without an earlier crossing, for every level, and of |z| > MAX_Z.
    mass = np.tile(tails[:-1] - tails[1:], (len(levels), 1))
    beyond = np.full(len(levels), tails[-1])
    boundaries, before = [], 0.0
    for count in range(MIN_SEEDS, max_seeds + 1):
        if count > MIN_SEEDS:
            step = _step(count - 1, edges)
            mass, beyond = mass @ step[:, :-1], mass @ step[:, -1]
        share = spent(count, max_seeds)
        boundaries.append(_cross(mass, beyond, levels * (share - before), edges))
        before = share
    return Design(max_seeds, levels, np.array(boundaries))


def _cross(mass: "Numbers", beyond: "Numbers", errors: "Numbers", edges: "Numbers") -> "Numbers":
    """Return the |z| that is crossed with probability `errors`, and remove what crosses from `mass`."""
    import numpy as np

    all_mass = np.column_stack([mass, beyond])
    tails = np.cumsum(all_mass[:, ::-1], axis=1)[:, ::-1]  # probability of |z| above each edge
    crossed = [np.interp(-error, -tail, edges) for error, tail in zip(errors, tails, strict=True)]
    bounds = np.array(crossed)
    # Comparisons that cross are decided. The others go on to the next look: of a cell, the part below the
    # bound.
    mass *= np.clip((bounds[:, None] - edges[:-1]) / np.diff(edges), 0.0, 1.0)
    return bounds


def _step(count: int, edges: "Numbers") -> "Numbers":
    """Return the probabilities of the cells of |z| after `count + 1` seeds, from the middle of each cell.

    The last column is that of |z| beyond the edges. With r = tan(psi) = new difference / sqrt(sum of
    squares), the new u is sqrt(1 + u^2) sin(psi + atan(u)). sqrt(count) r has Student's t distribution with
    `count` degrees of freedom.
    """
    import numpy as np
    from scipy.special import stdtr

    old = _u_of_z((edges[1:] + edges[:-1]) / 2, count)
    length, turn = np.hypot(1.0, old)[:, None], np.arctan(old)[:, None]
    angles = np.linspace(-math.pi / 2, math.pi / 2, 20_001)
    below = stdtr(count, math.sqrt(count) * np.tan(angles))
    ratio = _u_of_z(edges, count + 1) / length
    angle = np.arcsin(np.minimum(ratio, 1.0))

    def between(low: "Numbers", high: "Numbers") -> "Numbers":
        difference: Numbers = np.interp(high, angles, below) - np.interp(low, angles, below)
        return difference

    above = between(angle - turn, math.pi - angle - turn) + between(angle + turn, math.pi - angle + turn)
    # No angle leads to |u| above sqrt(1 + u^2).
    tails = np.where(ratio < 1.0, above, 0.0)
    return np.column_stack([tails[:, :-1] - tails[:, 1:], tails[:, -1]])


def _t_of_z(z: "Numbers | float", count: int) -> "Numbers":
    from scipy.special import ndtr, stdtrit

    return -stdtrit(count - 1, ndtr(-z))  # type: ignore[no-any-return]


def _u_of_z(z: "Numbers", count: int) -> "Numbers":
    import numpy as np

    t = _t_of_z(z, count)
    return t * np.sqrt(count / (count - 1 + t**2))


def compare_within(
    differences: Sequence[float], max_seeds: int, comparisons: int = 1
) -> SequentialComparison:
    """Compare a variant with the baseline after every seed, up to `max_seeds` fixed in advance.

    Args:
        differences: Variant minus baseline, in seed order.
        max_seeds: Most seeds, fixed before the first result.
        comparisons: Size of the family. The intervals hold for all comparisons together (Bonferroni).

    Raises:
        ValueError: If there are more differences than `max_seeds`.
    """
    if len(differences) > max_seeds:
        raise ValueError(f"the design ends at seed {max_seeds}, the differences at seed {len(differences)}")
    design, p, low, high = design_of(max_seeds), 1.0, -math.inf, math.inf
    futile_level = 0.0
    for count in range(MIN_SEEDS, len(differences) + 1):
        summary = summarise(differences[:count])
        if not summary.has_spread:
            continue
        t = summary.mean / summary.standard_error
        # The smallest p so far is valid at every look, so that a decided comparison stays decided.
        p = min(p, design.level(count, t))
        half = design.critical(count, SIGNIFICANCE / comparisons) * summary.standard_error
        low, high = max(low, summary.mean - half), min(high, summary.mean + half)
        if count == len(differences) < max_seeds:
            futile_level = design.futile_level(count, t)
    mean = summarise(differences).mean if differences else math.nan
    return SequentialComparison(len(differences), mean, low, high, p, futile_level)


def compare_decided(
    differences: Sequence[float], comparisons: int, max_seeds: int | None
) -> SequentialComparison:
    """Compare by the design of `max_seeds`, or by the always-valid test if no number was fixed (None)."""
    if max_seeds is None:
        return compare_sequentially(differences, comparisons)
    return compare_within(differences, max_seeds, comparisons)
