"""Moderated variances: compared rows share degrees of freedom, as far as their variances agree.

Three seeds leave a row's own variance two degrees of freedom, and its paired t test little power. The
moderated variance (Smyth 2004) of a row with n - 1 degrees of freedom counts its own variance once and the
pooled variance of all rows w times:

    variance = max(own, (own + w pooled) / (1 + w)), with at most (1 + w) (n - 1) degrees of freedom.

A row never has less than its own variance. Two checks decide how much rows share:

1. An F test compares the variance of each row with the mean of all others, at 1 % over all rows. Rows with a
   clearly greater variance are left out of the pool and keep their own variance, so that a diverged run
   spoils its own row only.
2. Bartlett's test compares the variances of the others. From p = 0.5 on, the weight w is 2. Below, it falls
   in proportion to p, so that rows whose variances clearly differ share next to nothing.

Rows share a baseline, so that their variances are correlated. If the baseline deviates as much as the rows,
k rows of n seeds have k (n - 1) / (1 + (k - 1) / 4) degrees of freedom together, not k (n - 1).
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from numpy import bool_, float64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]
    Truths = NDArray[bool_]

MOST_WEIGHT = 2.0  # of the pooled variance relative to a row's own; 3 or more err with unequal rows
OUTLIER_LEVEL = 0.01  # of the check of single rows, over all rows
OWN_LEVEL = 0.04  # of the test by a row's own variance, which has to agree with that by the moderated one
EQUAL_ENOUGH = 0.5  # p of Bartlett's test from which on the weight is whole
SQUARED_CORRELATION = 0.25  # of differences to a common baseline: half of their variance is the baseline's


class Moderated(NamedTuple):
    """Moderated variances of rows. Arrays have the shape of the given variances, (..., rows).

    Attributes:
        variances: Variance of each row's differences, its own if it is not pooled.
        degrees: Degrees of freedom of each variance.
        is_pooled: Whether a row is part of the pooled variance. A pool needs two rows that pass the check.
        is_left_out: Whether the check has left out a row.
        weights: Weight of the pooled variance relative to a row's own, of shape (..., 1); 0 without a pool.
    """

    variances: "Numbers"
    degrees: "Numbers"
    is_pooled: "Truths"
    is_left_out: "Truths"
    weights: "Numbers"


def moderate(
    variances: "Numbers", degrees: "Numbers", squared_correlation: float = SQUARED_CORRELATION
) -> Moderated:
    """Moderate the variances of rows by their pooled variance.

    Rows without a variance (equal differences, or fewer than two pairs) stay as they are and do not enter the
    pool.

    Args:
        variances: Sample variances of paired differences, of shape (..., rows); 0 without spread.
        degrees: Degrees of freedom of each variance, of the same shape.
        squared_correlation: Mean squared correlation between the differences of two rows.
    """
    import numpy as np

    usable = (variances > 0) & (degrees > 0)
    passes = usable & ~_is_outlier(variances, np.where(usable, degrees, 0.0), squared_correlation)
    num_passed = passes.sum(-1, keepdims=True)
    own_degrees = np.where(passes, degrees, 0.0)
    total = own_degrees.sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = np.where(passes, degrees * variances, 0.0).sum(-1, keepdims=True) / total
    equality = _bartlett_p(np.where(passes, variances, 1.0), own_degrees, pooled)
    weights = np.where(num_passed > 1, MOST_WEIGHT * np.minimum(1.0, equality / EQUAL_ENOUGH), 0.0)
    pooled_degrees = total / (1 + (num_passed - 1) * squared_correlation)
    is_pooled = passes & (num_passed > 1)
    # Never below the own variance: quiet neighbours must not make a noisy row significant.
    blend = np.maximum(variances, (variances + weights * pooled) / (1 + weights))
    # A blend of one own and w pooled variances is worth 1 + w times the own degrees, but never more than the
    # pool that it comes from.
    blend_degrees = np.maximum(degrees, np.minimum((1 + weights) * degrees, pooled_degrees))
    return Moderated(
        np.where(is_pooled, blend, variances),
        np.where(is_pooled, blend_degrees, degrees),
        is_pooled,
        usable & ~passes,
        weights,
    )


def _is_outlier(variances: "Numbers", degrees: "Numbers", squared_correlation: float) -> "Truths":
    """Return whether a row's variance is clearly greater than the mean of all others, by an F test.

    The row's own variance would raise a mean over all rows. `degrees`: 0 for rows that are not tested.
    """
    import numpy as np
    from scipy.special import fdtrc

    count = (degrees > 0).sum(-1, keepdims=True)
    squares = degrees * variances
    others = degrees.sum(-1, keepdims=True) - degrees
    with np.errstate(divide="ignore", invalid="ignore"):
        others_mean = (squares.sum(-1, keepdims=True) - squares) / others
        others_degrees = others / (1 + (count - 2) * squared_correlation)
        # p is NaN for a row without others, which is not left out.
        outliers: Truths = fdtrc(degrees, others_degrees, variances / others_mean) < OUTLIER_LEVEL / count
    return outliers


def _bartlett_p(variances: "Numbers", degrees: "Numbers", pooled: "Numbers") -> "Numbers":
    """Return the p-values of Bartlett's test of equal variances, of shape (..., 1); NaN below two rows.

    Args:
        variances: Variances, of shape (..., rows), above zero.
        degrees: Degrees of freedom of the same shape; 0 leaves out a row.
        pooled: Mean of the variances weighted by their degrees of freedom, of shape (..., 1).
    """
    import numpy as np
    from scipy.special import chdtrc

    count = (degrees > 0).sum(-1, keepdims=True)
    total = degrees.sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverses = np.where(degrees > 0, 1 / degrees, 0.0).sum(-1, keepdims=True)
        statistic = total * np.log(pooled) - (degrees * np.log(variances)).sum(-1, keepdims=True)
        correction = 1 + (inverses - 1 / total) / (3 * (count - 1))
        p: Numbers = chdtrc(count - 1, np.maximum(statistic / correction, 0.0))
    return np.where(count > 1, p, np.nan)


def pairs_correlation(rows: int) -> float:
    """Return the mean squared correlation between the differences of two pairs among `rows` rows.

    All pairs together are worth (rows - 1) (n - 1) degrees of freedom: those of the residuals of a
    seed-blocked analysis of variance.
    """
    return 1 / (rows + 1)
