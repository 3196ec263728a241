"""Analyses of stored logits for tables and figures: per class, the confusion matrix, and per image.

Nothing here needs torch. No hash of a run's source holds this module.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ema_lab.statistics.images import image_draws
from ema_lab.tasks.per_image import by_index, hash_of_test_set, image_analysis

DIGITS = 6
Numbers = list[float | None]


def analyse(
    kind: str, arrays: Mapping[str, NDArray[Any]], classes: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an analysis of a run's predictions as plain data; None stands for a class without an image.

    Args:
        kind: `classes`: each metric by class, `count`, the number of images, and `weights`, those of the
            classes in the mean. `confusion`: `counts`, class by predicted class. `images`: see
            `image_analysis`.
        arrays: The stored predictions.
        classes: Number of classes.
        settings: `metric` of `images`.
    """
    logits, labels = arrays["logits"].astype(np.float64), arrays["labels"].astype(np.int64)
    if kind == "images":
        return _by_draw(arrays, logits, labels, settings["metric"])
    if kind == "confusion":
        counts = np.zeros((classes, classes), dtype=np.int64)
        np.add.at(counts, (labels, logits.argmax(1)), 1)
        return {"counts": counts.tolist()}
    counts = np.bincount(labels, minlength=classes).tolist()
    return {"count": counts, "weights": counts, **_by_class(logits, labels, classes)}


def _by_draw(
    arrays: Mapping[str, NDArray[Any]], logits: NDArray[np.float64], labels: NDArray[np.int64], metric: str
) -> dict[str, Any]:
    order = by_index(arrays)
    values = _by_image(logits[order], labels[order])[metric]
    images = len(values)
    drawn = [float(counts @ values) / images for counts in image_draws(images)]
    right = None if metric == "loss" else values > 0
    truth = hash_of_test_set(arrays["indices"][order], labels[order])
    return image_analysis(truth, images, float(values.mean()), drawn, right)


def _by_class(logits: NDArray[np.float64], labels: NDArray[np.int64], classes: int) -> dict[str, Numbers]:
    """Return the mean of each metric over the images of each class."""
    columns = _by_image(logits, labels)
    return {
        name: [_mean(values[labels == cls]) for cls in range(classes)] for name, values in columns.items()
    }


def _by_image(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return top-1 and top-5 (0 or 100 percent) and the cross-entropy (nats) of each image."""
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    is_lower_class = np.arange(logits.shape[1])[None] < labels[:, None]  # of equal logits the lower class
    rank = ((logits > own) | ((logits == own) & is_lower_class)).sum(1)
    high = logits.max(1, keepdims=True)
    columns = {
        "top1": 100.0 * (rank < 1),
        "loss": high[:, 0] + np.log(np.exp(logits - high).sum(1)) - own[:, 0],
    }
    if logits.shape[1] > 5:
        columns["top5"] = 100.0 * (rank < 5)
    return columns


def _mean(values: NDArray[np.float64]) -> float | None:
    return round(float(values.mean()), DIGITS) if len(values) else None
