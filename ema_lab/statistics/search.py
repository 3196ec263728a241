"""Statistics of searches: the best of several values, and what it promises.

The best of k validation values was chosen because it is high. Part of its height is luck, which a repetition
lacks. It is therefore an optimistic estimate, the more so with more trials and with more noise per trial.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ExpectedBest:
    """Expected best value of `budget` trials, and its standard deviation, in the unit of the values."""

    budget: int
    mean: float
    std: float


def expected_best(values: Sequence[float], sign: int, budgets: Sequence[int]) -> list[ExpectedBest]:
    """Return the expected best of several independent draws from the empirical distribution of values.

    Source: Dodge et al., Show your work: improved reporting of experimental results, EMNLP 2019,
    arXiv:1909.03004. The largest of B draws is at most the i-th smallest of n values with the probability
    (i / n)^B. The values stand for a search whose trials are independent, such as random search. Close to n
    draws the expectation is too low, since no draw can exceed the best value.

    Args:
        values: One value per trial.
        sign: +1 if higher is better, -1 if lower is.
        budgets: Numbers of trials, each at least 1.

    Raises:
        ValueError: If `values` is empty, or a budget is below 1.
    """
    if not values or any(budget < 1 for budget in budgets):
        given = f"the budgets {list(budgets)} for {list(values)}"
        raise ValueError(f"expected_best needs values and budgets from 1, got {given}")
    ordered = sorted(sign * value for value in values)
    centre, count = ordered[-1], len(ordered)  # squares of differences to the best value keep their digits
    found = []
    for budget in budgets:
        below = [(index / count) ** budget for index in range(count + 1)]
        weights = [high - low for low, high in itertools.pairwise(below)]
        pairs = [(weight, value - centre) for weight, value in zip(weights, ordered, strict=True)]
        mean = math.fsum(weight * value for weight, value in pairs)
        square = math.fsum(weight * value**2 for weight, value in pairs)
        found.append(ExpectedBest(budget, sign * (centre + mean), math.sqrt(max(0.0, square - mean**2))))
    return found
