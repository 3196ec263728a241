"""Decoding of boxes from raw head outputs, and non-maximum suppression.

Shape letters: B batch, A anchors, H rows, W columns, K 5 + classes, P predictions of an image, M kept boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from ema_lab.tasks.detection.boxes import corners_of


@dataclass(frozen=True)
class SuppressionSpec:
    """Settings that turn predictions into detections.

    Attributes:
        confidence: Lower limit of objectness, and of objectness times class score.
        iou: IoU with a better box of its class above which a box is dropped.
        multi_label: Whether a box counts for every class above `confidence`, or for its best class only.
        agnostic: Whether boxes of different classes suppress each other.
        most: Largest number of detections per image.
        candidates: Number of boxes, the best by score, that enter suppression.
    """

    confidence: float = 0.001
    iou: float = 0.6
    multi_label: bool = True
    agnostic: bool = False
    most: int = 300
    candidates: int = 30_000


def decode(heads: Sequence[Tensor], anchors: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """Return predictions in pixels, (B, P, K): x, y, width, height, objectness, classes.

    Heads follow each other fine to coarse, each flattened by anchor, row and column.

    Args:
        heads: Raw (B, A, H, W, K) of each head.
        anchors: (A, 2) of each head, in cells.
        strides: Pixels of a cell of each head.
    """
    return torch.cat([_decoded(*head) for head in zip(heads, anchors, strides, strict=True)], 1)


def _decoded(raw: Tensor, sizes_A2: Tensor, stride: int) -> Tensor:
    rows, columns = raw.shape[2:4]
    down = torch.arange(rows, device=raw.device).view(rows, 1).expand(rows, columns)
    across = torch.arange(columns, device=raw.device).view(1, columns).expand(rows, columns)
    cell_HW2 = torch.stack([across, down], 2).to(raw.dtype)
    gates = raw.sigmoid()
    centre = (2 * gates[..., :2] - 0.5 + cell_HW2) * stride
    size = (2 * gates[..., 2:4]) ** 2 * (sizes_A2.to(raw) * stride)[None, :, None, None]
    return torch.cat([centre, size, gates[..., 4:]], -1).flatten(1, 3)


def suppress(predictions_PK: Tensor, spec: SuppressionSpec) -> Tensor:
    """Return the detections of one image by descending score, (M, 6): corners, score, class."""
    likely = predictions_PK[predictions_PK[:, 4] > spec.confidence]
    corners = corners_of(likely[:, :4])
    scores = likely[:, 5:] * likely[:, 4:5]
    if spec.multi_label and scores.shape[1] > 1:
        row, cls = (scores > spec.confidence).nonzero().T
        score = scores[row, cls]
    else:
        score, cls = scores.max(1) if len(likely) else (likely[:, 4], likely[:, 4].long())
        row = (score > spec.confidence).nonzero()[:, 0]
        score, cls = score[row], cls[row]
    corners = corners[row]
    if len(score) > spec.candidates:
        best = score.argsort(descending=True, stable=True)[: spec.candidates]
        corners, score, cls = corners[best], score[best], cls[best]
    kept = nms(corners, score, spec.iou) if spec.agnostic else batched_nms(corners, score, cls, spec.iou)
    kept = kept[: spec.most]
    return torch.cat([corners[kept], score[kept, None], cls[kept, None].to(corners)], 1)
