"""CA: Coordinate Attention (arXiv:2103.02907).

Shape letters: B batch, C channels, H rows, W columns, L = H + W, K channels of the bottleneck.
"""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import hardswish

from ema_lab.attention.kernels.ca import CAModule, apply_ca
from ema_lab.attention.validation import normalise


def coordinate_means(x_BCHW: Tensor) -> Tensor:
    """Concatenate the row means and the column means: (B, C, H, W) -> (B, C, L, 1)."""
    return torch.cat([x_BCHW.mean(3), x_BCHW.mean(2)], dim=2).unsqueeze(3)


class CA(CAModule):
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
        """Apply the formula, or a kernel that agrees with it within rounding, if the user has chosen one."""
        return apply_ca(self, x, partial(CA, 4, min_width=3))

    def formula(self, x: Tensor) -> Tensor:
        """Apply the formula of the class, operator by operator."""
        gate_BCH1, gate_BC1W = self.gates(coordinate_means(x), list(x.shape[2:]))
        return x * gate_BC1W * gate_BCH1

    def gates(self, means_BCL1: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
        """Return the gates (B, C, H, 1) of the rows and (B, C, 1, W) of the columns of maps of a size."""
        mixed_BKL1 = hardswish(normalise(self.norm, self.squeeze(means_BCL1)))
        rows_BKH1, columns_BKW1 = torch.split(mixed_BKL1, size, dim=2)
        columns_BCW1: Tensor = self.excite_columns(columns_BKW1).sigmoid()
        return self.excite_rows(rows_BKH1).sigmoid(), columns_BCW1.transpose(2, 3)
