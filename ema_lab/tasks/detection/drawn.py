"""Detection metrics of bootstrap draws: detections are matched once, and each draw only counts them again."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ema_lab.statistics.images import image_draws
from ema_lab.tasks.detection.protocol import ultralytics, visdrone
from ema_lab.tasks.detection.protocol.coco_matches import CocoMatches
from ema_lab.tasks.detection.protocol.scene import Integers, Scene, scenes_from
from ema_lab.tasks.per_image import by_index, hash_of_test_set, image_analysis

Value = Callable[[Integers], float]  # metric in percent of images as often as counted; NaN if undefined
_TOOLKIT = {  # VisDrone's metrics: thresholds, and whether average precision (0) or recall (1)
    "ap_visdrone": (visdrone.THRESHOLDS, 0),
    "ap50_visdrone": (visdrone.THRESHOLDS[:1], 0),
    "ap75_visdrone": (visdrone.THRESHOLDS[5:6], 0),
    "ar500_visdrone": (visdrone.THRESHOLDS, 1),
}
_ULTRALYTICS: Mapping[str, Callable[[ultralytics.Precision], float]] = {
    "map_ultralytics": lambda found: found.map,
    "map50_ultralytics": lambda found: found.map50,
    "precision": lambda found: float(found.precision.mean()),
    "recall": lambda found: float(found.recall.mean()),
}


def by_draw(arrays: Mapping[str, NDArray[Any]], classes: int, metric: str) -> dict[str, Any]:
    """Return the analysis `images` of a detection metric: see `image_analysis`."""
    order = by_index(arrays)
    unsorted = scenes_from(arrays)
    scenes = [unsorted[number] for number in order]
    value, images = value_of(scenes, classes, metric), len(scenes)
    boxes = np.concatenate([np.column_stack([scene.boxes, scene.classes]) for scene in scenes])
    sizes = np.array([len(scene.boxes) for scene in scenes])
    truth = hash_of_test_set(arrays["indices"][order], sizes, boxes)
    drawn = [value(counts) for counts in image_draws(images)]
    return image_analysis(truth, images, value(np.ones(images, dtype=np.int64)), drawn)


def value_of(scenes: Sequence[Scene], classes: int, metric: str) -> Value:
    """Return a function from the number of copies of each image to the metric of these images."""
    if metric in _TOOLKIT:
        return _toolkit_value(scenes, classes, metric)
    if metric in _ULTRALYTICS:
        judged, read = ultralytics.judge(scenes), _ULTRALYTICS[metric]

        def percent(counts: Integers) -> float:
            found = ultralytics.precision_of(judged.drawn(counts))
            return 100 * read(found) if len(found.classes) else float("nan")

        return percent
    matches = CocoMatches(scenes, classes)
    return lambda counts: matches.value(metric, counts)


def _toolkit_value(scenes: Sequence[Scene], classes: int, metric: str) -> Value:
    """Return that function for a metric of VisDrone's toolkit, which weights classes by their images."""
    thresholds, part = _TOOLKIT[metric]
    kept = [visdrone.drop_in_ignored_regions(scene) for scene in scenes]
    holds = np.array([[bool((scene.classes == cls).any()) for scene in kept] for cls in range(classes)])
    verdicts = [
        [visdrone.class_verdicts(kept, cls, threshold, visdrone.MOST[-1]) for threshold in thresholds]
        for cls in range(classes)
    ]

    def value(counts: Integers) -> float:
        weights = holds @ counts
        if not weights.sum():
            return float("nan")
        means = [np.mean([each.result(counts)[part] for each in of_class]) for of_class in verdicts]
        return float(np.average(means, weights=weights))

    return value
