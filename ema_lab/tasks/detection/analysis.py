"""Analyses of stored detections for tables and figures: per class, precision-recall curves, confusion.

Nothing here needs torch. No hash of a run's source holds this module.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ema_lab.tasks.detection.drawn import by_draw
from ema_lab.tasks.detection.protocol import ultralytics, visdrone
from ema_lab.tasks.detection.protocol.coco_table import AREAS, THRESHOLDS, CocoTable, coco_table
from ema_lab.tasks.detection.protocol.scene import Floats, Scene, pairwise_iou, scenes_from

DIGITS = 6  # of a share, in files
Numbers = list[float | None]


def analyse(
    kind: str, arrays: Mapping[str, NDArray[Any]], classes: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an analysis of a run's predictions as plain data; None stands for a class without a box.

    Args:
        kind: `classes`: each metric (percent) by class, `count`, the number of boxes, and `weights`, those of
            the classes in the protocol's mean. `curves`:
            `precision` (percent, interpolated) by class at 101 recalls. `confusion`: `counts`, truth by
            detection, with the background as the last row and column. `images`: see `image_analysis`.
        arrays: The stored predictions.
        classes: Number of classes.
        settings: `protocol` of `classes`; `iou` of `curves`; `score` and `iou` of `confusion`; `metric` of
            `images`.
    """
    if kind == "images":
        return by_draw(arrays, classes, settings["metric"])
    scenes = scenes_from(arrays)
    if kind == "classes":
        by_protocol = {"coco": _coco, "ultralytics-v6": _ultralytics, "visdrone-toolkit": _visdrone}
        counts = np.bincount(np.concatenate([_counted(scene) for scene in scenes]), minlength=classes)
        return {
            "count": counts.tolist(),
            "weights": [1] * classes,
            **by_protocol[settings["protocol"]](scenes, classes),
        }
    if kind == "curves":
        return {"precision": _curves(scenes, classes, settings["iou"])}
    return {"counts": confusion(scenes, classes, settings["score"], settings["iou"]).tolist()}


def _counted(scene: Scene) -> NDArray[np.int64]:
    return scene.classes[~scene.ignored]


def _coco(scenes: Sequence[Scene], classes: int) -> dict[str, Any]:
    table = coco_table(scenes, classes)
    average = table.precision.mean(1)  # (thresholds, classes, areas): COCO's mean over 101 recalls
    means = {"map": average[..., 0].mean(0), "map50": average[0, :, 0], "map75": average[5, :, 0]}
    means |= {f"map_{area}": average[..., AREAS.index(area)].mean(0) for area in AREAS[1:]}
    means["ar100"] = table.recall[..., 0].mean(0)
    return {name: _percent(values) for name, values in means.items()}


def _ultralytics(scenes: Sequence[Scene], classes: int) -> dict[str, Any]:
    found = ultralytics.average_precision(scenes)
    columns = {
        "map_ultralytics": found.average.mean(1),
        "map50_ultralytics": found.average[:, 0],
        "precision": found.precision,
        "recall": found.recall,
    }
    spread = {name: np.full(classes, -1.0) for name in columns}
    for name, values in columns.items():
        spread[name][found.classes] = values
    return {name: _percent(values) for name, values in spread.items()}


def _visdrone(scenes: Sequence[Scene], classes: int) -> dict[str, Any]:
    found = visdrone.evaluate(scenes, classes)
    columns = {
        "ap_visdrone": found.average.mean(1),
        "ap50_visdrone": found.average[:, 0],
        "ap75_visdrone": found.average[:, 5],
        "ar500_visdrone": found.recall[:, :, -1].mean(1),
    }
    empty = found.images == 0
    percent = {name: _percent(np.where(empty, -1.0, values / 100)) for name, values in columns.items()}
    return {**percent, "weights": found.images.tolist()}


def _curves(scenes: Sequence[Scene], classes: int, iou: float) -> list[Numbers]:
    table: CocoTable = coco_table(scenes, classes)
    threshold = int(np.abs(THRESHOLDS - iou).argmin())
    return [_percent(curve) for curve in table.precision[threshold, :, :, 0].T]


def _percent(values: Floats) -> Numbers:
    return [round(100 * float(value), DIGITS) if value >= 0 else None for value in values]


def confusion(scenes: Sequence[Scene], classes: int, score: float, iou: float) -> NDArray[np.int64]:
    """Return the confusion matrix (classes + 1, classes + 1), truth by detection.

    In descending order of score, each detection with at least `score` takes the free box of any class with
    the greatest IoU, if that is at least `iou`. The last row counts false alarms, the last column missed
    boxes. Unmatched detections inside an ignored box or region do not count.
    """
    counts = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    for scene in scenes:
        chosen = np.nonzero(scene.scores >= score)[0]
        matched = matches(scene, chosen, iou)
        leftover = np.array([number for number in chosen if number not in matched], dtype=np.int64)
        for number, box in matched.items():
            counts[scene.classes[box], scene.detected_classes[number]] += 1
        for number in leftover[~in_ignored(scene, leftover, iou)]:
            counts[-1, scene.detected_classes[number]] += 1
        missed = set(np.nonzero(~scene.ignored)[0].tolist()) - set(matched.values())
        for box in missed:
            counts[scene.classes[box], -1] += 1
    return counts


def matches(
    scene: Scene, chosen: NDArray[np.int64], iou: float, *, same_class: bool = False
) -> dict[int, int]:
    """Return the box that each detection takes, in descending order of score; ignored boxes are left out.

    `same_class` lets a detection take boxes of its own class only.
    """
    taken = scene.ignored.copy()
    overlaps = pairwise_iou(scene.detected, scene.boxes)
    if same_class:
        overlaps = np.where(scene.detected_classes[:, None] == scene.classes[None], overlaps, -1.0)
    found: dict[int, int] = {}
    for number in sorted(chosen.tolist(), key=lambda one: -scene.scores[one]):
        free = np.where(taken, -1.0, overlaps[number])
        if len(free) and free.max() >= iou:
            found[number] = int(free.argmax())
            taken[found[number]] = True
    return found


def in_ignored(scene: Scene, chosen: NDArray[np.int64], iou: float) -> NDArray[np.bool_]:
    """Return whether at least a share `iou` of a detection's area lies in ignored boxes or regions: (N,)."""
    ignored = np.concatenate([scene.boxes[scene.ignored], scene.ignored_regions])
    boxes = scene.detected[chosen]
    low = np.maximum(boxes[:, None, :2], ignored[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], ignored[None, :, 2:])
    inside = (high - low).clip(0).prod(2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    lies: NDArray[np.bool_] = (inside >= iou * np.maximum(area, 1e-12)[:, None]).any(1)
    return lies
