"""Equivalence by two one-sided tests (TOST): a difference is shown to be smaller than a margin.

A difference that is not significant does not show equivalence: with few seeds a test rarely finds one, even
where rows differ.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ema_lab.statistics.summary import summarise


@dataclass(frozen=True)
class EquivalenceTest:
    """Result of two one-sided tests. `p` is NaN for an untestable pair, and `why` gives the reason."""

    p: float
    count: int
    why: str = ""


def equivalence_p(mean: float, standard_error: float, degrees: float, margin: float) -> float:
    """Return the p-value of two one-sided t tests (Schuirmann 1987): the larger of both.

    The null hypothesis is a true difference of at least `margin`, in either direction.

    Args:
        mean: Estimated difference.
        standard_error: Standard error of the estimate, above zero, in the unit of `mean`.
        degrees: Degrees of freedom of the standard error.
        margin: Smallest relevant difference, above zero, in the unit of `mean`.
    """
    from scipy.special import stdtr

    return float(stdtr(degrees, (abs(mean) - margin) / standard_error))


def paired_equivalence(differences: Sequence[float], margin: float) -> EquivalenceTest:
    """Test whether the mean of paired differences lies within ±`margin`, by two one-sided paired t tests.

    Equal differences are untestable, as in `paired_test`. The result equals statsmodels' `ttost_paired`,
    whose import takes longer than a report.
    """
    count = len(differences)
    if count < 2:
        return EquivalenceTest(math.nan, count, "a test needs two pairs")
    summary = summarise(differences)
    if not summary.has_spread:
        return EquivalenceTest(math.nan, count, "all differences are equal")
    return EquivalenceTest(equivalence_p(summary.mean, summary.standard_error, count - 1, margin), count)
