"""W&B's distributions as functions of a uniform number, and as Optuna's own where Optuna has the same.

W&B draws from a quantised distribution first, then rounds to a multiple of `q`, half to even. Its two ends
are therefore half as likely as in Optuna's stepped distributions. Quantised and normal families are searched
by a latent uniform number, which this module turns into a value.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

from ema_lab.specs.parameter import ParameterSpec
from ema_lab.specs.strict import canonical_json

LATENT = " (quantile)"  # suffix of a latent number's name in the study, after the parameter's key
EDGE = 2.0**-30  # the normal families are infinite at 0 and 1
UNBOUNDED_ENDS = 0.001  # quantile that stands for the end of an unbounded distribution
Quantile = Callable[[ParameterSpec, float], float]
Scale = Callable[[float], float]
Ends = tuple[float, float]


def _between(ends: Ends, share: float, to_scale: Scale = float, from_scale: Scale = float) -> float:
    """Interpolate between two values by a share of their distance on another scale.

    The two ends are exact at 0 and 1, and results are clipped to them, since the scale's round trip is
    inexact.
    """
    low, high = ends
    if share in {0, 1}:
        return high if share else low
    inner = from_scale(to_scale(low) + (to_scale(high) - to_scale(low)) * share)
    return min(max(inner, low), high)


def _uniform(p: ParameterSpec, u: float) -> float:
    return _between(_range(p), u)


def _log_uniform(p: ParameterSpec, u: float) -> float:
    low, high = _range(p)
    return _between((math.exp(low), math.exp(high)), u, math.log, math.exp)


def _log_uniform_values(p: ParameterSpec, u: float) -> float:
    return _between(_range(p), u, math.log, math.exp)


def _inv_log_uniform(p: ParameterSpec, u: float) -> float:
    """Draw a value whose reciprocal's logarithm is uniform from min to max."""
    low, high = _range(p)
    return _between((math.exp(-high), math.exp(-low)), u, math.log, math.exp)


def _normal(p: ParameterSpec, u: float) -> float:
    mu, sigma = 0.0 if p.mu is None else p.mu, 1.0 if p.sigma is None else p.sigma
    return mu + sigma * NormalDist().inv_cdf(min(max(u, EDGE), 1 - EDGE))


def _log_normal(p: ParameterSpec, u: float) -> float:
    return math.exp(_normal(p, u))


def _beta(p: ParameterSpec, u: float) -> float:
    from scipy.special import betaincinv

    return float(betaincinv(p.a or 1.0, p.b or 1.0, u))


def _range(p: ParameterSpec) -> Ends:
    assert p.min is not None
    assert p.max is not None
    return float(p.min), float(p.max)


CONTINUOUS: Mapping[str, Quantile] = {
    "uniform": _uniform,
    "log_uniform": _log_uniform,
    "log_uniform_values": _log_uniform_values,
    "inv_log_uniform": _inv_log_uniform,
    "inv_log_uniform_values": _log_uniform_values,  # log(1/x) from log(1/max) to log(1/min)
    "normal": _normal,
    "log_normal": _log_normal,
    "beta": _beta,
}


def in_grid(spec: ParameterSpec) -> ParameterSpec:
    """Return a parameter in its form for grids: q_uniform becomes the list min, min + q, ... below max.

    The cells equal W&B's to the last bit, except that cells which rounding lifts above max are dropped. For
    0.001 to 0.01 by 0.003, W&B has such a cell.
    """
    import numpy as np

    if spec.kind != "q_uniform":
        return spec
    low, high = _range(spec)
    bounds: list[Any] = [spec.min, spec.max, 1.0 if spec.q is None else spec.q]
    cells = np.arange(*bounds).tolist()  # whole numbers if all three bounds are, as in W&B
    return ParameterSpec(values=tuple(cell for cell in cells if low <= cell <= high))


@dataclass(frozen=True)
class Parameter:
    """Searched parameter: its dotted key and its distribution."""

    key: str
    spec: ParameterSpec

    @property
    def kind(self) -> str:
        return self.spec.kind

    @property
    def is_listed(self) -> bool:
        """Whether the values are a list without probabilities."""
        return self.kind in {"constant", "categorical"}

    @property
    def is_latent(self) -> bool:
        """Whether Optuna lacks the distribution, so that a latent number is searched."""
        return self.kind.startswith("q_") or self.kind in {
            "normal",
            "log_normal",
            "beta",
            "categorical_w_probabilities",
        }

    @property
    def name(self) -> str:
        """Name of the parameter in the study."""
        return f"{self.key}{LATENT}" if self.is_latent else self.key

    def at(self, u: float) -> Any:
        """Return the value at a quantile (0 to 1) by W&B's transform; 0 and 1 give the exact ends."""
        spec = self.spec
        if self.kind == "categorical_w_probabilities":
            return self._drawn(u)
        if self.is_listed:
            return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]
        if self.kind == "int_uniform":
            low, high = map(int, _range(spec))
            return min(low + int(u * (high - low + 1)), high)
        if not self.kind.startswith("q_"):
            return CONTINUOUS[self.kind](spec, u)
        step = 1.0 if spec.q is None else spec.q
        rounded = round(CONTINUOUS[self.kind.removeprefix("q_")](spec, u) / step) * step
        # W&B gives whole numbers if q is a Python int (1, also as the default), not if q is 1.0
        return rounded if isinstance(step, int) else float(f"{rounded:.12g}")

    def _drawn(self, u: float) -> Any:
        total = 0.0
        for value, share in zip(self.choices, self.spec.probabilities or (), strict=True):
            total += share
            if u < total:
                return value
        return next(
            v for v, p in zip(self.choices[::-1], (self.spec.probabilities or ())[::-1], strict=True) if p
        )

    @cached_property
    def choices(self) -> tuple[Any, ...]:
        """Listed values."""
        return self.spec.values if self.spec.values is not None else (self.spec.value,)

    @cached_property
    def labels(self) -> tuple[Any, ...]:
        """Choices as a study stores them: unchanged, or as JSON if Optuna would confuse them."""
        plain = all(value is None or isinstance(value, str | int | float) for value in self.choices)
        if plain and len(set(self.choices)) == len(self.choices):
            return self.choices
        return tuple(map(canonical_json, self.choices))

    def ends(self) -> tuple[Any, ...]:
        """Return the values whose validity implies that of all: every choice, or the ends of the range."""
        if self.spec.values is not None or self.kind == "constant":
            return self.choices
        bounded = "normal" not in self.kind
        edge = 0.0 if bounded else UNBOUNDED_ENDS
        return (self.at(edge), self.at(1 - edge))

    def grid(self) -> tuple[Any, ...]:
        """Return every value of a parameter that a grid can have, see `in_grid`."""
        if self.is_listed:
            return self.choices
        assert self.kind == "int_uniform"
        low, high = map(int, _range(self.spec))
        return tuple(range(low, high + 1))

    def optuna_distribution(self) -> Any:
        """Return Optuna's distribution of `name` that the study searches."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.is_latent:
            return FloatDistribution(0.0, 1.0)
        if self.is_listed:
            return CategoricalDistribution(self.labels)
        if self.kind == "int_uniform":
            low, high = map(int, _range(self.spec))
            return IntDistribution(low, high)
        return FloatDistribution(self.at(0.0), self.at(1.0), log=self.kind != "uniform")

    def value_of(self, stored: Any) -> Any:
        """Return the value for the number or label that the study stores under `name`."""
        if self.is_latent:
            return self.at(stored)
        return self.choices[self.labels.index(stored)] if self.is_listed else stored

    def stored_for(self, value: Any) -> Any:
        """Return the number or label that the study stores for a value, or None if the value is impossible.

        Bisection finds a latent number: the quantiles of a rounded value form an interval, and the middle is
        returned.
        """
        text = canonical_json(value)
        if self.is_listed:
            return next(
                (
                    stored
                    for stored, c in zip(self.labels, self.choices, strict=True)
                    if canonical_json(c) == text
                ),
                None,
            )
        if self.kind == "categorical_w_probabilities":
            return self._middle_of(text)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not self.is_latent:
            inside = self.at(0.0) <= value <= self.at(1.0)
            return value if inside and (self.kind != "int_uniform" or float(value).is_integer()) else None
        low = _first(lambda u: self.at(u) >= value)
        high = _first(lambda u: self.at(u) > value)
        middle = (low + high) / 2
        return middle if math.isclose(self.at(middle), value, rel_tol=1e-9, abs_tol=1e-12) else None

    def _middle_of(self, text: str) -> float | None:
        total = 0.0
        for choice, share in zip(self.choices, self.spec.probabilities or (), strict=True):
            if canonical_json(choice) == text and share:
                return total + share / 2
            total += share
        return None


def _first(reached: Callable[[float], bool]) -> float:
    """Return, by bisection, the smallest u in [0, 1] for which the predicate holds."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
