"""Detection: its description, and its metrics from stored predictions by three protocols.

No hash of a run's source holds this module or the protocols: `ema-lab store remeasure` computes what
changes here for finished runs. Average precision is in percent, and names without a protocol are COCO's.
Protocols do not compare: YOLOv5's own (`..._ultralytics`) is up to 7 points from COCO's on small sets.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ema_lab.tasks.detection.protocol import coco, ultralytics, visdrone
from ema_lab.tasks.detection.protocol.scene import Scene

TASK = {
    "code": "ema_lab.tasks.detection.task:Detection",
    "made_up": "synthetic_scenes",
    "metrics": {
        "map": {"label": "mAP", "unit": "%", "better": "higher"},
        "map50": {"label": "mAP50", "unit": "%", "better": "higher"},
        "map75": {"label": "mAP75", "unit": "%", "better": "higher"},
        "map_small": {"label": "mAP small", "unit": "%", "better": "higher"},
        "map_medium": {"label": "mAP medium", "unit": "%", "better": "higher"},
        "map_large": {"label": "mAP large", "unit": "%", "better": "higher"},
        "ar100": {"label": "AR100", "unit": "%", "better": "higher"},
        "precision": {"label": "Precision", "unit": "%", "better": "higher"},
        "recall": {"label": "Recall", "unit": "%", "better": "higher"},
        "map_ultralytics": {"label": "mAP (ultralytics-v6)", "unit": "%", "better": "higher"},
        "map50_ultralytics": {"label": "mAP50 (ultralytics-v6)", "unit": "%", "better": "higher"},
        "ap_visdrone": {"label": "AP (visdrone-toolkit)", "unit": "%", "better": "higher"},
        "ap50_visdrone": {"label": "AP50 (visdrone-toolkit)", "unit": "%", "better": "higher"},
    },
    "primary": "map",
    "recipe": ["detection", "label_smoothing"],
}
_COCO = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "ar100")
Rows = Mapping[str, Tensor]


def scenes_of(rows: Rows) -> list[Scene]:
    """Return the images of stored predictions, in their order, each with its truth and its detections."""
    arrays = {name: tensor.numpy() for name, tensor in rows.items()}
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


def epoch_metrics(rows: Rows) -> dict[str, float]:
    """Return COCO's means, and precision and recall where their harmonic mean is greatest, in percent.

    What has no box (small ones, say) is left out.
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
    theirs = {f"{name}_visdrone": toolkit[name] for name in ("ap", "ap50")}
    return _epoch_metrics(scenes) | {name: value for name, value in theirs.items() if value == value}
