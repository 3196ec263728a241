"""The form of an ablation file: named variants (or one-at-a-time changes) x axes x seeds."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, Strict, model_validator

from ema_lab.specs.recipe import Natural
from ema_lab.specs.strict import Spec, invalid

Changes = Mapping[str, Any]
Axes = Mapping[str, list[Any] | dict[str, dict[str, Any]]]


class SkipSpec(Spec):
    """Cells that are left out, and why. `when` is equality or a list of allowed values."""

    when: Annotated[Mapping[str, Any], Field(min_length=1)]
    reason: Annotated[str, Field(min_length=1)]


class AblationSpec(Spec):
    """A named set of runs. Exactly one of `variants`, `vary` and `without` gives its rows.

    `variants`: rows by name, each a mapping of dotted keys that change the base, with its own `axes`.
    `vary`: one row `base`, and one row for each listed value of each key (one at a time).
    `without`: one row `full`, and one row per label (leave one out).
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    description: str = ""
    base: Mapping[str, Any]
    seeds: Annotated[tuple[Natural, ...], Strict(False), Field(min_length=1)]
    baseline: str | None = None
    variants: Mapping[str, dict[str, Any]] | None = None
    vary: Mapping[str, list[Any]] | None = None
    without: Mapping[str, dict[str, Any]] | None = None
    axes: Axes = {}
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
        for name, values in self.axes.items():
            if not values:
                raise invalid("ablation", "an axis needs at least one value", "axes", name)
        self._check_baseline()
        return self

    def _check_baseline(self) -> None:
        if self.variants is None:
            if self.baseline is not None:
                rule = "is given by the form: 'base' with vary, 'full' with without"
                raise invalid("ablation", rule, "baseline")
            return
        if self.baseline is None:
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
