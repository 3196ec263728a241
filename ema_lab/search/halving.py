"""Successive halving by what trials have reported: ASHA (arXiv:1810.05934), Hyperband (arXiv:1603.06560).

Optuna's own pruners note a trial's rung when they judge it, for good: a run that was trained before its
trial, in part or whole, gets the value of a later epoch there or none, and a trial that is tried again
counts twice. Here a rung is what trials reported at its epoch, wherever and whenever they were trained.
"""

import math
import random
from collections.abc import Sequence

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from ema_lab.search.history import HISTORY


class HalvingPruner(BasePruner):
    """At each band the best 1/eta of the trials that have reached it go on, and the best always.

    Args:
        bands: The epochs at which trials are compared, the first one first.
        eta: One in so many goes on.
        brackets: 1 is ASHA. Hyperband has several: number n, from 0, leaves out the first n bands, and its
            trials are compared among themselves.
    """

    def __init__(self, bands: Sequence[int], eta: float, brackets: int = 1) -> None:
        self.bands = tuple(bands)
        self.eta = eta
        self.weights = [math.ceil(brackets * eta**s / (s + 1)) for s in reversed(range(brackets))]

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether a trial is to be pruned at the epoch that it has reported last."""
        bracket = self.bracket(study, trial)
        epoch = trial.last_step
        if epoch not in self.bands[bracket:]:
            return False
        sign = 1 if study.direction is StudyDirection.MAXIMIZE else -1
        rung = {  # of one that was tried again, the last value
            _first_number(other): sign * other.intermediate_values[epoch]
            for other in study.get_trials(deepcopy=False)
            if epoch in other.intermediate_values and self.bracket(study, other) == bracket
        }
        value = sign * trial.intermediate_values[epoch]
        rung[_first_number(trial)] = value
        reached = sum(not math.isnan(other) for other in rung.values())
        better = sum(other > value for other in rung.values())
        return math.isnan(value) or better >= max(1, reached // self.eta)

    def bracket(self, study: Study, trial: FrozenTrial) -> int:
        """Return a trial's bracket. One that is tried again stays in that of its first number."""
        draw = random.Random(f"{study.study_name}-{_first_number(trial)}")
        return draw.choices(range(len(self.weights)), self.weights)[0]


def _first_number(trial: FrozenTrial) -> int:
    number: int = trial.system_attrs.get(HISTORY, [trial.number])[0]
    return number
