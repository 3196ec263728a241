"""Importance of a search's parameters for an objective."""

import warnings

from ema_lab.search.history import History
from ema_lab.search.objective import Objective
from ema_lab.search.report.study_copy import study_as_searched
from ema_lab.search.storage import quiet_optuna

FEW = 20  # below so many finished trials, the best tenth that PED-ANOVA uses is one or two


def importances(history: History, objective: Objective) -> dict[str, float]:
    """Return each parameter's importance (PED-ANOVA, shares of one) by its short name, the greatest first.

    The result is empty with too few finished trials, or if no parameter has any importance.
    """
    from optuna.importance import get_param_importances

    if sum(trial.values is not None for trial in history.trials()) < 2:
        return {}
    with quiet_optuna(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        searched = study_as_searched(history, objective)
        found = get_param_importances(searched, normalize=False)
    too_few = any("importance" in str(warning.message).lower() for warning in caught)
    return {} if too_few or not sum(found.values()) else dict(found)
