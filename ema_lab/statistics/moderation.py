"""Moderated variances: compared rows share degrees of freedom.

Three seeds leave a row's own variance two degrees of freedom, and its paired t test little power. The
moderated variance (Smyth 2004) of a row with n - 1 degrees of freedom counts its own variance once and the
pooled variance of all rows twice:

    variance = max(own, own / 3 + 2 pooled / 3), with at most 3 (n - 1) degrees of freedom.

A row never has less than its own variance. An F test compares the variance of each row with the mean of all
others, at 5 % over all rows. Rows with a clearly greater variance are left out of the pool and keep their own
variance, so that a diverged run spoils its own row only.

Rows share a baseline, so that their variances are correlated. If the baseline deviates as much as the rows,
k rows of n seeds have k (n - 1) / (1 + (k - 1) / 4) degrees of freedom together, not k (n - 1).
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from numpy import bool_, float64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]

PRIOR = 2.0  # weight of the pooled variance relative to a row's own; 3 or more err with unequal rows
CHECK_LEVEL = 0.05  # of the check of equal variances, over all rows
SQUARED_CORRELATION = 0.25  # of differences to a common baseline: half of their variance is the baseline's


class Moderated(NamedTuple):
    """Moderated variances of rows; all arrays have the shape of the given variances.

    Attributes:
        variances: Variance of each row's differences, its own if it is not pooled.
        degrees: Degrees of freedom of each variance.
        is_pooled: Whether a row is part of the pooled variance. A pool needs two rows that pass the check.
        is_left_out: Whether the check has left out a row.
    """

    variances: "Numbers"
    degrees: "Numbers"
    is_pooled: "NDArray[bool_]"
    is_left_out: "NDArray[bool_]"


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
    from scipy.special import fdtrc

    usable = (variances > 0) & (degrees > 0)
    weights = np.where(usable, degrees, 0.0)
    squares = weights * np.where(usable, variances, 0.0)
    count = usable.sum(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Each row is compared with the others alone: its own large variance would raise a mean over all rows.
        others = weights.sum(-1, keepdims=True) - weights
        others_mean = (squares.sum(-1, keepdims=True) - squares) / others
        others_degrees = others / (1 + (count - 2) * squared_correlation)
        p = fdtrc(weights, others_degrees, variances / others_mean)
        passes = usable & ~(p < CHECK_LEVEL / count)  # p is NaN for a row without others
        total = np.where(passes, weights, 0.0).sum(-1, keepdims=True)
        pooled = np.where(passes, squares, 0.0).sum(-1, keepdims=True) / total
    num_passed = passes.sum(-1, keepdims=True)
    pooled_degrees = total / (1 + (num_passed - 1) * squared_correlation)
    is_pooled = passes & (num_passed > 1)
    # Never below the own variance: quiet neighbours must not make a noisy row significant.
    blend = np.maximum(variances, (variances + PRIOR * pooled) / (1 + PRIOR))
    # A blend of one own and PRIOR pooled variances is worth 1 + PRIOR times the own degrees, but never more
    # than the pool that it comes from.
    blend_degrees = np.maximum(degrees, np.minimum((1 + PRIOR) * degrees, pooled_degrees))
    return Moderated(
        np.where(is_pooled, blend, variances),
        np.where(is_pooled, blend_degrees, degrees),
        is_pooled,
        usable & ~passes,
    )


def pairs_correlation(rows: int) -> float:
    """Return the mean squared correlation between the differences of two pairs among `rows` rows.

    All pairs together are worth (rows - 1) (n - 1) degrees of freedom: those of the residuals of a
    seed-blocked analysis of variance.
    """
    return 1 / (rows + 1)
