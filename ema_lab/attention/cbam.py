"""CBAM: Convolutional Block Attention Module (arXiv:1807.06521).

Shape letters: B batch, C channels, H rows, W columns.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ema_lab.attention.kernels.cbam import CBAMModule, apply_cbam
from ema_lab.attention.spatial_gate import SpatialGate
from ema_lab.attention.validation import hidden_channels


class CBAM(CBAMModule):
    """Channel gate, then spatial gate on its result (arXiv:1807.06521).

    y = x * sigmoid(M(mean(x)) + M(max(x))), then y * sigmoid(BN(conv([max_c(y); mean_c(y)]))), where M
    is Linear-ReLU-Linear with biases.

    Parameters: 2 C h + h + C with h = C // reduction; the spatial gate adds 2 k^2 + 2.

    This module follows the authors' code (Jongchan/attention-module), which differs from the paper in
    two ways. It has a batch normalisation (momentum 0.01) after the spatial convolution, and the order of
    its two input channels is (maximum, mean), where the paper has (mean, maximum). Well-known
    reimplementations deviate. The one in EMA's YOLOv5 branch has no normalisation (`norm: false`), no bias
    in the channel gate (`bias: false`), and the order (mean, maximum). The authors' ResNet initialises the
    weight of the normalisation to 0, so that the spatial gate starts at 0.5. That initialisation belongs
    to their backbone and is not part of this module.

    Args:
        channels: Channels of the input.
        reduction: C // reduction is the width of the channel gate's bottleneck.
        spatial: Whether the spatial gate follows the channel gate.
        kernel_size: Odd width k of the spatial convolution. None means 7. Needs `spatial`.
        bias: Whether the channel gate's two linear layers have biases.
        norm: Whether the spatial convolution is normalised. None means yes. Needs `spatial`.

    Raises:
        ValueError: If the bottleneck has no channel, the kernel is even, or `kernel_size` or
            `norm` is given without the spatial gate.
    """

    reference_keys: ClassVar[Mapping[str, str]] = {
        "ChannelGate.mlp.1": "squeeze",
        "ChannelGate.mlp.3": "excite",
        "SpatialGate.spatial.conv": "spatial_gate.conv",
        "SpatialGate.spatial.bn": "spatial_gate.norm",
    }

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        spatial: bool = True,
        kernel_size: int | None = None,
        bias: bool = True,
        norm: bool | None = None,
    ) -> None:
        super().__init__()
        if kernel_size is not None and not spatial:
            raise ValueError(f"CBAM needs spatial=True to use kernel_size, got {spatial=}, {kernel_size=}.")
        if norm is not None and not spatial:
            raise ValueError(f"CBAM needs spatial=True to use norm, got {spatial=}, {norm=}.")
        hidden = hidden_channels("CBAM", channels, reduction)
        self.squeeze = nn.Linear(channels, hidden, bias=bias)
        self.excite = nn.Linear(hidden, channels, bias=bias)
        self.spatial_gate: SpatialGate | None = None
        if spatial:
            kernel_size = 7 if kernel_size is None else kernel_size
            self.spatial_gate = SpatialGate(kernel_size, owner="CBAM", norm=norm is not False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the formula, or a kernel that agrees with it within rounding, if the user has chosen one."""
        return apply_cbam(self, x, _smallest)

    def formula(self, x: Tensor) -> Tensor:
        """Apply the formula of the class, operator by operator."""
        gate_BC = self.channel_gate(x.mean((2, 3)), x.flatten(2).max(dim=2).values)
        x = x * gate_BC.unsqueeze(2).unsqueeze(3)
        return x if self.spatial_gate is None else x * self.spatial_gate(x)

    def channel_gate(self, mean_BC: Tensor, max_BC: Tensor) -> Tensor:
        """Gate each channel by a shared two-layer map of its mean plus that of its maximum: (B, C)."""
        mixed_BC: Tensor = self.excite(self.squeeze(mean_BC).relu()) + self.excite(
            self.squeeze(max_BC).relu()
        )
        return mixed_BC.sigmoid()


def _smallest(kernel_size: int) -> CBAM:
    return CBAM(4, reduction=2, kernel_size=kernel_size)
