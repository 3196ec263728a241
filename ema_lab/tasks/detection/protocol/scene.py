"""Truth and detections of images, as every protocol of evaluation reads them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Scene:
    """The truth of one image and what was detected in it; boxes are corners in pixels of the image.

    Attributes:
        height: Of the image in pixels, like `width`.
        boxes: (T, 4) of the truth.
        classes: (T,), from 0.
        ignored: (T,), whether a box counts neither way: a crowd (COCO), a score of 0 (VisDrone).
        detected: (D, 4), by falling score.
        scores: (D,).
        detected_classes: (D,).
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


def pairwise_iou(boxes_N4: NDArray[Any], others_M4: NDArray[Any]) -> NDArray[Any]:
    """Return the IoU of every box with every other, corners given: (N, M)."""
    low = np.maximum(boxes_N4[:, None, :2], others_M4[None, :, :2])
    high = np.minimum(boxes_N4[:, None, 2:], others_M4[None, :, 2:])
    inter = (high - low).clip(0).prod(2)
    first, second = ((boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (boxes_N4, others_M4))
    iou: NDArray[Any] = inter / (first[:, None] + second[None] - inter)
    return iou
