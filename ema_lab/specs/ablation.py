"""Schema of an ablation file: named variants (or one-at-a-time changes) x axes x seeds."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, Strict, model_validator

from ema_lab.specs.strict import (
    Distinct,
    Name,
    PositiveInt,
    Seed,
    Spec,
    canonical_json,
    check_distinct,
    checked_name,
    invalid,
    problem,
)


def _check_values(values: Any) -> Any:
    if not values:
        raise problem("an axis needs at least one value")
    if isinstance(values, list) and len(set(map(canonical_json, values))) < len(values):
        raise problem(f"a value is listed twice, got {values}")
    if isinstance(values, dict):
        for label in values:
            checked_name(label)
        check_distinct(values)
    return values


def _seeds(value: object) -> object:
    """Return listed seeds as they are; expand a number n to the seeds 0 to n - 1."""
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SEEDS:
        raise problem(
            f"must be a number of seeds, such as 3, or a list of them, such as [0, 1, 2], got {value!r}"
        )
    return tuple(range(value))


MAX_SEEDS = 10_000  # as a number; a list may have more
Seeds = Annotated[
    tuple[Seed, ...],
    Strict(False),
    Field(min_length=1),
    BeforeValidator(_seeds, json_schema_input_type=PositiveInt | list[Seed]),
]
Form = Literal["variants", "vary", "without"]
YAML_NULLS = {"null", "Null", "~"}
AxisForm = Annotated[list[Any] | dict[str, dict[str, Any]], AfterValidator(_check_values)]


class AxesSpec(Spec):
    """Axes of an ablation: a dotted key with its values, or a factor name with labelled changes.

    Attributes:
        axes: Dotted keys with lists of values, or factors with labelled changes.
    """

    axes: Annotated[Mapping[Name, AxisForm], Distinct] = {}


def _check_variant_axes(changes: dict[str, Any]) -> dict[str, Any]:
    AxesSpec.model_validate({key: value for key, value in changes.items() if key == "axes"})
    return changes


Variant = Annotated[dict[str, Any], AfterValidator(_check_variant_axes)]


class SkipSpec(Spec):
    """Rule that skips cells, with its reason. `when` maps keys to a value or a list of allowed values.

    Attributes:
        when: Keys with a value or a list of allowed values. All must match.
        reason: Why the cells are left out.
    """

    when: Annotated[Mapping[str, Any], Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]


class AblationSpec(AxesSpec):
    """Named set of runs. Exactly one of `variants`, `vary` and `without` defines its rows.

    `variants`: rows by name, each a mapping of dotted keys that change the base, with its own `axes`.
    `vary`: one row `base`, and one row for each listed value of each key (one at a time).
    `without`: one row `full`, and one row per label (leave one out).

    Attributes:
        name: Name of the ablation: that of its file.
        description: Purpose of the table, in one sentence.
        base: Run spec that the rows change: `model`, `data` and `recipe`. Without `recipe` the data set's
            default recipe is taken.
        seeds: List of seeds, such as [0, 1, 2], or their number: 3 means 0, 1 and 2.
        baseline: Variant with which all others are compared.
        variants: Rows by name, each a mapping of dotted keys that change the base, with its own `axes`.
        vary: Dotted keys with lists of values: one row `base`, and one row for each value, one change at a
            time.
        without: Labelled changes: one row `full`, and one row per label that leaves something out.
        skip: Cells to leave out, each rule with its reason.
        notes: Sentences that every table of the ablation repeats below it.
        axes: Dotted keys with lists of values, or factors with labelled changes, that cross every row.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    base: Mapping[str, Any]
    seeds: Seeds
    baseline: str | None = None
    variants: Annotated[Mapping[Name, Variant], Distinct] | None = None
    vary: Mapping[str, Annotated[list[Any], AfterValidator(_check_values)]] | None = None
    without: Annotated[Mapping[Name, dict[str, Any]], Distinct] | None = None
    skip: Annotated[tuple[SkipSpec, ...], Strict(False)] = ()
    notes: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Strict(False)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = ("variants", "vary", "without")
        present = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(present) != 1:
            listed = " and ".join(present) or "none"
            raise invalid("ablation", f"needs exactly one of {', '.join(kinds)}, got {listed}", *present[1:2])
        if not getattr(self, present[0]):
            raise invalid("ablation", "must have at least one entry", present[0])
        if len(set(self.seeds)) < len(self.seeds):
            raise invalid("ablation", f"a seed is listed twice, got {list(self.seeds)}", "seeds")
        self._check_baseline()
        return self

    def _check_baseline(self) -> None:
        if self.variants is None:
            if self.baseline is not None:
                rule = "is fixed: it is 'base' with vary and 'full' with without; remove the key"
                raise invalid("ablation", rule, "baseline")
            return
        if self.baseline is None:
            if "baseline" in self.model_fields_set and (name := YAML_NULLS.intersection(self.variants)):
                rule = f"null means no baseline, but a variant is named {min(name)!r}: rename that variant"
                raise invalid("ablation", rule, "baseline")
            return
        if self.baseline not in self.variants:
            rule = f"must be one of the variants {', '.join(self.variants)}, got {self.baseline!r}"
            raise invalid("ablation", rule, "baseline")
        if "axes" in self.variants[self.baseline]:
            raise invalid("ablation", "the baseline cannot have axes of its own", "baseline")

    @property
    def form(self) -> Form:
        """The key that defines the rows."""
        return "variants" if self.variants is not None else "vary" if self.vary is not None else "without"

    @property
    def baseline_name(self) -> str | None:
        """Name of the row that all others are compared with."""
        if self.variants is not None:
            return self.baseline
        return "base" if self.vary is not None else "full"
