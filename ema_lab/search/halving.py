"""Successive halving over reported values: ASHA (arXiv:1810.05934), Hyperband (arXiv:1603.06560).

Optuna's own pruners fix a trial's rung value once, when they judge the trial. A run trained earlier then gets
a later epoch's value or none, and a retried trial counts twice. Here a rung is computed from the values
reported at its epoch, wherever and whenever they were trained.
"""

import math
import random
from collections.abc import Sequence

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from ema_lab.search.history import HISTORY


class HalvingPruner(BasePruner):
    """Pruner that keeps the best 1/eta of the trials that reach each band, and always the best trial.

    Args:
        bands: Epochs at which trials are compared, ascending.
        eta: Reduction factor: one trial in `eta` continues.
        brackets: Number of brackets; 1 is ASHA. Hyperband's bracket n, from 0, skips the first n bands and
            compares only its own trials.
    """

    def __init__(self, bands: Sequence[int], eta: float, brackets: int = 1) -> None:
        self.bands = tuple(bands)
        self.eta = eta
        # Hyperband's Algorithm 1: initial trials of bracket s. Reversed, since bracket 0 here uses all bands.
        self.weights = [math.ceil(brackets * eta**s / (s + 1)) for s in reversed(range(brackets))]

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether to prune a trial at the epoch that it reported last."""
        bracket = self.bracket(study, trial)
        epoch = trial.last_step
        if epoch not in self.bands[bracket:]:
            return False
        sign = 1 if study.direction is StudyDirection.MAXIMIZE else -1
        rung = {  # a retried trial counts once, with its last value
            _first_number(other): sign * other.intermediate_values[epoch]
            for other in study.get_trials(deepcopy=False)
            if epoch in other.intermediate_values and self.bracket(study, other) == bracket
        }
        value = sign * trial.intermediate_values[epoch]
        rung[_first_number(trial)] = value
        reached = sum(not math.isnan(other) for other in rung.values())
        better = sum(other > value for other in rung.values())
        # Without max, a rung with fewer than eta trials would prune all of them, even the best.
        return math.isnan(value) or better >= max(1, reached // self.eta)

    def bracket(self, study: Study, trial: FrozenTrial) -> int:
        """Return a trial's bracket. A retried trial keeps the bracket of its first number."""
        # Drawn from the number, not in order of asking, so that all processes agree on the bracket.
        draw = random.Random(f"{study.study_name}-{_first_number(trial)}")
        return draw.choices(range(len(self.weights)), self.weights)[0]


def _first_number(trial: FrozenTrial) -> int:
    number: int = trial.system_attrs.get(HISTORY, [trial.number])[0]
    return number
