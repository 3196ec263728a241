"""Detection: its description, and its metrics from stored predictions by three protocols.

No hash of a run's source holds this module or the protocols. After a change here, `ema-lab store remeasure`
updates finished runs. Average precision is in percent. A name without a protocol is COCO's, except
`precision` and `recall`, which only YOLOv5's evaluation defines. Values of different protocols are not
comparable: on small sets YOLOv5's own (`..._ultralytics`) differs from COCO's by up to 7 points.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from ema_lab.tasks.detection.protocol import coco, ultralytics, visdrone
from ema_lab.tasks.detection.protocol.scene import Scene, scenes_from

TASK = {
    "code": "ema_lab.tasks.detection.task:Detection",
    "made_up": "synthetic_scenes",
    "metrics": {
        "map": {"label": "mAP50:95", "protocol": "coco", "unit": "%", "better": "higher"},
        "map50": {"label": "mAP50", "protocol": "coco", "unit": "%", "better": "higher"},
        "map75": {"label": "mAP75", "protocol": "coco", "unit": "%", "better": "higher"},
        "map_small": {"label": "mAP50:95 small", "protocol": "coco", "unit": "%", "better": "higher"},
        "map_medium": {"label": "mAP50:95 medium", "protocol": "coco", "unit": "%", "better": "higher"},
        "map_large": {"label": "mAP50:95 large", "protocol": "coco", "unit": "%", "better": "higher"},
        "ar100": {"label": "AR100", "protocol": "coco", "unit": "%", "better": "higher"},
        "map_ultralytics": {
            "label": "mAP50:95", "protocol": "ultralytics-v6", "unit": "%", "better": "higher",
        },
        "map50_ultralytics": {
            "label": "mAP50", "protocol": "ultralytics-v6", "unit": "%", "better": "higher",
        },
        "precision": {
            "label": "Precision at best F1", "protocol": "ultralytics-v6", "unit": "%", "better": "higher",
        },
        "recall": {
            "label": "Recall at best F1", "protocol": "ultralytics-v6", "unit": "%", "better": "higher",
        },
        "ap_visdrone": {"label": "AP50:95", "protocol": "visdrone-toolkit", "unit": "%", "better": "higher"},
        "ap50_visdrone": {"label": "AP50", "protocol": "visdrone-toolkit", "unit": "%", "better": "higher"},
        "ap75_visdrone": {"label": "AP75", "protocol": "visdrone-toolkit", "unit": "%", "better": "higher"},
        "ar500_visdrone": {
            "label": "AR500", "protocol": "visdrone-toolkit", "unit": "%", "better": "higher",
        },
    },
    "analysis": {
        "code": "ema_lab.tasks.detection.analysis:analyse",
        "kinds": ["classes", "curves", "confusion", "images"],
    },
    "primary": "map",
    "recipe": ["detection", "label_smoothing"],
}  # fmt: skip
_COCO = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "ar100")
_TOOLKIT = ("ap", "ap50", "ap75", "ar500")
Rows = Mapping[str, Tensor]


def scenes_of(rows: Rows) -> list[Scene]:
    """Return the images of stored predictions, in their order, each with its truth and its detections."""
    return scenes_from({name: tensor.numpy() for name, tensor in rows.items()})


def epoch_metrics(rows: Rows) -> dict[str, float]:
    """Return COCO's means, and precision and recall at the greatest F1, in percent.

    Means without any box, such as those of small boxes, are left out.
    """
    return _epoch_metrics(scenes_of(rows))


def _epoch_metrics(scenes: Sequence[Scene]) -> dict[str, float]:
    totals = coco.evaluate(scenes).totals
    found = {name: totals[name] for name in _COCO if name in totals}
    best = ultralytics.average_precision(scenes)
    found |= {"precision": float(best.precision.mean()), "recall": float(best.recall.mean())}
    found |= {"map_ultralytics": best.map, "map50_ultralytics": best.map50}
    return {"map": 0.0, "map50": 0.0} | {name: 100 * value for name, value in found.items()}


def detection_metrics(rows: Rows, classes: int) -> dict[str, float]:
    """Return the metrics of every protocol, in percent."""
    scenes = scenes_of(rows)
    toolkit = visdrone.evaluate(scenes, classes).summary()
    theirs = {f"{name}_visdrone": toolkit[name] for name in _TOOLKIT}
    return _epoch_metrics(scenes) | {name: value for name, value in theirs.items() if value == value}
