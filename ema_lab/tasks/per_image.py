"""Analyses of predictions by test image: their form, which all tasks share.

No hash of a run's source holds this module.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGITS = 6  # of a metric, in files


def by_index(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return the order of stored images by their index in the data set, in which all runs are drawn alike."""
    return arrays["indices"].argsort(kind="stable")


def hash_of_test_set(*truth: NDArray[Any]) -> str:
    """Return a hash of a test set: indices and targets, in the order of the images."""
    digest = hashlib.sha256()
    for array in truth:
        digest.update(repr((array.dtype.kind, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def image_analysis(
    test_set: str, images: int, value: float, drawn: Sequence[float], right: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """Return the analysis `images` of one metric as plain data.

    Args:
        test_set: Hash of the test set. Only analyses of equal test sets are paired.
        images: Number of images.
        value: Metric of all images.
        drawn: Metric of each draw of `image_draws`; NaN where it is undefined.
        right: Whether the network is right, by image, for a metric that counts images.
    """
    return {
        "test_set": test_set,
        "images": images,
        "value": round(value, DIGITS),
        "drawn": [None if number != number else round(number, DIGITS) for number in drawn],
        "right": None if right is None else np.packbits(right).tobytes().hex(),
    }
