"""Classification metrics from logits, so that a new metric needs no new training."""

import torch
from torch import Tensor
from torch.nn import functional as F


def classification_metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return top-1 and top-5 accuracy in percent and the mean cross-entropy in nats.

    Top-5 is left out where there are five classes or fewer: it would always be 100.

    Args:
        logits: (N, classes).
        labels: (N,), int64.
    """
    metrics = {"top1": topk_accuracy(logits, labels, 1)}
    if logits.shape[1] > 5:
        metrics["top5"] = topk_accuracy(logits, labels, 5)
    return metrics | {"loss": F.cross_entropy(logits.double(), labels).item()}


def topk_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """Return the percentage of rows whose label is among the `k` largest logits."""
    hits = (logits.topk(k, dim=1).indices == labels[:, None]).any(dim=1)
    return 100 * hits.to(torch.float64).mean().item()
