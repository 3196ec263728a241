"""SA: Shuffle Attention (arXiv:2102.00240).

Shape letters: B batch x groups, C channels of half a group, H rows, W columns.
"""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from ema_lab.attention.kernels.sa import SAModule, apply_sa
from ema_lab.attention.validation import normalise


def affine_gate(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return sigmoid(weight * x + bias) in the data type of `x`."""
    return (weight * x + bias).sigmoid().to(x.dtype)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of `groups` groups: first channel of each group, then the second, ...

    (B, C, H, W) -> (B, C, H, W).
    """
    batch, channels, height, width = x.shape
    grouped = x.reshape(batch, groups, channels // groups, height, width)
    return grouped.transpose(1, 2).reshape(x.shape)


class SA(SAModule):
    """Channel gate on one half of each group, spatial gate on the other, then a shuffle.

    X1 and X2 are the halves of a group's channels (arXiv:2102.00240). The module computes
    X1 * sigmoid(w1 mean(X1) + b1) and X2 * sigmoid(w2 GN(X2) + b2) and joins all groups. The first and
    the second half of all channels are then interleaved. GN has one channel per group. All weights are
    per channel of a half and shared by the groups. w is initialised to 0 and b to 1, so that both gates
    start at sigmoid(1).

    Parameters: 3 C / groups.

    The authors' code (wofmanaf/SA-Net) has groups=64, and EMA's YOLOv5 branch has 32. The four affine
    weights are direct parameters of the module, which some parameter counters omit.

    Args:
        channels: Channels of the input, a multiple of 2 x `groups`.
        groups: Number of channel groups.

    Raises:
        ValueError: If `channels` is not a multiple of 2 x `groups`.
    """

    reference_keys: ClassVar[Mapping[str, str]] = {
        "cweight": "channel_weight",
        "cbias": "channel_bias",
        "sweight": "spatial_weight",
        "sbias": "spatial_bias",
        "gn": "norm",
    }

    def __init__(self, channels: int, *, groups: int = 64) -> None:
        super().__init__()
        if groups < 1 or channels < 1 or channels % (2 * groups):
            raise ValueError(f"SA needs channels % (2 * groups) == 0, got {channels=}, {groups=}.")
        width = channels // (2 * groups)
        self.groups = groups
        self.channel_weight = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.channel_bias = nn.Parameter(torch.ones(1, width, 1, 1))
        self.spatial_weight = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.spatial_bias = nn.Parameter(torch.ones(1, width, 1, 1))
        self.norm = nn.GroupNorm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the formula, or a kernel that agrees with it within rounding, if the user has chosen one."""
        return apply_sa(self, x, partial(SA, 4, groups=1))

    def formula(self, x: Tensor) -> Tensor:
        """Apply the formula of the class, operator by operator."""
        grouped = x.reshape(x.shape[0] * self.groups, x.shape[1] // self.groups, *x.shape[2:])
        first_BCHW, second_BCHW = grouped.chunk(2, dim=1)
        mean_BC11 = first_BCHW.mean((2, 3), keepdim=True)
        first_BCHW = first_BCHW * affine_gate(mean_BC11, self.channel_weight, self.channel_bias)
        normal_BCHW = normalise(self.norm, second_BCHW).to(x.dtype)
        second_BCHW = second_BCHW * affine_gate(normal_BCHW, self.spatial_weight, self.spatial_bias)
        joined = torch.cat([first_BCHW, second_BCHW], dim=1).reshape(x.shape)
        return channel_shuffle(joined, 2)
