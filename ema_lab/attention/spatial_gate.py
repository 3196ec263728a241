"""The spatial gate that CBAM (arXiv:1807.06521) and triplet attention (arXiv:2010.03045) share.

Shape letters: B batch, C channels, H rows, W columns; 2 is the pair (maximum, mean).
"""

import torch
from torch import Tensor, nn

from ema_lab.attention.check import check_odd, normalise


def channel_extremes(x_BCHW: Tensor) -> Tensor:
    """Return the maximum and the mean over channels, in this order, as two channels."""
    return torch.stack([x_BCHW.max(dim=1).values, x_BCHW.mean(dim=1)], dim=1)


class SpatialGate(nn.Module):
    """Map (B, C, H, W) to the gate (B, 1, H, W): sigmoid(BN(conv([max; mean]))).

    The convolution has no bias. The normalisation has momentum 0.01, as in the authors' code, which
    makes its running statistics ten times slower than the backbone's; `norm` off leaves it out.
    """

    def __init__(self, kernel_size: int, *, owner: str, norm: bool = True) -> None:
        super().__init__()
        check_odd(owner, kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(1, eps=1e-5, momentum=0.01) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.conv(channel_extremes(x))
        return (gate if self.norm is None else normalise(self.norm, gate)).sigmoid()
