"""Analyses of stored logits for tables and figures: per class, and the confusion matrix.

Nothing here needs torch. No hash of a run's source holds this module.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGITS = 6
Numbers = list[float | None]


def analyse(
    kind: str, arrays: Mapping[str, NDArray[Any]], classes: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an analysis of a run's predictions as plain data; None stands for a class without an image.

    Args:
        kind: `classes`: each metric by class, `count`, the number of images, and `weights`, those of the
            classes in the mean. `confusion`: `counts`, class by predicted class.
        arrays: The stored predictions.
        classes: Number of classes.
        settings: Not used, since classification has one protocol.
    """
    logits, labels = arrays["logits"].astype(np.float64), arrays["labels"].astype(np.int64)
    if kind == "confusion":
        counts = np.zeros((classes, classes), dtype=np.int64)
        np.add.at(counts, (labels, logits.argmax(1)), 1)
        return {"counts": counts.tolist()}
    counts = np.bincount(labels, minlength=classes).tolist()
    return {"count": counts, "weights": counts, **_by_class(logits, labels, classes)}


def _by_class(logits: NDArray[np.float64], labels: NDArray[np.int64], classes: int) -> dict[str, Numbers]:
    """Return top-1 and top-5 accuracy in percent, and the mean cross-entropy in nats, of each class."""
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    is_lower_class = np.arange(classes)[None] < labels[:, None]  # of equal logits the lower class comes first
    rank = ((logits > own) | ((logits == own) & is_lower_class)).sum(1)
    high = logits.max(1, keepdims=True)
    loss = high[:, 0] + np.log(np.exp(logits - high).sum(1)) - own[:, 0]
    columns = {"top1": 100.0 * (rank < 1), "loss": loss}
    if classes > 5:
        columns["top5"] = 100.0 * (rank < 5)
    return {
        name: [_mean(values[labels == cls]) for cls in range(classes)] for name, values in columns.items()
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    return round(float(values.mean()), DIGITS) if len(values) else None
