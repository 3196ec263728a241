"""Ties: numbers that are equal up to rounding, such as percentages of whole images and their means.

The percentages of 330, 331 and 332 of 360 images have the same mean as three times 331 of 360, but the two
floats differ in their last bit.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

TIE_TOLERANCE = 1e-9  # relative: rounding errors are about 1e-15, one image is never below 1e-7


def is_tied(a: float, b: float) -> bool:
    """Return whether two values are equal up to rounding."""
    return math.isclose(a, b, rel_tol=TIE_TOLERANCE)


def difference(mine: float, other: float) -> float:
    """Return `mine - other`, exactly zero if the values are equal up to rounding.

    Call this function before comparing differences with each other. If all differences are rounding errors,
    a tolerance relative to the largest difference would detect no tie.
    """
    return 0.0 if is_tied(mine, other) else mine - other


def merge_ties(values: Sequence[float]) -> list[float]:
    """Return the values with numbers that are equal up to rounding replaced by a common number."""
    order = sorted(range(len(values)), key=values.__getitem__)
    merged = list(values)
    for before, following in pairwise(order):
        if is_tied(merged[before], merged[following]):
            merged[following] = merged[before]
    return merged


def differences(mine: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return the paired differences, with zeros and tied magnitudes made exactly equal."""
    signed = [difference(a, b) for a, b in zip(mine, other, strict=True)]
    sizes = merge_ties(list(map(abs, signed)))
    return [math.copysign(size, value) for size, value in zip(sizes, signed, strict=True)]
