"""Check of stored predictions against a record's metrics, without torch and without a user's code."""

import math
from collections.abc import Mapping

import numpy as np

from ema_lab.specs.run import RunSpec
from ema_lab.specs.task import DEFAULT_TASK
from ema_lab.store.predictions import Arrays


def problem_of(arrays: Arrays, spec: RunSpec, metrics: Mapping[str, float]) -> str | None:
    """Return why logits and labels do not fit a data set and the metrics of a record, or None.

    Of other tasks nothing is known here: the hash in their records is all there is to compare.
    Where several classes share the largest logit, as they do in bf16, libraries choose differently
    among them: the top-1 may then be any that a choice gives.
    """
    if spec.data.facts.task != DEFAULT_TASK:
        return None
    logits, labels = arrays["logits"], arrays["labels"]
    facts = spec.data.facts
    if logits.shape != (facts.test_images, facts.classes) or labels.shape != (facts.test_images,):
        found = f"{logits.shape} logits and {len(labels)} labels"
        return f"has {found}, not {facts.test_images} images of {facts.classes} classes"
    if not np.isfinite(logits).all():
        return "has logits that are no finite numbers"
    mine = np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)[:, 0]
    possible = mine >= logits.max(axis=1)
    certain = possible & ((logits == mine[:, None]).sum(axis=1) == 1)
    low, high = 100 * float(certain.mean()), 100 * float(possible.mean())
    top1 = metrics.get("top1", math.nan)
    if low - 1e-9 <= top1 <= high + 1e-9:
        return None
    return f"gives a top-1 of {high:.6g}, and the record says {top1:.6g}"
