"""COCO's evaluation of bootstrap draws: detections are matched once, and each draw only counts them again.

Matching concerns one image at a time, so that no draw changes it. `coco_table` gives the same numbers for a
list of scenes in which images repeat.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ema_lab.tasks.detection.protocol.coco_table import AREAS, MOST, RECALLS, THRESHOLDS, with_sizes
from ema_lab.tasks.detection.protocol.scene import Floats, Integers, Scene

LIMITS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])  # of the area, as in `AREAS`
Flags = NDArray[np.bool_]
_RANGES = {  # of a metric: index in `AREAS`, and thresholds
    "map": (0, slice(None)),
    "map50": (0, slice(0, 1)),
    "map75": (0, slice(5, 6)),
    **{f"map_{area}": (index, slice(None)) for index, area in enumerate(AREAS) if index},
    "ar100": (0, slice(None)),
}


@dataclass(frozen=True)
class ClassMatches:
    """Matches of one class in all images, by falling score.

    Attributes:
        image: (D,), image of each detection.
        right: (4, 10, D), whether a detection finds a box, by area and threshold.
        ignored: (4, 10, D), whether a detection is ignored.
        boxes: (4, images), number of boxes to find.
    """

    image: Integers
    right: Flags
    ignored: Flags
    boxes: Integers


@dataclass(frozen=True)
class _ImageMatches:
    """Matches of one class in one image.

    Attributes:
        scores: (D,), falling.
        right: (4, 10, D), as in `ClassMatches`, like `ignored`.
        boxes: (4,), number of boxes to find.
    """

    scores: Floats
    right: Flags
    ignored: Flags
    boxes: Integers


class CocoMatches:
    """Detections of all images, matched with the truth as COCO does."""

    def __init__(self, scenes: Sequence[Scene], classes: int) -> None:
        by_image: list[dict[int, _ImageMatches]] = [{} for _ in range(classes)]
        for number, scene in enumerate(scenes):
            for cls in np.union1d(scene.classes, scene.detected_classes):
                by_image[cls][number] = _image_matches(scene, cls)
        self._classes = [_class_matches(by_image, len(scenes)) for by_image in by_image]

    def value(self, metric: str, counts: Integers) -> float:
        """Return a metric in percent; NaN if the drawn images have no box that counts.

        Args:
            metric: map, map50, map75, map_small, map_medium, map_large or ar100.
            counts: How often each image was drawn, (images,).
        """
        area, chosen = _RANGES[metric]
        of_class = recall if metric == "ar100" else average_precision
        values = [
            of_class(each, area, chosen, counts) for each in self._classes if counts @ each.boxes[area] > 0
        ]
        return 100 * float(np.mean(values)) if values else float("nan")


def average_precision(matches: ClassMatches, area: int, chosen: slice, counts: Integers) -> float:
    """Return the precision of one class, averaged over 101 recalls and the chosen thresholds."""
    if not len(matches.image):
        return 0.0
    hits, misses, by_image = _cumulative(matches, area, chosen, counts)
    envelope = np.maximum.accumulate((hits / np.maximum(hits + misses, 1))[:, ::-1], axis=1)[:, ::-1]
    envelope = np.concatenate([envelope, np.zeros((len(envelope), 1))], axis=1)  # of recalls not reached
    places = [row.searchsorted(RECALLS, side="left") for row in by_image]
    return float(np.take_along_axis(envelope, np.stack(places), axis=1).mean())


def recall(matches: ClassMatches, area: int, chosen: slice, counts: Integers) -> float:
    """Return the greatest recall of one class, averaged over the chosen thresholds."""
    if not len(matches.image):
        return 0.0
    return float(_cumulative(matches, area, chosen, counts)[2][:, -1].mean())


def _cumulative(
    matches: ClassMatches, area: int, chosen: slice, counts: Integers
) -> tuple[Floats, Floats, Floats]:
    """Return hits, misses and recall after each detection, of shape (thresholds, detections)."""
    drawn = counts[matches.image]
    right, ignored = matches.right[area, chosen], matches.ignored[area, chosen]
    hits = np.where(right & ~ignored, drawn, 0).cumsum(axis=1).astype(float)
    misses = np.where(~right & ~ignored, drawn, 0).cumsum(axis=1).astype(float)
    return hits, misses, hits / (counts @ matches.boxes[area])


def _class_matches(by_image: Mapping[int, _ImageMatches], images: int) -> ClassMatches:
    boxes = np.zeros((len(AREAS), images), dtype=np.int64)
    for number, each in by_image.items():
        boxes[:, number] = each.boxes
    if not by_image:
        none = np.zeros((len(AREAS), len(THRESHOLDS), 0), dtype=bool)
        return ClassMatches(np.zeros(0, dtype=np.int64), none, none, boxes)
    order = (-np.concatenate([each.scores for each in by_image.values()])).argsort(kind="stable")
    image = np.repeat(list(by_image), [len(each.scores) for each in by_image.values()])
    right = np.concatenate([each.right for each in by_image.values()], axis=2)
    ignored = np.concatenate([each.ignored for each in by_image.values()], axis=2)
    return ClassMatches(image[order], right[..., order], ignored[..., order], boxes)


def _image_matches(scene: Scene, cls: int) -> _ImageMatches:
    mine = np.nonzero(scene.detected_classes == cls)[0]
    mine = mine[(-scene.scores[mine]).argsort(kind="stable")][: MOST[-1]]
    true = scene.classes == cls
    detected, boxes = with_sizes(scene.detected[mine]), with_sizes(scene.boxes[true])
    crowd = scene.ignored[true]
    is_outside = crowd | _is_outside(boxes)  # (4, boxes)
    right = np.zeros((len(AREAS), len(THRESHOLDS), len(mine)), dtype=bool)
    ignored = np.zeros_like(right)
    taken = np.zeros((len(AREAS), len(THRESHOLDS), len(boxes)), dtype=bool)
    overlaps = _overlaps(detected, boxes, crowd)
    limits = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    for number, overlap in enumerate(overlaps if len(boxes) else ()):
        free = (overlap >= limits) & ~(taken & ~crowd)
        real = free & ~is_outside[:, None]
        # A box that counts comes before any that does not; of equal overlaps, the last box wins.
        candidates = np.where(real.any(axis=2, keepdims=True), real, free)
        best = len(boxes) - 1 - np.where(candidates, overlap, -1.0)[..., ::-1].argmax(axis=2)
        has_match = candidates.any(axis=2)
        right[..., number] = has_match
        ignored[..., number] = has_match & np.take_along_axis(is_outside, best, axis=1)
        taken |= has_match[..., None] & (np.arange(len(boxes)) == best[..., None])
    ignored |= ~right & _is_outside(detected)[:, None]
    return _ImageMatches(scene.scores[mine], right, ignored, (~is_outside).sum(axis=1))


def _is_outside(sized: Floats) -> Flags:
    """Return whether each box, as left, top, width, height, is outside of each range of areas: (4, N)."""
    area = sized[:, 2] * sized[:, 3]
    outside: Flags = (area < LIMITS[:, :1]) | (area > LIMITS[:, 1:])
    return outside


def _overlaps(detected: Floats, boxes: Floats, crowd: Flags) -> Floats:
    """Return the IoU of detections with boxes, and with crowds the share of the detection: (D, T)."""
    low = np.maximum(detected[:, None, :2], boxes[None, :, :2])
    high = np.minimum((detected[:, :2] + detected[:, 2:])[:, None], (boxes[:, :2] + boxes[:, 2:])[None])
    inter = (high - low).clip(0).prod(2)
    own, other = (sized[:, 2] * sized[:, 3] for sized in (detected, boxes))
    union = np.where(crowd[None], own[:, None], own[:, None] + other[None] - inter)
    overlaps: Floats = inter / np.where(union > 0, union, 1.0)
    return overlaps
