"""Schema of one sweep parameter: a constant, a list of values, or a W&B distribution.

The keys are those of https://docs.wandb.ai/models/sweeps/sweep-config-keys.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, Strict, model_validator

from ema_lab.specs.strict import Finite, NonNegative, Positive, Spec, canonical_json, invalid, problem
from ema_lab.wording import number_of

Distribution = Literal[
    "constant",
    "categorical",
    "categorical_w_probabilities",
    "int_uniform",
    "uniform",
    "q_uniform",
    "log_uniform",
    "log_uniform_values",
    "q_log_uniform",
    "q_log_uniform_values",
    "inv_log_uniform",
    "inv_log_uniform_values",
    "normal",
    "q_normal",
    "log_normal",
    "q_log_normal",
    "beta",
    "q_beta",
]
_RANGE = ({"min", "max"}, set[str]())
_NORMAL = (set[str](), {"mu", "sigma"})
_BETA = (set[str](), {"a", "b"})
KEYS: Mapping[str, tuple[set[str], set[str]]] = {  # required and optional keys per distribution
    "constant": ({"value"}, set()),
    "categorical": ({"values"}, set()),
    "categorical_w_probabilities": ({"values", "probabilities"}, set()),
    **dict.fromkeys(("int_uniform", "uniform", "log_uniform", "log_uniform_values"), _RANGE),
    **dict.fromkeys(("inv_log_uniform", "inv_log_uniform_values"), _RANGE),
    **{name: (_RANGE[0], {"q"}) for name in ("q_uniform", "q_log_uniform", "q_log_uniform_values")},
    **dict.fromkeys(("normal", "log_normal"), _NORMAL),
    **{name: (set[str](), {"mu", "sigma", "q"}) for name in ("q_normal", "q_log_normal")},
    "beta": _BETA,
    "q_beta": (set(), {"a", "b", "q"}),
}
MOST_NUMBER = sys.float_info.max
MOST_LOGARITHM = 700  # exp(710) is more than a float holds, exp(-746) is 0
SUM_TOLERANCE = 1e-5 + 1e-8  # how far probabilities may be from 1, as at W&B: numpy.isclose
DEVIATIONS = 7  # draws of a normal distribution stay within this many standard deviations


def _number(value: object) -> int | float:
    """Return a finite number. Integers stay integers, because W&B distinguishes 1 from 1.0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST_NUMBER:
        text = repr(value)
        raise problem(f"must be a number, got {text if len(text) < 40 else f'{text[:37]}...'}")
    return value


def whole_as_int(value: Any) -> Any:
    """Return 3 for 3.0, which W&B takes for a whole number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Number = Annotated[int | float, PlainValidator(_number, json_schema_input_type=float)]


def _distinct(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return the distinct values in order. 1 and 1.0 are equal, because they train the same run."""
    distinct: dict[str, Any] = {}
    for value in values:
        distinct.setdefault(canonical_json(value), value)
    return tuple(distinct.values())


class ParameterSpec(Spec):
    """One parameter (a constant, a list of values or a distribution), or a group of `parameters`.

    Without `distribution`, W&B's rules apply: `value` is a constant, `values` is categorical, integer `min`
    and `max` are int_uniform, and others are uniform. A value that `values` repeats n times is drawn n
    times as often.

    Attributes:
        distribution: Distribution of the values; inferred from the other keys by default.
        value: The only value.
        values: List of values.
        probabilities: Probability of each value of `values`.
        min: Minimum of the value; of log(value) for log_uniform, of log(1 / value) for inv_log_uniform.
        max: Maximum, likewise.
        q: Step of a quantised distribution, 1.0 by default. A grid starts at min and ends below max, as W&B's
            does. A grid over int_uniform has every integer from min to max.
        mu: Mean, of the logarithm for log_normal. 0 by default.
        sigma: Standard deviation, of the logarithm for log_normal. 1 by default.
        a: First shape parameter of a beta distribution, 1 by default.
        b: Second shape parameter of a beta distribution, 1 by default.
        parameters: Parameters of a group, whose keys are joined by a point.
    """

    distribution: Distribution | None = None
    value: Any = None
    values: Annotated[tuple[Any, ...], Strict(False), Field(min_length=1)] | None = None
    probabilities: Annotated[tuple[NonNegative, ...], Strict(False)] | None = None
    min: Number | None = None
    max: Number | None = None
    q: Number | None = None
    mu: Finite | None = None
    sigma: NonNegative | None = None
    a: Positive | None = None
    b: Positive | None = None
    parameters: Annotated[Mapping[str, "ParameterSpec"], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        present = self.model_fields_set - {"distribution"}
        if "parameters" in present:
            if unused := sorted(self.model_fields_set - {"parameters"}):
                raise invalid(
                    "parameter", "cannot be combined with parameters: remove one of them", unused[0]
                )
            return self
        needed, possible = KEYS[self.kind]
        if missing := sorted(needed - present):
            raise invalid("parameter", f"the distribution {self.kind} needs {' and '.join(missing)}")
        if unused := sorted(present - needed - possible):
            allowed = ", ".join(sorted(needed | possible))
            raise invalid("parameter", f"does not apply to {self.kind}, which takes {allowed}", unused[0])
        if self.q is not None and self.q <= 0:
            raise invalid("parameter", f"must be above 0, got {self.q}", "q")
        if self.values is not None:
            self._check_values()
        if self.min is not None and self.max is not None:
            self._check_range(self.min, self.max)
        if self.kind.endswith("log_normal"):
            self._check_log_normal(self.mu or 0.0, 1.0 if self.sigma is None else self.sigma)
        return self

    def _check_log_normal(self, mu: float, sigma: float) -> None:
        if abs(mu) + DEVIATIONS * sigma > MOST_LOGARITHM:
            rule = f"mu and sigma are those of the value's logarithm, |mu| + {DEVIATIONS} sigma at most"
            key = "sigma" if abs(mu) <= MOST_LOGARITHM / 2 else "mu"
            raise invalid("parameter", f"{rule} {MOST_LOGARITHM}, got mu {mu:g} and sigma {sigma:g}", key)

    def _check_values(self) -> None:
        count = len(self.values or ())
        if self.probabilities is None:
            return
        if len(self.probabilities) != count:
            rule = (
                f"needs one number per value, got {len(self.probabilities)} for {number_of(count, 'value')}"
            )
            raise invalid("parameter", rule, "probabilities")
        if abs(sum(self.probabilities) - 1) > SUM_TOLERANCE:
            raise invalid("parameter", f"must add up to 1, got {sum(self.probabilities):g}", "probabilities")

    def _check_range(self, low: float, high: float) -> None:
        if low >= high:
            raise invalid("parameter", f"must be above min, got {low:g} to {high:g}", "max")
        if self.kind.endswith("_values") and low <= 0:
            raise invalid("parameter", f"must be above 0 for {self.kind}, got {low:g}", "min")
        if self.q is not None and high - self.q == high:
            raise invalid(
                "parameter", f"is too small a step for numbers as large as {high:g}, got {self.q:g}", "q"
            )
        if self.kind == "int_uniform":
            for key, end in (("min", low), ("max", high)):
                if not isinstance(end, int):
                    raise invalid("parameter", f"must be a whole number for int_uniform, got {end}", key)
        if self.kind.endswith("log_uniform"):
            for key, end in (("min", low), ("max", high)):
                if abs(end) > MOST_LOGARITHM:
                    rule = (
                        f"is the logarithm of the value for {self.kind}, at most {MOST_LOGARITHM} either way"
                    )
                    advice = f"for the value itself write {self.kind}_values"
                    raise invalid("parameter", f"{rule}, got {end:g}: {advice}", key)

    @property
    def repeated(self) -> tuple[Any, ...]:
        """Values that are listed more than once, without duplicates."""
        counts = Counter(map(canonical_json, self.values or ()))
        return tuple(value for value in _distinct(self.values or ()) if counts[canonical_json(value)] > 1)

    def without_repeats(self, *, in_grid: bool) -> "ParameterSpec":
        """Return the same distribution over distinct values.

        Repeats become probabilities. In a grid they are dropped, because a grid tries each value once.
        """
        if not self.repeated:
            return self
        assert self.values is not None
        values = _distinct(self.values)
        if in_grid or len(values) == 1:
            return ParameterSpec(values=values)
        shares = self.probabilities or (1 / len(self.values),) * len(self.values)
        totals: dict[str, float] = dict.fromkeys(map(canonical_json, values), 0.0)
        for value, share in zip(self.values, shares, strict=True):
            totals[canonical_json(value)] += share
        return ParameterSpec(values=values, probabilities=tuple(totals.values()))

    @property
    def num_steps(self) -> float:
        """Number of steps of q (or of 1) in a range."""
        return 0.0 if self.min is None or self.max is None else (self.max - self.min) / (self.q or 1)

    @property
    def kind(self) -> str:
        """Distribution name, explicit or inferred by W&B's rules."""
        if self.distribution is not None:
            return self.distribution
        present = self.model_fields_set
        if "values" in present:
            return "categorical_w_probabilities" if "probabilities" in present else "categorical"
        if present & {"min", "max"}:
            whole = isinstance(self.min, int) and isinstance(self.max, int)
            return "int_uniform" if whole else "uniform"
        return "constant"
