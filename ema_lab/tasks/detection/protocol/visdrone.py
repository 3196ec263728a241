"""The evaluation of VisDrone's official toolkit (VisDrone2018-DET).

It differs from COCO's evaluation in five ways. Boxes and detections in regions without annotations are
removed first. Up to 500 detections per image count. Precision is integrated at every recall step. Ignored
boxes count in the number of boxes to find. A mean over classes weights each class by the number of images
that contain it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ema_lab.tasks.detection.protocol.scene import Floats, Integers, Scene

THRESHOLDS = np.linspace(0.5, 0.95, 10)
MOST = (1, 10, 100, 500)  # detections of an image, over all classes
INSIDE = 0.5  # share of a box in ignored regions from which it is taken out


@dataclass(frozen=True)
class ToolkitResult:
    """Percentages per class, and the toolkit's means.

    Attributes:
        average: (C, 10), average precision of each class at each threshold.
        recall: (C, 10, 4), greatest recall of each class at each threshold and limit of detections.
        images: (C,), images that contain each class: its weight in the means.
    """

    average: Floats
    recall: Floats
    images: Integers

    def mean(self, values: Floats) -> float:
        """Return the toolkit's mean over classes of one number each; NaN if there is no box."""
        weight = self.images.astype(float)
        return float((values * weight).sum() / weight.sum()) if weight.sum() else float("nan")

    def summary(self) -> dict[str, float]:
        """Return AP, AP50, AP75 and AR at 1, 10, 100 and 500 detections, in percent."""
        aps = {"ap": self.average.mean(1), "ap50": self.average[:, 0], "ap75": self.average[:, 5]}
        ars = {f"ar{most}": self.recall[:, :, i].mean(1) for i, most in enumerate(MOST)}
        return {name: self.mean(values) for name, values in {**aps, **ars}.items()}


def evaluate(scenes: Sequence[Scene], classes: int) -> ToolkitResult:
    """Evaluate detections of `classes` classes as the toolkit does."""
    kept = [drop_in_ignored_regions(scene) for scene in scenes]
    once = np.ones(len(scenes), dtype=np.int64)
    average, recall = np.zeros((classes, 10)), np.zeros((classes, 10, len(MOST)))
    images = np.array(
        [sum(bool((s.classes == c).any()) for s in kept) for c in range(classes)], dtype=np.int64
    )
    for cls in range(classes):
        for number, threshold in enumerate(THRESHOLDS):
            for column, most in enumerate(MOST):
                verdicts = class_verdicts(kept, cls, threshold, most)
                average[cls, number], recall[cls, number, column] = verdicts.result(once)
    return ToolkitResult(average, recall, images)


def drop_in_ignored_regions(scene: Scene) -> Scene:
    """Remove boxes and detections of which half or more is in regions without annotations."""
    if not len(scene.ignored_regions):
        return scene
    mask = np.zeros((scene.height, scene.width))
    for left, top, right, bottom in scene.ignored_regions:
        x, y, width, height = (max(1, int(v)) for v in (left, top, right - left, bottom - top))
        mask[y - 1 : min(scene.height, y + height), x - 1 : min(scene.width, x + width)] = 1
    integral = mask.cumsum(0).cumsum(1)
    true, found = (~_inside(boxes, integral) for boxes in (scene.boxes, scene.detected))
    return replace(
        scene,
        boxes=scene.boxes[true],
        classes=scene.classes[true],
        ignored=scene.ignored[true],
        detected=scene.detected[found],
        scores=scene.scores[found],
        detected_classes=scene.detected_classes[found],
    )


def _inside(boxes: Floats, integral: Floats) -> NDArray[np.bool_]:
    """Return whether half or more of each box is in the mask, from the integral of its pixels."""
    if not len(boxes):
        return np.zeros(0, dtype=bool)
    rows, columns = integral.shape
    places = np.maximum(1, _rounded(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)))
    x, y, width, height = places.astype(int).T
    left, right = np.clip(x, 1, columns) - 1, np.clip(x + width, 1, columns) - 1
    top, bottom = np.clip(y, 1, rows) - 1, np.clip(y + height, 1, rows) - 1
    area = integral[top, left] + integral[bottom, right] - integral[top, right] - integral[bottom, left]
    inside: NDArray[np.bool_] = area / (width * height) >= INSIDE
    return inside


def _rounded(values: Floats) -> Floats:
    """Round half away from zero, as MATLAB does."""
    return np.sign(values) * np.floor(np.abs(values) + 0.5)


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on the detections of one class by falling score, at one threshold and limit of detections.

    Attributes:
        image: (D,), number of each detection's image.
        verdict: (D,), 1 for each detection that finds a box, 0 for one that does not, -1 for one to be
            ignored.
        boxes: (images,), number of boxes, ignored ones too.
    """

    image: Integers
    verdict: Integers
    boxes: Integers

    def result(self, counts: Integers) -> tuple[float, float]:
        """Return average precision and greatest recall, in percent, of images as often as counted."""
        total, drawn = int(counts @ self.boxes), counts[self.image]
        hits = (drawn * (self.verdict == 1)).cumsum()
        misses = (drawn * (self.verdict == 0)).cumsum()
        if not total or not len(hits):
            return 0.0, 0.0
        recalls = hits / total
        precisions = hits / np.maximum(1, hits + misses)
        return 100 * _area(recalls, precisions), 100 * float(recalls.max())


def class_verdicts(scenes: Sequence[Scene], cls: int, threshold: float, most: int) -> Verdicts:
    """Return the verdicts on all detections of a class, in images without their ignored regions."""
    scores: list[Floats] = [np.zeros(0)]
    verdicts: list[Integers] = [np.zeros(0, dtype=np.int64)]
    image: list[int] = []
    boxes = np.array([int((scene.classes == cls).sum()) for scene in scenes], dtype=np.int64)
    for number, scene in enumerate(scenes):
        mine = scene.detected_classes[:most] == cls
        true = scene.classes == cls
        if not mine.any():
            continue
        order = (-scene.scores[:most][mine]).argsort(kind="stable")
        detected = scene.detected[:most][mine][order]
        scores.append(scene.scores[:most][mine][order])
        verdicts.append(_verdicts(detected, scene.boxes[true], scene.ignored[true], threshold))
        image += [number] * len(detected)
    order = (-np.concatenate(scores)).argsort(kind="stable")
    return Verdicts(np.array(image, dtype=np.int64)[order], np.concatenate(verdicts)[order], boxes)


def _verdicts(detected: Floats, boxes: Floats, ignored: NDArray[np.bool_], threshold: float) -> Integers:
    """Return 1 for each detection that finds a box, 0 for one that does not, -1 for one to be ignored."""
    order = ignored.argsort(kind="stable")  # real boxes first
    boxes, ignored = boxes[order], ignored[order]
    overlaps = _overlaps(detected, boxes, ignored)
    taken = np.zeros(len(boxes), dtype=bool)
    verdict = np.zeros(len(detected), dtype=np.int64)
    for row, overlap in enumerate(overlaps):
        best, which = threshold, -1
        for column, value in enumerate(overlap):
            if taken[column] and not ignored[column]:
                continue
            if which >= 0 and not ignored[which] and ignored[column]:
                break  # a real box was found, and only ignored ones are left
            if value >= best:
                best, which = value, column
        if which >= 0:
            taken[which] = True
            verdict[row] = -1 if ignored[which] else 1
    return verdict


def _overlaps(detected: Floats, boxes: Floats, ignored: NDArray[np.bool_]) -> Floats:
    """Return IoU with real boxes, and the share of a detection inside ignored ones: (D, T)."""
    low = np.maximum(detected[:, None, :2], boxes[None, :, :2])
    high = np.minimum(detected[:, None, 2:], boxes[None, :, 2:])
    inter = (high - low).clip(0).prod(2)
    own, other = ((b[:, 2:] - b[:, :2]).prod(1) for b in (detected, boxes))
    union = own[:, None] + other[None] - inter
    overlaps: Floats = inter / np.where(ignored[None], own[:, None], union)
    return overlaps


def _area(recalls: Floats, precisions: Floats) -> float:
    """Return the area under the envelope of a precision-recall curve, at every step of recall."""
    at = np.concatenate([[0.0], recalls, [1.0]])
    envelope = np.maximum.accumulate(np.concatenate([[0.0], precisions, [0.0]])[::-1])[::-1]
    steps = np.nonzero(at[1:] != at[:-1])[0] + 1
    return float(((at[steps] - at[steps - 1]) * envelope[steps]).sum())
