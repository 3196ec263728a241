"""Spatial gate shared by CBAM (arXiv:1807.06521) and triplet attention (arXiv:2010.03045).

Shape letters: B batch, C channels, H rows, W columns; 2 is the pair (maximum, mean).
"""

import torch
from torch import Tensor, nn

from ema_lab.attention.validation import check_odd, normalise


def channel_extremes(x_BCHW: Tensor) -> Tensor:
    """Return the maximum and the mean over channels as two channels: (B, C, H, W) -> (B, 2, H, W)."""
    return torch.stack([x_BCHW.max(dim=1).values, x_BCHW.mean(dim=1)], dim=1)


class SpatialGate(nn.Module):
    """Spatial gate sigmoid(BN(conv([max; mean]))): (B, C, H, W) -> (B, 1, H, W).

    The convolution has no bias. The normalisation has momentum 0.01, as in the authors' code, so that its
    running statistics change ten times slower than the backbone's.

    Args:
        kernel_size: Odd width of the convolution.
        owner: Name of the attention module, for messages.
        norm: Whether to normalise the convolution's output.

    Raises:
        ValueError: If the kernel is even.
    """

    def __init__(self, kernel_size: int, *, owner: str, norm: bool = True) -> None:
        super().__init__()
        check_odd(owner, kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(1, eps=1e-5, momentum=0.01) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        return self.from_convolved(self.conv(channel_extremes(x)))

    def from_convolved(self, map_B1HW: Tensor) -> Tensor:
        """Return the gate of the convolution's output."""
        return (map_B1HW if self.norm is None else normalise(self.norm, map_B1HW)).sigmoid()
