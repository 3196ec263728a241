"""Chance levels: the values of metrics that guessing gives."""

import math

from ema_lab.specs.dataset import DatasetFacts
from ema_lab.specs.task import DEFAULT_TASK


def chance_level(metric: str, facts: DatasetFacts) -> float | None:
    """Return the value that a network without any knowledge has; None if it is unknown.

    A classifier guesses evenly among the classes. A detector finds nothing, which is zero percent of every
    metric. A task from outside of this package has no known level.

    Args:
        metric: Name of the metric.
        facts: Facts of the data set.
    """
    if facts.task == "detection":
        return 0.0
    if facts.task != DEFAULT_TASK:
        return None
    if metric == "loss":
        return math.log(facts.classes)
    return 100 * min(1.0, int(metric.removeprefix("top")) / facts.classes)
