"""Boxes and their overlap, with the epsilons of YOLOv5 v6.0.

torchvision's box losses differ from these by up to 5e-8, and its complete IoU is NaN for boxes without
height, so the formulas are written out (Zheng et al., 2020, arXiv:1911.08287). Shape letters: N pairs of
boxes, M boxes; a box is x, y, width, height of its centre (XYWH), or its corners (XYXY).
"""

import math
from typing import Literal

import torch
from torch import Tensor

EPS = 1e-7
Overlap = Literal["iou", "giou", "diou", "ciou"]


def corners_of(boxes_M4: Tensor) -> Tensor:
    """Turn centres and sizes (XYWH) into corners (XYXY)."""
    centre, half = boxes_M4[..., :2], boxes_M4[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def centres_of(boxes_M4: Tensor) -> Tensor:
    """Turn corners (XYXY) into centres and sizes (XYWH)."""
    low, high = boxes_M4[..., :2], boxes_M4[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def paired_overlap(predicted_N4: Tensor, target_N4: Tensor, kind: Overlap = "ciou") -> Tensor:
    """Return the overlap of each pair of boxes, given by their corners: (N,), 1 for equal boxes.

    The complete IoU's weight of the aspect ratio carries no gradient.

    Args:
        predicted_N4: Corners of the first box of each pair.
        target_N4: Corners of the second.
        kind: `iou`; `giou` subtracts what the hull has beyond the union, `diou` the distance of the centres,
            `ciou` a difference in aspect ratio too.
    """
    ax1, ay1, ax2, ay2 = predicted_N4.unbind(-1)
    bx1, by1, bx2, by2 = target_N4.unbind(-1)
    inter = (ax2.minimum(bx2) - ax1.maximum(bx1)).clamp(0) * (ay2.minimum(by2) - ay1.maximum(by1)).clamp(0)
    a_width, a_height = ax2 - ax1, ay2 - ay1 + EPS
    b_width, b_height = bx2 - bx1, by2 - by1 + EPS
    union = a_width * a_height + b_width * b_height - inter + EPS
    iou = inter / union
    if kind == "iou":
        return iou
    hull_width, hull_height = ax2.maximum(bx2) - ax1.minimum(bx1), ay2.maximum(by2) - ay1.minimum(by1)
    if kind == "giou":
        hull = hull_width * hull_height + EPS
        return iou - (hull - union) / hull
    diagonal = hull_width**2 + hull_height**2 + EPS
    distance = ((bx1 + bx2 - ax1 - ax2) ** 2 + (by1 + by2 - ay1 - ay2) ** 2) / 4
    if kind == "diou":
        return iou - distance / diagonal
    ratio = (4 / math.pi**2) * ((b_width / b_height).atan() - (a_width / a_height).atan()) ** 2
    with torch.no_grad():
        weight = ratio / (ratio - iou + 1 + EPS)
    return iou - (distance / diagonal + ratio * weight)
