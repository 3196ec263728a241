"""COCO's precision and recall of every class, without torch: faster-coco-eval on plain arrays.

`coco.evaluate` gives the same totals through torchmetrics. Reports use this module, because they load no
torch and need the curves, which torchmetrics does not return.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ema_lab.tasks.detection.protocol.scene import Floats, Scene

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = ("all", "small", "medium", "large")
MOST = (1, 10, 100)  # detections of a class and image that count


@dataclass(frozen=True)
class CocoTable:
    """Precision and recall in [0, 1]; -1 where the truth has no box.

    Attributes:
        precision: (10 IoU thresholds, 101 recalls, classes, 4 areas).
        recall: (10, classes, 4), the greatest recall.
    """

    precision: Floats
    recall: Floats


def coco_table(scenes: Sequence[Scene], classes: int, most: int = MOST[-1]) -> CocoTable:
    """Evaluate detections as COCO does; ignored boxes are crowds.

    Args:
        scenes: Truth and detections of every image.
        classes: Number of classes.
        most: Detections of a class and image that count, those with the greatest scores.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO()
    truth.dataset = {
        "images": [{"id": number, "height": s.height, "width": s.width} for number, s in enumerate(scenes)],
        "categories": [{"id": cls, "name": str(cls)} for cls in range(classes)],
        "annotations": _annotations(scenes),
    }
    truth.createIndex()
    found = truth.loadRes(_detections(scenes))
    evaluation = COCOeval_faster(truth, found, iouType="bbox", print_function=lambda *_: None)
    evaluation.params.iouThrs, evaluation.params.recThrs = THRESHOLDS, RECALLS
    evaluation.params.maxDets = [most]
    evaluation.params.catIds = list(range(classes))
    evaluation.evaluate()
    evaluation.accumulate()
    precision, recall = (np.asarray(evaluation.eval[name], dtype=float) for name in ("precision", "recall"))
    return CocoTable(precision[..., -1], recall[..., -1])


def _annotations(scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes):
        boxes = with_sizes(scene.boxes).tolist()
        for box, cls, ignored in zip(boxes, scene.classes, scene.ignored, strict=True):
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": number,
                    "category_id": int(cls),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(ignored),
                }
            )
    return rows


def _detections(scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    return [
        {"image_id": number, "category_id": int(cls), "bbox": box, "score": float(score)}
        for number, scene in enumerate(scenes)
        for box, cls, score in zip(
            with_sizes(scene.detected).tolist(), scene.detected_classes, scene.scores, strict=True
        )
    ]


def with_sizes(boxes: Floats) -> Floats:
    """Return corners as left, top, width, height, in the precision of torchmetrics' boxes."""
    narrow = boxes.astype(np.float32)
    return np.concatenate([narrow[:, :2], narrow[:, 2:] - narrow[:, :2]], 1).astype(float).reshape(-1, 4)
