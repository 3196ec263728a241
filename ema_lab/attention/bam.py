"""BAM: Bottleneck Attention Module (arXiv:1807.06514).

Shape letters: B batch, C channels, K channels of the bottleneck, H rows, W columns.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ema_lab.attention.validation import hidden_channels, normalise


class BAM(nn.Module):
    """One gate per value from a channel and a spatial branch: x * (1 + sigmoid(c * s)).

    c = Linear(ReLU(BN(Linear(mean(x))))) has one value per channel. s has one value per position: a 1x1
    convolution to K channels and two dilated 3x3 convolutions, each with BN and ReLU, then a 1x1
    convolution to one channel (arXiv:1807.06514). All layers have biases.

    Parameters: 3 C K + 18 K^2 + 13 K + C + 1 with K = C // reduction.

    The paper adds the two branches before the sigmoid. The authors' code (Jongchan/attention-module)
    multiplies them, and so does this module. The authors place BAM once after each of the first three stages.

    Args:
        channels: Channels of the input.
        reduction: C // reduction is the width of both branches.
        dilation: Dilation of the two 3x3 convolutions.

    Raises:
        ValueError: If the bottleneck has no channel, or `dilation` is below 1.
    """

    reference_keys: ClassVar[Mapping[str, str]] = {
        "channel_att.gate_c.gate_c_fc_0": "squeeze",
        "channel_att.gate_c.gate_c_bn_1": "squeeze_norm",
        "channel_att.gate_c.gate_c_fc_final": "excite",
        "spatial_att.gate_s.gate_s_conv_reduce0": "spatial_convs.0",
        "spatial_att.gate_s.gate_s_bn_reduce0": "spatial_norms.0",
        "spatial_att.gate_s.gate_s_conv_di_0": "spatial_convs.1",
        "spatial_att.gate_s.gate_s_bn_di_0": "spatial_norms.1",
        "spatial_att.gate_s.gate_s_conv_di_1": "spatial_convs.2",
        "spatial_att.gate_s.gate_s_bn_di_1": "spatial_norms.2",
        "spatial_att.gate_s.gate_s_conv_final": "project",
    }

    def __init__(self, channels: int, *, reduction: int = 16, dilation: int = 4) -> None:
        super().__init__()
        hidden = hidden_channels("BAM", channels, reduction)
        if dilation < 1:
            raise ValueError(f"BAM needs dilation >= 1, got {dilation=}.")
        self.squeeze = nn.Linear(channels, hidden)
        self.squeeze_norm = nn.BatchNorm1d(hidden)
        self.excite = nn.Linear(hidden, channels)
        self.spatial_convs = nn.ModuleList([nn.Conv2d(channels, hidden, kernel_size=1)])
        for _ in range(2):
            self.spatial_convs.append(
                nn.Conv2d(hidden, hidden, kernel_size=3, padding=dilation, dilation=dilation)
            )
        self.spatial_norms = nn.ModuleList(nn.BatchNorm2d(hidden) for _ in self.spatial_convs)
        self.project = nn.Conv2d(hidden, 1, kernel_size=1)

    def channel_branch(self, x: Tensor) -> Tensor:
        """Return the channel branch: (B, C, H, W) -> (B, C, 1, 1)."""
        squeezed_BK = normalise(self.squeeze_norm, self.squeeze(x.mean((2, 3)))).relu()
        channel_BC: Tensor = self.excite(squeezed_BK)
        return channel_BC.unsqueeze(2).unsqueeze(3)

    def spatial_branch(self, x: Tensor) -> Tensor:
        """Return the spatial branch: (B, C, H, W) -> (B, 1, H, W)."""
        for conv, norm in zip(self.spatial_convs, self.spatial_norms, strict=True):
            x = normalise(norm, conv(x)).relu()
        map_B1HW: Tensor = self.project(x)
        return map_B1HW

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + (self.channel_branch(x) * self.spatial_branch(x)).sigmoid())
