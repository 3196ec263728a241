"""Seed-blocked comparison of rows with one baseline, by variances that rows share (`moderation.py`).

A difference is significant if two tests agree: the t test by the moderated variance, Holm-corrected for the
family, and the paired t test by the row's own variance at 4 %, uncorrected. The second bounds the error of
each row at 4 %, however unequal the variances are, so that the row's own 95 % interval excludes zero.

Differences within seeds remove what a seed does to all rows. Unpaired tests have more degrees of freedom, for
which a pool of four rows or more makes up: little power is lost where rows are uncorrelated, and much gained
where they are correlated.

`docs/statistics.md` has the error rates and the power.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ema_lab.statistics.equivalence import equivalence_p
from ema_lab.statistics.family import holm
from ema_lab.statistics.moderation import OWN_LEVEL, moderate
from ema_lab.statistics.paired import SIGNIFICANCE, PairedDifference
from ema_lab.statistics.summary import summarise, t_quantile


class StandardError(NamedTuple):
    """Standard error of a mean difference, above zero, with its degrees of freedom."""

    value: float
    degrees: float

    def half_width(self, error: float = SIGNIFICANCE) -> float:
        """Return half the width of a t interval that misses the true difference at the rate `error`."""
        return t_quantile(self.degrees, 1 - error) * self.value

    def p(self, mean: float, margin: float = 0.0) -> float:
        """Return the p-value of a two-sided t test, or of equivalence within ±`margin` if that is given."""
        if margin > 0:
            return equivalence_p(mean, self.value, self.degrees, margin)
        from scipy.special import stdtr

        return float(2 * stdtr(self.degrees, -abs(mean / self.value)))


@dataclass(frozen=True)
class Contrast:
    """Mean of paired differences over common seeds, and the standard errors of its tests.

    Attributes:
        mean: Mean difference, in the unit of the values. NaN without a pair.
        count: Number of pairs.
        own: Standard error from the row's own differences. None if untestable.
        pooled: Standard error from the moderated variance. None if untestable, or not pooled.
        why: Reason why it is untestable; otherwise empty.
    """

    mean: float
    count: int
    own: StandardError | None = None
    pooled: StandardError | None = None
    why: str = ""

    @property
    def family_error(self) -> StandardError | None:
        """Standard error of tests that are corrected for a family: the pooled one if there is any."""
        return self.pooled or self.own

    def own_p(self, margin: float = 0.0) -> float:
        """Return the p-value by the row's own variance. NaN if untestable. `margin`: of equivalence.

        Beside a pooled variance it is scaled, so that below 5 % means below `OWN_LEVEL`.
        """
        if self.own is None:
            return math.nan
        scale = 1.0 if self.pooled is None else SIGNIFICANCE / OWN_LEVEL
        return min(1.0, scale * self.own.p(self.mean, margin))

    def family_p(self, margin: float = 0.0) -> float:
        """Return the p-value that is corrected for the family. NaN if untestable."""
        return math.nan if self.family_error is None else self.family_error.p(self.mean, margin)

    def raw_p(self, margin: float = 0.0) -> float:
        """Return the p-value of the row alone, without a correction: the larger one of both tests."""
        return max(self.own_p(margin), self.family_p(margin))

    def interval(self, comparisons: int = 1) -> PairedDifference:
        """Return the mean with its 95 % t interval, without bounds if untestable.

        Args:
            comparisons: Number of intervals that hold together with 95 % (Bonferroni). Such an interval is
                never narrower than the row's own of `OWN_LEVEL`, since a difference is significant by both.
        """
        if self.own is None or self.family_error is None:
            return PairedDifference(self.mean, math.nan, math.nan, self.count)
        half = self.own.half_width()
        if comparisons > 1:
            half = self.family_error.half_width(SIGNIFICANCE / comparisons)
        if comparisons > 1 and self.pooled:
            half = max(half, self.own.half_width(OWN_LEVEL))
        return PairedDifference(self.mean, self.mean - half, self.mean + half, self.count)


def paired_contrast(differences: Sequence[float]) -> Contrast:
    """Return the contrast of a row by its own paired differences alone."""
    count = len(differences)
    if count < 2:
        return Contrast(differences[0] if count else math.nan, count, why="a test needs two pairs")
    summary = summarise(differences)
    if not summary.has_spread:
        return Contrast(summary.mean, count, why="all differences are equal")
    return Contrast(summary.mean, count, StandardError(summary.standard_error, count - 1))


@dataclass(frozen=True)
class Pooled:
    """Contrasts of rows with one baseline.

    Attributes:
        contrasts: Contrast of each row, in the order of the input.
        left_out: Indices of rows that the check has left out of the pooled variance.
        weight: Weight of the pooled variance relative to a row's own.
    """

    contrasts: tuple[Contrast, ...]
    left_out: tuple[int, ...] = ()
    weight: float = 0.0

    @property
    def has_pool(self) -> bool:
        """Whether any variance is pooled. It takes two rows that can be tested."""
        return any(contrast.pooled is not None for contrast in self.contrasts)


def pooled_contrasts(rows: Sequence[Sequence[float]]) -> Pooled:
    """Return the contrasts of rows with their common baseline, by moderated variances.

    Args:
        rows: Paired differences of each row, variant minus baseline, one per seed.
    """
    import numpy as np

    contrasts = list(map(paired_contrast, rows))
    if not contrasts:
        return Pooled(())
    variances = np.array([each.count * each.own.value**2 if each.own else 0.0 for each in contrasts])
    degrees = np.array([each.own.degrees if each.own else 0.0 for each in contrasts])
    moderated = moderate(variances, degrees)
    for index in np.flatnonzero(moderated.is_pooled):
        error = math.sqrt(moderated.variances[index] / contrasts[index].count)
        by = StandardError(error, float(moderated.degrees[index]))
        contrasts[index] = replace(contrasts[index], pooled=by)
    left_out = tuple(map(int, np.flatnonzero(moderated.is_left_out)))
    return Pooled(tuple(contrasts), left_out, float(moderated.weights[0]))


def corrected_p(contrasts: Sequence[Contrast], margin: float = 0.0) -> list[float]:
    """Return the p-values of a family of contrasts. NaN if untestable.

    A p-value is the larger one of two: by the row's own variance, scaled to `OWN_LEVEL` and uncorrected, and
    by the moderated variance, Holm-corrected. Without pooling, the result is Holm's correction of paired t
    tests.

    Args:
        contrasts: Contrasts of the family.
        margin: Margin of equivalence; 0 tests whether there is no difference.
    """
    corrected = holm([each.family_p(margin) for each in contrasts])
    return [max(p, each.own_p(margin)) for p, each in zip(corrected, contrasts, strict=True)]
