"""In-memory copies of a search's study for figures: real values, short names, display units."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ema_lab.search.distribution import Parameter
from ema_lab.search.history import RUN_IDS, VALUES, WARM, Ended, History
from ema_lab.search.objective import Objective
from ema_lab.search.report.naming import choice_labels, short_keys
from ema_lab.search.storage import quiet_optuna


@dataclass(frozen=True)
class Shown:
    """Parameter as a figure displays it: its name, its distribution, and a function from the trial's value."""

    name: str
    distribution: Any
    value_of: Callable[[Any], Any]


def shown_parameters(history: History) -> dict[str, Shown]:
    """Return each parameter's display form by dotted key: lists as labels, numbers over their real range."""
    names = short_keys([parameter.key for parameter in history.sweep.parameters])
    tried = [one.choice for one in history.trials()]
    return {
        one.key: shown_parameter(one, names[one.key], [c[one.key] for c in tried if one.key in c])
        for one in history.sweep.parameters
    }


def shown_parameter(parameter: Parameter, name: str, tried: Sequence[Any]) -> Shown:
    """Return a parameter's display form. `tried` values may lie outside the nominal ends."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.spec.values is not None:
        labels = choice_labels(parameter.choices)
        distribution = CategoricalDistribution(list(dict.fromkeys(labels.values())))
        return Shown(name, distribution, lambda value: labels[json.dumps(value, sort_keys=True)])
    known = [*parameter.ends(), *tried]
    low, high = min(known), max(known)
    if all(isinstance(value, int) for value in known):
        return Shown(name, IntDistribution(low, high), int)
    return Shown(name, FloatDistribution(low, high, log="log" in parameter.kind and low > 0), float)


def study_of_values(history: History, objectives: Sequence[Objective]) -> Any:
    """Return a study in memory that holds the real values under display names."""
    shown = shown_parameters(history)

    def space(trial: Any) -> dict[str, tuple[Any, Any]]:
        choice: Mapping[str, Any] = trial.user_attrs.get(VALUES, {})
        return {
            one.name: (one.value_of(choice[key]), one.distribution)
            for key, one in shown.items()
            if key in choice
        }

    return _copy(history, objectives, space)


def study_as_searched(history: History, objective: Objective) -> Any:
    """Return a study in memory with the searched numbers, including quantiles, under short names.

    Importance is computed from densities, so it needs the scale that the sampler drew from.
    """
    names = {
        one.name: shown_name
        for one, shown_name in zip(
            history.sweep.parameters,
            short_keys([parameter.key for parameter in history.sweep.parameters]).values(),
            strict=True,
        )
    }

    def space(trial: Any) -> dict[str, tuple[Any, Any]]:
        return {names[name]: (value, trial.distributions[name]) for name, value in trial.params.items()}

    return _copy(history, (objective,), space)


def _copy(
    history: History, objectives: Sequence[Objective], space: Callable[[Any], dict[str, tuple[Any, Any]]]
) -> Any:
    """Copy every ended trial; other and replaced trials become failed placeholders, which keep the numbering."""
    import optuna

    over = {one.number: one for one in history.trials()}
    places = [history.objectives.index(one) for one in objectives]
    with quiet_optuna():
        ways: list[Any] = [one.direction for one in objectives]
        study = optuna.create_study(directions=ways)
        for trial in history.study.get_trials(deepcopy=False):
            one = over.get(trial.number)
            found = space(trial) if one else {}
            held = one.values if one else None
            values = [held[i] / history.objectives[i].scale for i in places] if held else None
            study.add_trial(
                optuna.trial.create_trial(
                    state=trial.state if one else optuna.trial.TrialState.FAIL,
                    params={name: value for name, (value, _) in found.items()},
                    distributions={name: distribution for name, (_, distribution) in found.items()},
                    values=values,
                    user_attrs={key: trial.user_attrs.get(key) for key in (RUN_IDS, WARM)},
                    intermediate_values=_reported(history, trial, one) if one else {},
                )
            )
    return study


def _reported(history: History, trial: Any, one: Ended) -> dict[int, float]:
    """Return an ended trial's reported values; for finished runs, the current ones."""
    now = history.reported(one.run_ids) if one.values is not None else {}
    found = now or trial.intermediate_values
    return {step: value for step, value in found.items() if math.isfinite(value)}
