"""CA: Coordinate Attention (arXiv:2103.02907).

Shape letters: B batch, C channels, H rows, W columns, L = H + W, K channels of the bottleneck.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import hardswish

from ema_lab.attention.validation import normalise


def coordinate_means(x_BCHW: Tensor) -> Tensor:
    """Concatenate the row means and the column means: (B, C, H, W) -> (B, C, L, 1)."""
    return torch.cat([x_BCHW.mean(3), x_BCHW.mean(2)], dim=2).unsqueeze(3)


class CA(nn.Module):
    """Gate from row means and column means, mixed by one shared bottleneck (arXiv:2103.02907).

    y = hardswish(BN(F1([row means; column means]))), split into y_h and y_w;
    x * sigmoid(F_h(y_h)) * sigmoid(F_w(y_w)).

    Parameters: 3 C K + 3 K + 2 C with K = max(min_width, C // reduction).

    The paper leaves the non-linearity open. The authors' code (houqb/CoordAttention) uses hard swish,
    x relu6(x + 3) / 6, and gives all three 1x1 convolutions a bias. Other implementations deviate in
    the non-linearity (ReLU, swish) and in the minimum of K.

    Args:
        channels: Channels of the input.
        reduction: C // reduction is the width of the bottleneck, if above `min_width`.
        min_width: Minimum width of the bottleneck.

    Raises:
        ValueError: If `reduction` or `min_width` is below 1.
    """

    reference_keys: ClassVar[Mapping[str, str]] = {
        "conv1": "squeeze",
        "bn1": "norm",
        "conv_h": "excite_rows",
        "conv_w": "excite_columns",
    }

    def __init__(self, channels: int, *, reduction: int = 32, min_width: int = 8) -> None:
        super().__init__()
        if reduction < 1 or min_width < 1:
            raise ValueError(f"CA needs reduction >= 1 and min_width >= 1, got {reduction=}, {min_width=}.")
        width = max(min_width, channels // reduction)
        self.squeeze = nn.Conv2d(channels, width, kernel_size=1)
        self.norm = nn.BatchNorm2d(width)
        self.excite_rows = nn.Conv2d(width, channels, kernel_size=1)
        self.excite_columns = nn.Conv2d(width, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        mixed_BKL1 = hardswish(normalise(self.norm, self.squeeze(coordinate_means(x))))
        rows_BKH1, columns_BKW1 = torch.split(mixed_BKL1, list(x.shape[2:]), dim=2)
        gate_BCH1: Tensor = self.excite_rows(rows_BKH1).sigmoid()
        gate_BC1W: Tensor = self.excite_columns(columns_BKW1).sigmoid().transpose(2, 3)
        return x * gate_BC1W * gate_BCH1
