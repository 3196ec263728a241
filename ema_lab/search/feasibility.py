"""Values of a space for which no model can be built: those that only failing models have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.search.sweep import BASE, Sweep, Values, common_items
from ema_lab.specs.run import RunSpec
from ema_lab.specs.strict import canonical_json

SHAPING = ("model", "data")  # the parts of a run spec that determine its model


def check_examples(sweep: Sweep, check: Callable[[RunSpec], None]) -> None:
    """Check the model of every example of a space, each distinct model once.

    Args:
        sweep: The space.
        check: Raises SpecError for a run whose model cannot be built.

    Raises:
        DefinitionError: With one line per reason, at the values that only the failing models have.
    """
    verdicts: dict[str, str] = {}
    fitting: list[Values] = []
    failing: dict[str, list[Values]] = {}
    for values in sweep.example_values():
        spec = sweep.run(values, sweep.seeds[0])
        if spec.model_key not in verdicts:
            verdicts[spec.model_key] = _verdict(check, spec)
        shaping = {key: value for key, value in values.items() if key.partition(".")[0] in SHAPING}
        reason = verdicts[spec.model_key]
        (failing.setdefault(reason, []) if reason else fitting).append(shaping)
    if failing:
        raise DefinitionError([_problem(sweep, *item, fitting) for item in failing.items()])


def _verdict(check: Callable[[RunSpec], None], spec: RunSpec) -> str:
    try:
        check(spec)
    except SpecError as error:
        return str(error) or type(error).__name__
    return ""


def _problem(
    sweep: Sweep, reason: str, failing: Sequence[Values], fitting: Sequence[Mapping[str, Any]]
) -> Problem:
    common = common_items(failing) or (dict(failing[0]) if fitting else {})
    others = [(key, canonical_json(value)) for values in fitting for key, value in values.items()]
    own = {key: value for key, value in common.items() if (key, canonical_json(value)) not in others}
    constants = {
        ".".join(change.keys): change.value for change in sweep.constants if change.keys[0] == "model"
    }
    blamed = own or common or constants
    if not blamed:
        return Problem(sweep.document.where(BASE), f"parameters.base: {sweep.spec.base}: {reason}")
    named = ", ".join(f"{key}={canonical_json(value)}" for key, value in blamed.items())
    return Problem(sweep.where(*list(blamed.items())[-1]), f"{named}: {reason}")
