"""Omnibus tests of a full factorial design, blocked by seed: one F test per factor and per interaction.

Every seed has all combinations of levels. A factor's mean square is compared with the factor's interaction
with the seeds, so that no other factor's noise enters. The degrees of freedom shrink if levels differ in
their noise (Greenhouse and Geisser 1959). A factor of two levels gives the paired t test.
"""

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ema_lab.statistics.factorial import Levels, full_product
from ema_lab.statistics.summary import ROUNDING

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]


@dataclass(frozen=True)
class OmnibusTest:
    """Test that no level of a factor, or no combination of two, has an effect.

    Attributes:
        factors: One factor, or two of an interaction.
        f: Ratio of mean squares. NaN if untestable.
        degrees: Degrees of freedom of numerator and denominator, corrected for unequal noise.
        p: P-value without a correction for several tests. NaN if untestable.
        seeds: Seeds that all combinations have in common.
        why: Reason why the test is impossible; otherwise empty.
    """

    factors: Levels
    f: float
    degrees: tuple[float, float]
    p: float
    seeds: tuple[Hashable, ...]
    why: str = ""


def omnibus_tests(
    values: Mapping[Levels, Mapping[Hashable, float]], factors: Sequence[str]
) -> list[OmnibusTest]:
    """Return the tests of all factors with several levels, then those of their two-factor interactions.

    The F ratios equal those of statsmodels' `AnovaRM`, which has no correction for unequal noise, and whose
    import takes longer than a report.

    Args:
        values: Values by seed, for each combination of levels in the order of `factors`.
        factors: Names of the factors.

    Raises:
        ValueError: If a combination is missing, or the combinations share no seed.
    """
    import numpy as np

    levels, seeds = full_product(values, len(factors))
    flat = [[values[key][seed] for key in itertools.product(*levels)] for seed in seeds]
    table = np.array(flat, dtype=float).reshape(len(seeds), *map(len, levels))
    varied = [index for index, of_factor in enumerate(levels) if len(of_factor) > 1]
    return [
        _omnibus_test(table, indices, tuple(factors[index] for index in indices), seeds)
        for size in (1, 2)
        for indices in itertools.combinations(varied, size)
    ]


def _omnibus_test(
    table: "Numbers", indices: Sequence[int], factors: Levels, seeds: tuple[Hashable, ...]
) -> OmnibusTest:
    """Test one factor or interaction. `table`: (seeds, levels of each factor)."""
    import numpy as np
    from scipy.special import fdtrc

    # Contrasts along the tested factors and means along all others leave one vector of effects per seed.
    contrasts = table
    for axis in range(1, table.ndim):
        if axis - 1 in indices:
            contrasts = np.moveaxis(
                np.moveaxis(contrasts, axis, -1) @ _contrasts(table.shape[axis]), -1, axis
            )
        else:
            contrasts = contrasts.mean(axis=axis, keepdims=True)
    flat = contrasts.reshape(len(seeds), -1)
    count, size = flat.shape
    if count < 2:
        return OmnibusTest(factors, math.nan, (math.nan, math.nan), math.nan, seeds, "a test needs two seeds")
    covariance = np.atleast_2d(np.cov(flat, rowvar=False))
    noise = float(np.trace(covariance))
    if math.sqrt(noise) <= ROUNDING * max(1.0, float(np.abs(table).max())):
        why = "all differences are equal"
        return OmnibusTest(factors, math.nan, (math.nan, math.nan), math.nan, seeds, why)
    # Mean squares of effect and noise both divide by `size`, which cancels.
    f = count * float((flat.mean(axis=0) ** 2).sum()) / noise
    # Greenhouse and Geisser's epsilon: 1 if all contrasts are equally noisy, 1 / size if one has all the
    # noise.
    epsilon = noise**2 / (size * float((covariance**2).sum()))
    degrees = (size * epsilon, size * epsilon * (count - 1))
    return OmnibusTest(factors, f, degrees, float(fdtrc(*degrees, f)), seeds)


def _contrasts(levels: int) -> "Numbers":
    """Return orthonormal contrasts of a factor's levels, of shape (levels, levels - 1)."""
    import numpy as np

    # The choice of the basis is free: F and epsilon are the same for every orthonormal one.
    centred = np.eye(levels) - 1 / levels
    return np.linalg.svd(centred)[0][:, : levels - 1]
