"""YOLOv5's loss: boxes by complete IoU, objectness and classes by binary cross-entropy.

Objectness learns the complete IoU of a prediction with its target, if it has one. Three details of v6.0 may
surprise: nothing is divided by the number of targets, the sum is multiplied by the batch size, and if one
cell is assigned twice, objectness learns the value that was written last.

Shape letters: B batch, A anchors, H rows, W columns, K 5 + classes, T targets, N matches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ema_lab.tasks.detection.assignment import LARGEST_RATIO, Matches, assign
from ema_lab.tasks.detection.boxes import Overlap, corners_of, paired_overlap

BALANCE = {3: (4.0, 1.0, 0.4)}  # weight of each head's objectness, fine to coarse
BALANCE_OTHERWISE = (4.0, 1.0, 0.25, 0.06, 0.02)
_FOCAL_ALPHA = 0.25


@dataclass(frozen=True)
class LossSpec:
    """Weights of the loss, already scaled to image size, classes and heads.

    Attributes:
        box: Weight of the term of boxes; `obj` and `cls` likewise.
        cls_positive: Weight of positives in the classes' cross-entropy; `obj_positive` likewise.
        largest_ratio: Largest ratio between the sides of a target and an anchor that learns it.
        label_smoothing: Share of a class label that goes to the other answer.
        focal_gamma: Exponent of the focal weights; 0 leaves them out.
        overlap: Kind of IoU in the term of boxes and in objectness.
    """

    box: float = 0.05
    obj: float = 1.0
    cls: float = 0.5
    cls_positive: float = 1.0
    obj_positive: float = 1.0
    largest_ratio: float = LARGEST_RATIO
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    overlap: Overlap = "ciou"


class Loss(NamedTuple):
    """A batch's loss and its three weighted terms, which are not multiplied by the batch size."""

    total: Tensor
    box: Tensor
    objectness: Tensor
    classes: Tensor


def detection_loss(
    heads: Sequence[Tensor], targets_T6: Tensor, anchors: Sequence[Tensor], spec: LossSpec
) -> Loss:
    """Return the loss of raw head outputs.

    Args:
        heads: (B, A, H, W, 5 + classes) of each head: x, y, width, height, objectness, classes.
        targets_T6: Image, class, and the box as x, y, width, height in [0, 1].
        anchors: (A, 2) of each head, in cells.
        spec: The weights.
    """
    balance = BALANCE.get(len(heads), BALANCE_OTHERWISE)
    box, objectness, classes = (heads[0].new_zeros(1) for _ in range(3))
    for raw, sizes, weight in zip(heads, anchors, balance[: len(heads)], strict=True):
        rows, columns = raw.shape[2:4]
        matches = assign(targets_T6, sizes.to(raw), (rows, columns), largest_ratio=spec.largest_ratio)
        picked = raw[matches.image, matches.anchor, matches.row, matches.column]
        overlap = paired_overlap(predicted_corners(picked, matches), corners_of(matches.box), spec.overlap)
        if len(matches):
            box = box + (1 - overlap).mean()
            classes = classes + _class_term(picked[:, 5:], matches.cls, spec)
        goal = objectness_goal(raw, matches, overlap)
        term = _cross_entropy(raw[..., 4], goal, spec.obj_positive, spec.focal_gamma)
        objectness = objectness + weight * term
    box, objectness, classes = box * spec.box, objectness * spec.obj, classes * spec.cls
    return Loss((box + objectness + classes) * len(heads[0]), box, objectness, classes)


def predicted_corners(raw_NK: Tensor, matches: Matches) -> Tensor:
    """Return the corners of matched predictions, relative to their cell, in cells: (N, 4)."""
    gates = raw_NK[:, :4].sigmoid()
    return corners_of(torch.cat([2 * gates[:, :2] - 0.5, (2 * gates[:, 2:]) ** 2 * matches.size], 1))


def objectness_goal(raw: Tensor, matches: Matches, overlap_N: Tensor) -> Tensor:
    """Return the targets of a head's objectness, (B, A, H, W): the overlap of a match, else 0.

    If a cell is matched more than once, the last match counts. On a GPU, writing by index does not define
    which match is last, so the last match of each cell is determined first.
    """
    goal = raw.new_zeros(raw.shape[:-1])  # contiguous, to be viewed flat, whatever the layout of `raw`
    _, anchors, rows, columns = goal.shape
    cell = ((matches.image * anchors + matches.anchor) * rows + matches.row) * columns + matches.column
    number = torch.arange(len(matches), device=raw.device)
    last = torch.full((goal.numel(),), -1, device=raw.device).scatter_reduce(0, cell, number, "amax")
    kept = last[cell] == number
    goal.view(-1)[cell[kept]] = overlap_N.detach().clamp(0).to(goal.dtype)[kept]
    return goal


def _class_term(raw_NC: Tensor, cls_N: Tensor, spec: LossSpec) -> Tensor:
    """Return the classes' cross-entropy; zero for a single class."""
    if raw_NC.shape[1] == 1:
        return raw_NC.new_zeros(1)
    goal = torch.full_like(raw_NC, spec.label_smoothing / 2)
    goal.scatter_(1, cls_N[:, None], 1 - spec.label_smoothing / 2)
    return _cross_entropy(raw_NC, goal, spec.cls_positive, spec.focal_gamma)


def _cross_entropy(raw: Tensor, goal: Tensor, positive: float, gamma: float) -> Tensor:
    """Return the mean binary cross-entropy, with focal weights (arXiv:1708.02002) if `gamma` is not 0."""
    weight = raw.new_tensor([positive])
    if not gamma:
        return F.binary_cross_entropy_with_logits(raw, goal, pos_weight=weight)
    each = F.binary_cross_entropy_with_logits(raw, goal, pos_weight=weight, reduction="none")
    probability = raw.sigmoid()
    right = goal * probability + (1 - goal) * (1 - probability)
    alpha = goal * _FOCAL_ALPHA + (1 - goal) * (1 - _FOCAL_ALPHA)
    return (each * alpha * (1 - right) ** gamma).mean()
