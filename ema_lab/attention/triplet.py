"""Triplet attention (arXiv:2010.03045).

Shape letters: B batch, C channels, H rows, W columns.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from ema_lab.attention.kernels.triplet import TripletModule, apply_triplet
from ema_lab.attention.spatial_gate import SpatialGate


class Triplet(TripletModule):
    """Mean of three gated copies of x, one gate per plane: (C, W), (H, C) and (H, W).

    Each gate is sigmoid(BN(conv([max; mean]))) over the axis outside its plane
    (arXiv:2010.03045): x * (g_CW + g_HC + g_HW) / 3.

    Parameters: 3 (2 k^2 + 2).

    As in the authors' code (landskape-ai/triplet-attention), k = 7, the convolutions have no bias, and the
    normalisation has momentum 0.01. Their ResNet initialises the normalisation weight of gates whose name
    contains "SpatialGate" to 0. That initialisation belongs to their backbone and is not part of this
    module.

    Args:
        channels: Channels of the input, any number.
        kernel_size: Odd width k of the three convolutions.

    Raises:
        ValueError: If the kernel is even.
    """

    reference_keys: ClassVar[Mapping[str, str]] = {
        f"{plane}.conv.{theirs}": f"{plane}.{ours}"
        for plane in ("cw", "hc", "hw")
        for theirs, ours in (("conv", "conv"), ("bn", "norm"))
    }

    def __init__(self, channels: int, *, kernel_size: int = 7) -> None:
        super().__init__()
        self.cw = SpatialGate(kernel_size, owner="Triplet")
        self.hc = SpatialGate(kernel_size, owner="Triplet")
        self.hw = SpatialGate(kernel_size, owner="Triplet")

    def forward(self, x: Tensor) -> Tensor:
        """Apply the formula, or a kernel that agrees with it within rounding, if the user has chosen one."""
        return apply_triplet(self, x, _smallest)

    def formula(self, x: Tensor) -> Tensor:
        """Apply the formula of the class, operator by operator."""
        gate_BC1W = self.cw(x.transpose(1, 2)).transpose(1, 2)
        gate_BCH1 = self.hc(x.transpose(1, 3)).transpose(1, 3)
        gate_B1HW = self.hw(x)
        gated: Tensor = x * ((gate_BC1W + gate_BCH1 + gate_B1HW) / 3)
        return gated


def _smallest(kernel_size: int) -> Triplet:
    return Triplet(4, kernel_size=kernel_size)
