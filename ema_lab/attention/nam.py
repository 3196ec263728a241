"""NAM: Normalization-based Attention Module (arXiv:2111.12419).

Shape letters: B batch, C channels, H rows, W columns.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ema_lab.attention.validation import normalise


def scale_share(scale_C: Tensor) -> Tensor:
    """Return each scale's share |scale_c| / sum |scale|: (C,) -> (C, 1, 1)."""
    magnitude_C = scale_C.abs()
    return (magnitude_C / magnitude_C.sum()).reshape(-1, 1, 1)


class NAM(nn.Module):
    """Channel gate from batch-norm scales: x * sigmoid(BN(x) * |gamma_c| / sum |gamma|).

    gamma is the scale of the module's own batch normalisation (arXiv:2111.12419).

    Parameters: 2 C. The paper's table reports ResNet50's count without them.

    The authors' code (Christian-lyc/NAM) reads gamma through `.data`, so that gradients flow through BN
    but not through the share. This module does the same unless `differentiable` is set. The paper also
    describes a spatial part and an L1 penalty on gamma. The authors' code has no spatial part, and the
    penalty belongs to training.

    Args:
        channels: Channels of the input.
        differentiable: Whether gradients flow through the share |gamma_c| / sum |gamma|. The output is
            the same.
    """

    reference_keys: ClassVar[Mapping[str, str]] = {"Channel_Att.bn2": "norm"}

    def __init__(self, channels: int, *, differentiable: bool = False) -> None:
        super().__init__()
        self.differentiable = differentiable
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.norm.weight if self.differentiable else self.norm.weight.detach()
        gate_BCHW = (normalise(self.norm, x) * scale_share(scale)).sigmoid()
        return x * gate_BCHW.to(x.dtype)
