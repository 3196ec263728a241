"""Main effects and interactions of a full product of factors, paired by seed.

Every effect is a contrast within each seed, so that seeds are blocks: its interval needs neither equal
variances of the cells nor independence between them. In a full product its estimate is that of least
squares with seeds as blocks.
"""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from ema_lab.statistics.paired import PairedDifference, PairedTest, paired_difference, paired_test

Levels = tuple[str, ...]


@dataclass(frozen=True)
class Effect:
    """A contrast of levels against the first level of each factor, averaged over all other factors.

    Attributes:
        factors: One factor for a main effect, two for an interaction.
        levels: The level of each of them that is compared; `references`: what it is compared with.
        difference: The mean contrast over seeds with its 95 % t interval. `test`: of no effect.
        seeds: Those that all combinations have in common. `differences`: the contrast in each of them.
    """

    factors: Levels
    levels: Levels
    references: Levels
    difference: PairedDifference
    test: PairedTest
    seeds: tuple[Hashable, ...]
    differences: tuple[float, ...]


def effects(values: Mapping[Levels, Mapping[Hashable, float]], factors: Sequence[str]) -> list[Effect]:
    """Return all main effects, then all two-factor interactions.

    Args:
        values: For each combination of levels (in the order of `factors`) the values by seed.
        factors: The names of the factors.

    Raises:
        ValueError: If a combination is missing, or no seed is common to all.
    """
    levels = [list(dict.fromkeys(key[place] for key in values)) for place in range(len(factors))]
    missing = [key for key in itertools.product(*levels) if key not in values]
    if missing:
        raise ValueError(f"effects need a full product, and {' x '.join(missing[0])} is missing")
    common = set.intersection(*(set(by_seed) for by_seed in values.values()))
    seeds = tuple(seed for seed in next(iter(values.values())) if seed in common)
    if not seeds:
        raise ValueError("effects need a seed that all combinations have in common")
    found = []
    for size in (1, 2):
        for places in itertools.combinations(range(len(factors)), size):
            compared = itertools.product(*(levels[place][1:] for place in places))
            found += [_effect(values, factors, levels, places, chosen, seeds) for chosen in compared]
    return found


def _effect(
    values: Mapping[Levels, Mapping[Hashable, float]],
    factors: Sequence[str],
    levels: Sequence[Sequence[str]],
    places: tuple[int, ...],
    chosen: Levels,
    seeds: tuple[Hashable, ...],
) -> Effect:
    others = [levels[place] if place not in places else [""] for place in range(len(factors))]
    rest = list(itertools.product(*others))
    references = tuple(levels[place][0] for place in places)
    differences = []
    for seed in seeds:
        total = 0.0
        for sides in itertools.product((True, False), repeat=len(places)):
            sign = -1 if sides.count(False) % 2 else 1
            here = [
                level if side else ref for side, level, ref in zip(sides, chosen, references, strict=True)
            ]
            total += sign * sum(values[_filled(key, places, here)][seed] for key in rest)
        differences.append(total / len(rest))
    return Effect(
        tuple(factors[place] for place in places),
        chosen,
        references,
        paired_difference(differences),
        paired_test(differences),
        seeds,
        tuple(differences),
    )


def _filled(key: Levels, places: Sequence[int], levels: Sequence[str]) -> Levels:
    filled = list(key)
    for place, level in zip(places, levels, strict=True):
        filled[place] = level
    return tuple(filled)
