"""The form of an ablation file: named variants (or one-at-a-time changes) x axes x seeds."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, Strict, model_validator

from ema_lab.specs.numbers import Seed
from ema_lab.specs.strict import Apart, Name, Spec, apart, canonical_json, checked_name, invalid, problem


def _check_values(values: Any) -> Any:
    if not values:
        raise problem("an axis needs at least one value")
    if isinstance(values, list) and len(set(map(canonical_json, values))) < len(values):
        raise problem(f"a value stands twice, got {values}")
    if isinstance(values, dict):
        for label in values:
            checked_name(label)
        apart(values)
    return values


NO_NAME = {"null", "Null", "~"}  # words that YAML reads as nothing
AxisForm = Annotated[list[Any] | dict[str, dict[str, Any]], AfterValidator(_check_values)]


class AxesSpec(Spec):
    """Axes by dotted key, or by a name of their own with labelled changes."""

    axes: Annotated[Mapping[Name, AxisForm], Apart] = {}


def _check_own_axes(changes: dict[str, Any]) -> dict[str, Any]:
    AxesSpec.model_validate({key: value for key, value in changes.items() if key == "axes"})
    return changes


Variant = Annotated[dict[str, Any], AfterValidator(_check_own_axes)]


class SkipSpec(Spec):
    """Cells that are left out, and why. `when` is equality or a list of allowed values."""

    when: Annotated[Mapping[str, Any], Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]


class AblationSpec(AxesSpec):
    """A named set of runs. Exactly one of `variants`, `vary` and `without` gives its rows.

    `variants`: rows by name, each a mapping of dotted keys that change the base, with its own `axes`.
    `vary`: one row `base`, and one row for each listed value of each key (one at a time).
    `without`: one row `full`, and one row per label (leave one out).
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    base: Mapping[str, Any]
    seeds: Annotated[tuple[Seed, ...], Strict(False), Field(min_length=1)]
    baseline: str | None = None
    variants: Annotated[Mapping[Name, Variant], Apart] | None = None
    vary: Mapping[str, Annotated[list[Any], AfterValidator(_check_values)]] | None = None
    without: Annotated[Mapping[Name, dict[str, Any]], Apart] | None = None
    skip: Annotated[tuple[SkipSpec, ...], Strict(False)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = ("variants", "vary", "without")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise invalid("ablation", f"needs exactly one of {', '.join(kinds)}, got {found}", *given[1:2])
        if not getattr(self, given[0]):
            raise invalid("ablation", "must have at least one entry", given[0])
        if len(set(self.seeds)) < len(self.seeds):
            raise invalid("ablation", f"a seed stands twice, got {list(self.seeds)}", "seeds")
        self._check_baseline()
        return self

    def _check_baseline(self) -> None:
        if self.variants is None:
            if self.baseline is not None:
                rule = "is given by the form: 'base' with vary, 'full' with without"
                raise invalid("ablation", rule, "baseline")
            return
        if self.baseline is None:
            if "baseline" in self.model_fields_set and (name := NO_NAME.intersection(self.variants)):
                rule = f"null means no baseline, but a variant is named {min(name)!r}: rename that variant"
                raise invalid("ablation", rule, "baseline")
            return
        if self.baseline not in self.variants:
            rule = f"must be one of the variants {', '.join(self.variants)}, got {self.baseline!r}"
            raise invalid("ablation", rule, "baseline")
        if "axes" in self.variants[self.baseline]:
            raise invalid("ablation", "the baseline cannot have axes of its own", "baseline")

    @property
    def baseline_name(self) -> str | None:
        """The name of the row that the others are compared with."""
        if self.variants is not None:
            return self.baseline
        return "base" if self.vary is not None else "full"
