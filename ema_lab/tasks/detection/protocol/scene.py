"""Truth and detections of images, in the form that all evaluation protocols read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Scene:
    """Truth and detections of one image; boxes are corners in pixels of the image.

    Attributes:
        height: Height of the image in pixels; `width` likewise.
        boxes: (T, 4), boxes of the truth.
        classes: (T,), their classes, from 0.
        ignored: (T,), whether a box is ignored: a crowd (COCO), a score of 0 (VisDrone).
        detected: (D, 4), detected boxes by descending score.
        scores: (D,), their scores.
        detected_classes: (D,), their classes.
        ignored_regions: (R, 4), parts of the image that are not annotated (VisDrone's category 0).
    """

    height: int
    width: int
    boxes: Floats
    classes: Integers
    ignored: NDArray[np.bool_]
    detected: Floats
    scores: Floats
    detected_classes: Integers
    ignored_regions: Floats


def scenes_from(arrays: Mapping[str, NDArray[Any]]) -> list[Scene]:
    """Return the images of stored predictions, in their order, each with its truth and its detections."""
    detections = _by_image(arrays["detected_image"], arrays["indices"])
    truths = _by_image(arrays["truth_image"], arrays["indices"])
    regions = _by_image(arrays["region_image"], arrays["indices"])
    scenes = []
    for place, (height, width) in enumerate(arrays["sizes"].tolist()):
        mine, found = truths[place], detections[place]
        scenes.append(
            Scene(
                height=int(height),
                width=int(width),
                boxes=arrays["boxes"][mine].astype(np.float64),
                classes=arrays["classes"][mine].astype(np.int64),
                ignored=arrays["ignored"][mine].astype(bool),
                detected=arrays["detected"][found].astype(np.float64),
                scores=arrays["scores"][found].astype(np.float64),
                detected_classes=arrays["detected_classes"][found].astype(np.int64),
                ignored_regions=arrays["regions"][regions[place]].astype(np.float64),
            )
        )
    return scenes


def _by_image(owner: NDArray[np.int64], indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows of each image, in their order."""
    order = owner.argsort(kind="stable")
    sorted_owner = owner[order]
    low, high = (sorted_owner.searchsorted(indices, side) for side in ("left", "right"))
    return [order[first:last] for first, last in zip(low, high, strict=True)]


def pairwise_iou(boxes_N4: NDArray[Any], others_M4: NDArray[Any]) -> NDArray[Any]:
    """Return the IoU of every box with every other, corners given: (N, M)."""
    low = np.maximum(boxes_N4[:, None, :2], others_M4[None, :, :2])
    high = np.minimum(boxes_N4[:, None, 2:], others_M4[None, :, 2:])
    inter = (high - low).clip(0).prod(2)
    first, second = ((boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (boxes_N4, others_M4))
    iou: NDArray[Any] = inter / (first[:, None] + second[None] - inter)
    return iou
