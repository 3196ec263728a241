"""Main effects and two-factor interactions of a full factorial design, blocked by seed.

Every effect is a contrast computed within each seed. Its interval therefore assumes neither equal variances
of the cells nor independence between them. The estimate equals that of least squares with seeds as blocks.
"""

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from ema_lab.statistics.paired import PairedDifference, PairedTest, paired_difference, paired_test

Levels = tuple[str, ...]


@dataclass(frozen=True)
class Effect:
    """Contrast of levels against the first level of each factor, averaged over all other factors.

    Attributes:
        factors: One factor of a main effect, or two of an interaction.
        levels: Compared level of each factor.
        references: First level of each factor, with which `levels` is compared.
        difference: Mean contrast over seeds with its 95 % t interval, in the unit of the values.
        test: Test of the null hypothesis of no effect.
        seeds: Seeds that all combinations have in common.
        differences: Contrast of each seed.
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
        values: Values by seed, for each combination of levels in the order of `factors`.
        factors: Names of the factors.

    Raises:
        ValueError: If a combination is missing, or the combinations share no seed.
    """
    levels, seeds = full_product(values, len(factors))
    result = []
    for size in (1, 2):
        for indices in itertools.combinations(range(len(factors)), size):
            compared = itertools.product(*(levels[index][1:] for index in indices))
            result += [
                _effect(values, factors, levels, indices, compared_levels, seeds)
                for compared_levels in compared
            ]
    return result


def full_product(
    values: Mapping[Levels, Mapping[Hashable, float]], factors: int
) -> tuple[list[list[str]], tuple[Hashable, ...]]:
    """Return the levels of each factor, and the seeds that all combinations have in common.

    Raises:
        ValueError: If a combination is missing, or the combinations share no seed.
    """
    levels = [list(dict.fromkeys(key[index] for key in values)) for index in range(factors)]
    missing = [key for key in itertools.product(*levels) if key not in values]
    if missing:
        raise ValueError(f"effects need a full product, and {' x '.join(missing[0])} is missing")
    common = set.intersection(*(set(by_seed) for by_seed in values.values()))
    seeds = tuple(seed for seed in next(iter(values.values())) if seed in common)
    if not seeds:
        raise ValueError("effects need a seed that all combinations have in common")
    return levels, seeds


def _effect(
    values: Mapping[Levels, Mapping[Hashable, float]],
    factors: Sequence[str],
    levels: Sequence[Sequence[str]],
    indices: tuple[int, ...],
    compared_levels: Levels,
    seeds: tuple[Hashable, ...],
) -> Effect:
    averaged = [levels[index] if index not in indices else [""] for index in range(len(factors))]
    rest = list(itertools.product(*averaged))
    references = tuple(levels[index][0] for index in indices)
    differences = []
    for seed in seeds:
        total = 0.0
        # The contrast of two factors is (AB - aB) - (Ab - ab): signs flip with each reference level.
        for sides in itertools.product((True, False), repeat=len(indices)):
            sign = -1 if sides.count(False) % 2 else 1
            corner = [
                level if side else ref
                for side, level, ref in zip(sides, compared_levels, references, strict=True)
            ]
            total += sign * sum(values[_filled(key, indices, corner)][seed] for key in rest)
        differences.append(total / len(rest))
    return Effect(
        tuple(factors[index] for index in indices),
        compared_levels,
        references,
        paired_difference(differences),
        paired_test(differences),
        seeds,
        tuple(differences),
    )


def _filled(key: Levels, indices: Sequence[int], levels: Sequence[str]) -> Levels:
    filled = list(key)
    for index, level in zip(indices, levels, strict=True):
        filled[index] = level
    return tuple(filled)
