"""GAM: Global Attention Mechanism (arXiv:2112.05561).

Shape letters: B batch, C channels, K channels of the bottleneck, H rows, W columns.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ema_lab.attention.validation import hidden_channels, normalise


def pixelwise_factor(x_BCHW: Tensor, squeeze: nn.Module, excite: nn.Module) -> Tensor:
    """Apply excite(relu(squeeze(.))) to the channels of each pixel: (B, C, H, W) -> (B, C, H, W)."""
    factor_BHWC: Tensor = excite(squeeze(x_BCHW.movedim(1, 3)).relu())
    return factor_BHWC.movedim(3, 1)


class GAM(nn.Module):
    """Factor per value from a per-pixel two-layer map, then a gate from two 7x7 convolutions.

    y = x * W2 relu(W1 x) per pixel, then y * sigmoid(BN(conv7(relu(BN(conv7(y))))))
    (arXiv:2112.05561). The first convolution reduces to K channels, the second restores C. Both have a
    bias and replicate padding.

    Parameters: 100 C K + 4 K + 4 C with K = C // reduction: 25 C^2 + 5 C by default.

    No code by the authors is known. This module follows the port dengbuqi/GAM_Pytorch, which has no
    sigmoid in the first step, so that its factor is unbounded. With GAM after every block, ResNet50 for
    CIFAR-100 has 527 million parameters, where EMA's authors report 149.5 million.

    Args:
        channels: Channels of the input.
        reduction: C // reduction is the width of both bottlenecks.

    Raises:
        ValueError: If the bottleneck has no channel.
    """

    reference_keys: ClassVar[Mapping[str, str]] = {
        "linear1": "squeeze",
        "linear2": "excite",
        "conv1": "reduce",
        "norm1": "reduce_norm",
        "conv2": "restore",
        "norm2": "restore_norm",
    }

    def __init__(self, channels: int, *, reduction: int = 4) -> None:
        super().__init__()
        hidden = hidden_channels("GAM", channels, reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)
        self.reduce = nn.Conv2d(channels, hidden, kernel_size=7, padding=3, padding_mode="replicate")
        self.reduce_norm = nn.BatchNorm2d(hidden)
        self.restore = nn.Conv2d(hidden, channels, kernel_size=7, padding=3, padding_mode="replicate")
        self.restore_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x * pixelwise_factor(x, self.squeeze, self.excite)
        reduced_BKHW = normalise(self.reduce_norm, self.reduce(x)).relu()
        return x * normalise(self.restore_norm, self.restore(reduced_BKHW)).sigmoid()
