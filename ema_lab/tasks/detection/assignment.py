"""Assignment of targets to anchors and cells: YOLOv5's rule of shapes and neighbouring cells.

An anchor learns a target if neither side is four times the other's, and so do the target's own cell and the
nearer neighbour on each axis: usually three cells. One cell may be assigned twice (a centre on a border
between cells counts its own cell again), and a target may match no anchor at all.

Shape letters: T targets, A anchors of a head, N matches.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST_RATIO = 4.0
_OFFSETS = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (-0.5, 0.0), (0.0, -0.5))  # own, left, up, right, down


@dataclass(frozen=True)
class Matches:
    """Predictions of one head that learn a target, in the order offset, anchor, target.

    Attributes:
        image: Image of each match; `anchor`, `row` and `column` likewise: (N,).
        cls: The target's class: (N,).
        box: The target's centre relative to the cell, and its size, in cells: (N, 4).
        size: The anchor's width and height in cells: (N, 2).
    """

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    cls: Tensor
    box: Tensor
    size: Tensor

    def __len__(self) -> int:
        return len(self.image)


def assign(
    targets_T6: Tensor, anchors_A2: Tensor, grid: tuple[int, int], *, largest_ratio: float = LARGEST_RATIO
) -> Matches:
    """Match targets with the anchors and cells of one head.

    Args:
        targets_T6: Image, class, and the box as x, y, width, height in [0, 1].
        anchors_A2: Width and height of the head's anchors, in cells.
        grid: Rows and columns of the head.
        largest_ratio: Limit of the ratio between the sides of a target and an anchor that match.
    """
    rows, columns = grid
    count = len(anchors_A2)
    scale = targets_T6.new_tensor([1, 1, columns, rows, columns, rows])
    scaled_AT6 = (targets_T6 * scale).expand(count, *targets_T6.shape)
    anchor_AT = torch.arange(count, device=targets_T6.device)[:, None].expand(count, len(targets_T6))
    ratio_AT2 = scaled_AT6[..., 4:] / anchors_A2[:, None]
    fits = torch.maximum(ratio_AT2, 1 / ratio_AT2).amax(2) < largest_ratio
    scaled, anchor = scaled_AT6[fits], anchor_AT[fits]
    chosen, offsets = _cells(scaled[:, 2:4], columns, rows)
    scaled, anchor = scaled.expand(len(_OFFSETS), *scaled.shape)[chosen], anchor.expand_as(chosen)[chosen]
    centre = scaled[:, 2:4]
    cell = (centre - offsets).long()
    column, row = cell[:, 0].clamp(0, columns - 1), cell[:, 1].clamp(0, rows - 1)
    place = torch.stack([column, row], 1)
    box = torch.cat([centre - place, scaled[:, 4:]], 1)
    return Matches(scaled[:, 0].long(), anchor, row, column, scaled[:, 1].long(), box, anchors_A2[anchor])


def _cells(centre_N2: Tensor, columns: int, rows: int) -> tuple[Tensor, Tensor]:
    """Return a mask (5, N) of the five offsets that each centre takes, and the taken offsets."""
    from_far_side = centre_N2.new_tensor([columns, rows]) - centre_N2
    left, up = ((centre_N2 % 1 < 0.5) & (centre_N2 > 1)).T
    right, down = ((from_far_side % 1 < 0.5) & (from_far_side > 1)).T
    chosen = torch.stack([torch.ones_like(left), left, up, right, down])
    offsets = centre_N2.new_tensor(_OFFSETS)[:, None].expand(len(_OFFSETS), *centre_N2.shape)
    return chosen, offsets[chosen]
