"""Anchors fitted to the boxes of a data set: k-means, then random mutations that are kept if they help.

The published anchors fit COCO. If fewer than 98 % of a data set's boxes have an anchor that can learn them,
YOLOv5 fits new anchors. Here the random draws depend on the boxes alone, so that all runs on a data set share
their anchors.
Shape letters: N boxes, A anchors; a size is width and height in pixels of the training image.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans

from ema_lab.tasks.detection.assignment import LARGEST_RATIO

Floats = NDArray[np.float64]
ENOUGH = 0.98  # share of boxes that an anchor must be able to learn
GENERATIONS = 1000
LEAST_SIDE = 2.0  # of boxes and anchors that are considered
_CHANCE, _SPREAD, _LIMITS = 0.9, 0.1, (0.3, 3.0)
_RESTARTS = 30


def fits(sizes_N2: Floats, anchors_A2: Floats) -> Floats:
    """Return the fit of each anchor to each box: the smallest ratio of their sides, in (0, 1]. (N, A)."""
    ratio = sizes_N2[:, None] / anchors_A2[None]
    fit: Floats = np.minimum(ratio, 1 / ratio).min(2)
    return fit


def possible_recall(sizes_N2: Floats, anchors_A2: Floats, largest_ratio: float = LARGEST_RATIO) -> float:
    """Return the share of boxes that at least one anchor can learn; 1 without boxes."""
    if not len(sizes_N2):
        return 1.0
    return float((fits(sizes_N2, anchors_A2).max(1) > 1 / largest_ratio).mean())


def fitness(sizes_N2: Floats, anchors_A2: Floats, largest_ratio: float = LARGEST_RATIO) -> float:
    """Return the mean fit of each box's best anchor; boxes that no anchor can learn count as 0."""
    best = fits(sizes_N2, anchors_A2).max(1)
    return float((best * (best > 1 / largest_ratio)).mean())


def fitted_anchors(sizes_N2: Floats, count: int, largest_ratio: float = LARGEST_RATIO) -> Floats:
    """Return `count` anchors that fit boxes, in ascending order of area: (A, 2).

    Raises:
        ValueError: If there are fewer different boxes than anchors.
    """
    usable = sizes_N2[(sizes_N2 >= LEAST_SIDE).any(1)]
    if len(np.unique(usable, axis=0)) < count:
        raise ValueError(
            f"{count} anchors need as many different boxes, got {len(np.unique(usable, axis=0))}"
        )
    generator = np.random.default_rng(0)
    spread = usable.std(0)
    spread[spread == 0] = 1
    centres, _ = kmeans(usable / spread, count, iter=_RESTARTS, rng=generator)
    best = np.resize(centres * spread, (count, 2))  # k-means may drop an empty cluster
    score = fitness(usable, best, largest_ratio)
    for _ in range(GENERATIONS):
        change = np.ones_like(best)
        while (change == 1).all():
            changed = generator.random(best.shape) < _CHANCE
            noise = generator.random() * generator.standard_normal(best.shape) * _SPREAD
            change = np.clip(changed * noise + 1, *_LIMITS)
        tried = np.maximum(best * change, LEAST_SIDE)
        if (found := fitness(usable, tried, largest_ratio)) > score:
            best, score = tried, found
    order = best.prod(1).argsort(kind="stable")
    anchors: Floats = best[order]
    return anchors


def chosen_anchors(
    sizes_N2: Floats, published_HA2: Floats, largest_ratio: float = LARGEST_RATIO
) -> tuple[Floats, bool]:
    """Return the anchors to train with, (heads, A, 2), and whether they were fitted.

    The published anchors are used if they can learn enough boxes, or if fitted ones learn no more.
    """
    flat = published_HA2.reshape(-1, 2)
    recall = possible_recall(sizes_N2, flat, largest_ratio)
    if recall >= ENOUGH:
        return published_HA2, False
    anchors = fitted_anchors(sizes_N2, len(flat), largest_ratio)
    if possible_recall(sizes_N2, anchors, largest_ratio) <= recall:
        return published_HA2, False
    return anchors.reshape(published_HA2.shape), True
