"""Numbers that are equal but for rounding: percentages of whole numbers of images, and means of them.

The mean of 330, 331 and 332 of 360 images in per cent is not that of 331, 331 and 331 to the last bit, yet
no image tells the two apart.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

TIED = 1e-9  # of the larger magnitude: rounding is at most some 1e-15 of it, an image never below 1e-7


def tied(a: float, b: float) -> bool:
    """Whether two values are equal but for rounding."""
    return math.isclose(a, b, rel_tol=TIED)


def difference(mine: float, other: float) -> float:
    """Return `mine - other`: exactly zero of values that are equal but for rounding.

    To be asked before differences are compared with each other: where all of them are rounding, none of
    them looks small beside the largest.
    """
    return 0.0 if tied(mine, other) else mine - other


def snapped(values: Sequence[float]) -> list[float]:
    """Return the values, those that are equal but for rounding being the same number."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = list(values)
    for before, place in pairwise(order):
        if tied(found[before], found[place]):
            found[place] = found[before]
    return found


def differences(mine: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return the differences of pairs: zeros and sizes that are equal but for rounding are equal."""
    found = [difference(a, b) for a, b in zip(mine, other, strict=True)]
    return [math.copysign(size, one) for size, one in zip(snapped(list(map(abs, found))), found, strict=True)]
