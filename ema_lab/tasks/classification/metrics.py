"""Classification: its description, and its metrics from stored predictions.

This module is in no source hash, so that a new metric makes no finished run stale. `ema-lab store remeasure`
adds the new metric to finished runs.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

TASK = {
    "code": "ema_lab.tasks.classification.task:Classification",
    "made_up": "synthetic",
    "metrics": {
        "top1": {"label": "Top-1", "unit": "%", "better": "higher"},
        "top5": {"label": "Top-5", "unit": "%", "better": "higher"},
        "loss": {"label": "Loss", "unit": "nats", "better": "lower"},
    },
    "analysis": {
        "code": "ema_lab.tasks.classification.analysis:analyse",
        "kinds": ["classes", "confusion", "images"],
    },
    "primary": "top1",
}


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return top-1 and top-5 accuracy in percent and the mean cross-entropy in nats.

    Top-5 is left out for five classes or fewer, because it would always be 100.

    Args:
        logits: (N, classes).
        labels: (N,), int64.
    """
    metrics = {"top1": topk_accuracy(logits, labels, 1)}
    if logits.shape[1] > 5:
        metrics["top5"] = topk_accuracy(logits, labels, 5)
    return metrics | {"loss": F.cross_entropy(logits.double(), labels).item()}


def topk_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """Return the percentage of rows whose label is among the `k` largest logits.

    Of equal logits the lower class comes first on every device. `torch.topk` does not define their order.

    Args:
        logits: (N, classes).
        labels: (N,), int64.
        k: Number of classes to consider.
    """
    label_logits = logits.gather(1, labels[:, None])
    is_lower_class = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    # ~(<=) instead of >, so that a NaN counts as larger than every number, as in torch.topk.
    ranks_higher = ~(logits <= label_logits) | ((logits == label_logits) & is_lower_class)
    return 100 * (ranks_higher.sum(dim=1) < k).to(torch.float64).mean().item()
