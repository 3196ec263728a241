"""Warning that the best of several validation values is optimistic, in every output of a search."""

from collections.abc import Sequence

from ema_lab.search.history import EndedTrial, History
from ema_lab.wording import number_of

MEASURED = "seeds that no trial has seen, on the test split, measure it"


def num_compared(trials: Sequence[EndedTrial]) -> int:
    """Return the number of trials with a value, among which the best was chosen."""
    return sum(trial.values is not None for trial in trials)


def optimism_text(history: History) -> str:
    """Return the warning about a search's best value; empty below two values."""
    count = num_compared(history.trials())
    return best_of_text(count, "best" if len(history.objectives) == 1 else "Pareto front")


def best_of_text(count: int, best: str = "best") -> str:
    """Return the warning about the best of `count` validation values; empty below two."""
    if count < 2:
        return ""
    values = number_of(count, "validation value")
    return f"the {best} of {values} is optimistic, since it was chosen by them; {MEASURED}"
