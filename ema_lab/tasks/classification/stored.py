"""Check of stored predictions against a record's metrics, without torch or user code."""

from collections.abc import Mapping

import numpy as np

from ema_lab.specs.run import RunSpec
from ema_lab.specs.task import DEFAULT_TASK
from ema_lab.store.predictions import Arrays
from ema_lab.wording import number_of


def problem_of(arrays: Arrays, spec: RunSpec, metrics: Mapping[str, float]) -> str | None:
    """Return how logits and labels contradict the data set or the record's metrics; None if they agree.

    Other tasks are not checked: only the hash in their records protects their predictions. If several
    classes share the largest logit, as in bf16, libraries choose differently among them. The check then
    accepts every top-1 that some choice gives.
    """
    if spec.data.facts.task != DEFAULT_TASK:
        return None
    logits, labels = arrays["logits"], arrays["labels"]
    facts = spec.data.facts
    if logits.shape != (facts.test_images, facts.classes) or labels.shape != (facts.test_images,):
        sizes = f"{logits.shape} logits and {number_of(len(labels), 'label')}"
        return (
            f"has {sizes}, not {number_of(facts.test_images, 'image')} of {number_of(facts.classes, 'class')}"
        )
    if not np.isfinite(logits).all():
        return "has logits that are not finite"
    label_logits = np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)[:, 0]
    possible = label_logits >= logits.max(axis=1)
    certain = possible & ((logits == label_logits[:, None]).sum(axis=1) == 1)
    low, high = 100 * float(certain.mean()), 100 * float(possible.mean())
    top1 = metrics.get("top1")
    if top1 is None:
        return f"gives a top-1 of {high:.6g}, and the record has none"
    if low - 1e-9 <= top1 <= high + 1e-9:
        return None
    return f"gives a top-1 of {high:.6g}, and the record says {top1:.6g}"
