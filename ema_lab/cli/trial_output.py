"""Output of trials, shared by the commands of searches."""

from collections.abc import Sequence
from typing import Any

from ema_lab.cli.output import say
from ema_lab.search.history import EndedTrial, History
from ema_lab.search.optimism import optimism_text
from ema_lab.search.report.trials import stale_text, trial_rows

BEST_SHOWN = 10


def trial_table(study: History, trials: Sequence[EndedTrial], most: int = BEST_SHOWN) -> list[dict[str, Any]]:
    """Return the first trials as rows of a table that fits a terminal."""
    return trial_rows(study, trials[:most], short=True)


def say_optimism(history: History) -> None:
    """Print the warning that the best value of a search is optimistic, if it has several values."""
    if text := optimism_text(history):
        say(f"{history.sweep.name}: {text}")


def say_stale(history: History) -> None:
    """Print a line about stale values of a search, if there are any."""
    if text := stale_text(history.trials()):
        say(f"{history.sweep.name}: {text}")
