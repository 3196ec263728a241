"""Schema of the parts of a sweep file that stop trials early: W&B's Hyperband, and its controller."""

import itertools
import operator
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ema_lab.specs.parameter import Number, whole_as_int
from ema_lab.specs.strict import Spec, invalid

MAX_EPOCHS = 1_000_000_000  # of a band; floats are exact up to here
MAX_BANDS = 100  # W&B's own limit of bands from min_iter on
MAX_STEPS = 100_000  # bands below max_iter that are looked at: all others are below one epoch


Iterations = Annotated[int, BeforeValidator(whole_as_int), Field(ge=1, le=MAX_EPOCHS)]


class HyperbandSpec(Spec):
    """W&B's Hyperband early stopping: at each band (an epoch), the best 1/eta of the trials continue.

    The `s` bands are `max_iter` / `eta`, `max_iter` / `eta` ** 2, .... Without `max_iter` the bands are
    `min_iter`, `min_iter` x `eta`, .... As at W&B, `max_iter` overrides `min_iter`, `s` may be larger than
    the number of bands, and any number without `max_iter`.

    Attributes:
        type: The constant `hyperband`.
        min_iter: First band, in epochs.
        max_iter: Largest number of epochs, from which `s` bands go down.
        s: Number of bands below `max_iter`.
        eta: Factor between bands: one trial in `eta` goes on.
        strict: W&B's stricter rule; unused offline.
    """

    type: Literal["hyperband"]
    min_iter: Iterations | None = None
    max_iter: Iterations | None = None
    s: Number | None = None
    eta: Annotated[Number, Field(gt=1)] = 3
    strict: bool = False

    @model_validator(mode="after")
    def _has_bands(self) -> Self:
        if self.min_iter is None and self.max_iter is None:
            raise invalid("early_terminate", "needs min_iter, or both max_iter and s")
        if self.max_iter is not None and self.s is None:
            rule = "needs s, the number of bands below max_iter (max_iter overrides min_iter)"
            raise invalid("early_terminate", rule, "max_iter")
        if self.max_iter is not None and not (isinstance(self.s, int) and self.s >= 1):
            rule = f"must be a whole number from 1, written without a point, got {self.s!r}"
            raise invalid("early_terminate", rule, "s")
        if self.max_iter is not None and self.max_iter < self.eta:
            rule = f"max_iter / eta must be 1 or more, or there is no band, got {self.max_iter} / {self.eta}"
            raise invalid("early_terminate", rule, "max_iter")
        return self

    def overridden(self) -> Iterator[tuple[str, str]]:
        """Yield each key that another key overrides, with the reason."""
        if self.max_iter is not None and self.min_iter is not None:
            yield "min_iter", "max_iter and s define the bands"
        if self.max_iter is None and self.s is not None:
            yield "s", "s counts bands below max_iter, which is missing"

    @property
    def first_band(self) -> int:
        """First epoch at which a trial may be stopped."""
        return self.bands_up_to(MAX_EPOCHS)[0]

    def bands_up_to(self, epochs: int) -> tuple[int, ...]:
        """Return the bands of a run of `epochs` epochs in ascending order."""
        bands = itertools.takewhile(lambda band: 1 <= band <= MAX_EPOCHS, self._steps())
        return tuple(sorted({int(band) for band in bands if band <= epochs}))

    def _steps(self) -> Iterator[float]:
        """Yield the bands as W&B computes them, before truncation to integers."""
        if self.max_iter is None:
            assert self.min_iter is not None
            factors = itertools.repeat(self.eta, MAX_BANDS - 1)
            return itertools.accumulate(factors, operator.mul, initial=self.min_iter)
        assert isinstance(self.s, int)
        below = itertools.accumulate(itertools.repeat(self.eta), operator.truediv, initial=self.max_iter)
        return itertools.islice(below, 1, 1 + min(self.s, MAX_STEPS))


class ControllerSpec(Spec, extra="allow"):
    """W&B's sweep controller: `cloud` (its server) or `local` (a process), with settings. Unused offline.

    Attributes:
        type: `cloud` or `local`.
    """

    type: Literal["local", "cloud"]
