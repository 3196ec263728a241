"""In-memory copies of a search's study for figures: real values, short names, display units."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ema_lab.search.distribution import Parameter
from ema_lab.search.history import RUN_IDS, VALUES, WARM, EndedTrial, History
from ema_lab.search.objective import Objective
from ema_lab.search.report.labels import choice_labels, short_keys
from ema_lab.search.storage import quiet_optuna


@dataclass(frozen=True)
class PlotParameter:
    """Parameter of a figure: its display name, distribution, and conversion from a trial's value."""

    name: str
    distribution: Any
    value_of: Callable[[Any], Any]


def plot_parameters(history: History) -> dict[str, PlotParameter]:
    """Return each parameter's display form by dotted key: lists as labels, numbers over their real range."""
    names = short_keys([parameter.key for parameter in history.sweep.parameters])
    tried = [trial.choice for trial in history.trials()]
    return {
        parameter.key: plot_parameter(
            parameter,
            names[parameter.key],
            [choice[parameter.key] for choice in tried if parameter.key in choice],
        )
        for parameter in history.sweep.parameters
    }


def plot_parameter(parameter: Parameter, name: str, tried: Sequence[Any]) -> PlotParameter:
    """Return a parameter's display form. `tried` values may lie outside the nominal ends."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.spec.values is not None:
        labels = choice_labels(parameter.choices)
        distribution = CategoricalDistribution(list(dict.fromkeys(labels.values())))
        return PlotParameter(name, distribution, lambda value: labels[json.dumps(value, sort_keys=True)])
    known = [*parameter.ends(), *tried]
    low, high = min(known), max(known)
    if all(isinstance(value, int) for value in known):
        return PlotParameter(name, IntDistribution(low, high), int)
    return PlotParameter(name, FloatDistribution(low, high, log="log" in parameter.kind and low > 0), float)


def study_of_values(history: History, objectives: Sequence[Objective]) -> Any:
    """Return a study in memory that holds the real values under display names."""
    parameters = plot_parameters(history)

    def space(trial: Any) -> dict[str, tuple[Any, Any]]:
        choice: Mapping[str, Any] = trial.user_attrs.get(VALUES, {})
        return {
            parameter.name: (parameter.value_of(choice[key]), parameter.distribution)
            for key, parameter in parameters.items()
            if key in choice
        }

    return _copy(history, objectives, space)


def study_as_searched(history: History, objective: Objective) -> Any:
    """Return a study in memory with the searched numbers, including quantiles, under short names.

    Importance is computed from densities, so it needs the scale that the sampler drew from.
    """
    names = {
        parameter.name: shown_name
        for parameter, shown_name in zip(
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
    """Copy every ended trial; others become failed placeholders, which keep the numbering."""
    import optuna

    over = {ended_trial.number: ended_trial for ended_trial in history.trials()}
    objective_indices = [history.objectives.index(objective) for objective in objectives]
    with quiet_optuna():
        directions: list[Any] = [objective.direction for objective in objectives]
        study = optuna.create_study(directions=directions)
        for trial in history.study.get_trials(deepcopy=False):
            ended_trial = over.get(trial.number)
            dimensions = space(trial) if ended_trial else {}
            ended_values = ended_trial.values if ended_trial else None
            values = (
                [ended_values[i] / history.objectives[i].scale for i in objective_indices]
                if ended_values
                else None
            )
            study.add_trial(
                optuna.trial.create_trial(
                    state=trial.state if ended_trial else optuna.trial.TrialState.FAIL,
                    params={name: value for name, (value, _) in dimensions.items()},
                    distributions={name: distribution for name, (_, distribution) in dimensions.items()},
                    values=values,
                    user_attrs={key: trial.user_attrs.get(key) for key in (RUN_IDS, WARM)},
                    intermediate_values=_reported(history, trial, ended_trial) if ended_trial else {},
                )
            )
    return study


def _reported(history: History, trial: Any, ended_trial: EndedTrial) -> dict[int, float]:
    """Return an ended trial's reported values; for finished runs, the current ones."""
    current = history.reported(ended_trial.run_ids) if ended_trial.values is not None else {}
    values = current or trial.intermediate_values
    return {step: value for step, value in values.items() if math.isfinite(value)}
