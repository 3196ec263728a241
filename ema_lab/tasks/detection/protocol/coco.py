"""COCO's evaluation, by torchmetrics with faster-coco-eval.

The recall thresholds are given in 64-bit floats: torchmetrics' own are 32-bit, which moves mean average
precision by up to 0.004. faster-coco-eval agrees with pycocotools to 3e-8 and is six to ten times faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.detection import MeanAveragePrecision

from ema_lab.tasks.detection.protocol.scene import Scene

MOST = (1, 10, 100)  # detections of a class and image that count
_RECALLS: list[float] = np.linspace(0, 1, 101).tolist()
_TOTALS = {
    "map": "map", "map50": "map_50", "map75": "map_75", "map_small": "map_small",
    "map_medium": "map_medium", "map_large": "map_large",
}  # fmt: skip


@dataclass(frozen=True)
class CocoResult:
    """Average precision and recall in [0, 1]; values without a box are absent.

    Attributes:
        totals: `map` (IoU 0.5 to 0.95), `map50`, `map75`, `map_small`, `map_medium`, `map_large` and
            `ar1`, `ar10`, `ar100` (named by the limits of detections).
        per_class: `map` of each class that has a box.
    """

    totals: dict[str, float]
    per_class: dict[int, float]


def evaluate(scenes: Sequence[Scene], most: tuple[int, int, int] = MOST) -> CocoResult:
    """Evaluate detections as COCO does; ignored boxes are crowds.

    Args:
        scenes: Truth and detections of every image.
        most: Limits of the number of detections per class and image; averages use the last.
    """
    metric = MeanAveragePrecision(
        sync_on_compute=False,  # one process has all predictions, also where several train
        backend="faster_coco_eval",
        rec_thresholds=_RECALLS,
        max_detection_thresholds=list(most),
        class_metrics=True,
    )
    metric.warn_on_many_detections = False
    metric.update([_detections(scene) for scene in scenes], [_truth(scene) for scene in scenes])
    found = metric.compute()
    totals = {name: float(found[key]) for name, key in _TOTALS.items()}
    totals |= {f"ar{limit}": float(found[f"mar_{limit}"]) for limit in most}
    classes, values = found["classes"].reshape(-1).tolist(), found["map_per_class"].reshape(-1).tolist()
    per_class = {int(cls): value for cls, value in zip(classes, values, strict=True) if value >= 0}
    return CocoResult({name: value for name, value in totals.items() if value >= 0}, per_class)


def _detections(scene: Scene) -> dict[str, torch.Tensor]:
    return {
        "boxes": torch.from_numpy(scene.detected).float().reshape(-1, 4),
        "scores": torch.from_numpy(scene.scores).float(),
        "labels": torch.from_numpy(scene.detected_classes),
    }


def _truth(scene: Scene) -> dict[str, torch.Tensor]:
    sizes = scene.boxes[:, 2:] - scene.boxes[:, :2]
    return {
        "boxes": torch.from_numpy(scene.boxes).float().reshape(-1, 4),
        "labels": torch.from_numpy(scene.classes),
        "iscrowd": torch.from_numpy(scene.ignored).long(),
        "area": torch.from_numpy(sizes.prod(1)),
    }
