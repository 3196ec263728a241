"""ECA: Efficient Channel Attention (arXiv:1910.03151).

Shape letters: B batch, C channels, H rows, W columns.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ema_lab.attention.validation import check_odd


def adaptive_kernel_size(channels: int, *, gamma: float, beta: float) -> int:
    """Return the odd kernel width that ECA-Net (arXiv:1910.03151) derives from the number of channels."""
    nearest = int(abs((math.log2(channels) + beta) / gamma))
    return nearest if nearest % 2 else nearest + 1


class ECA(nn.Module):
    """Channel gate from a 1-D convolution along the channel axis: x * sigmoid(conv(mean(x))).

    The convolution (arXiv:1910.03151) has k weights and no bias. Without `kernel_size`,
    k = |(log2(C) + beta) / gamma| truncated to an integer, plus one if even: 3 for 64 channels, 5 for
    256 to 1024, 7 for 2048.

    Parameters: k.

    The layer in the authors' code (BangguWu/ECANet) takes k as an argument with the default 3. So
    kernel_size=3 follows their code, and None follows their paper. EMA's YOLOv5 branch derives k.

    Args:
        channels: Channels of the input.
        kernel_size: Odd number k of neighbouring channels to mix. None derives k from `channels`.
        gamma: Divisor in the formula for k. None means 2.
        beta: Offset in the formula for k. None means 1.

    Raises:
        ValueError: If the kernel is even, `gamma` is not positive, or `kernel_size` is combined with `gamma`
            or `beta`.
    """

    reference_keys: ClassVar[Mapping[str, str]] = {"conv": "conv"}

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int | None = None,
        gamma: float | None = None,
        beta: float | None = None,
    ) -> None:
        super().__init__()
        if kernel_size is None:
            kernel_size = _derived_kernel_size(channels, gamma, beta)
        elif gamma is not None or beta is not None:
            raise ValueError(
                f"ECA needs kernel_size=None to use gamma or beta, got {kernel_size=}, {gamma=}, {beta=}."
            )
        check_odd("ECA", kernel_size)
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean_B1C = x.mean((2, 3)).unsqueeze(1)
        gate_BC11: Tensor = self.conv(mean_B1C).sigmoid().transpose(1, 2).unsqueeze(3)
        return x * gate_BC11


def _derived_kernel_size(channels: int, gamma: float | None, beta: float | None) -> int:
    gamma = 2.0 if gamma is None else gamma
    beta = 1.0 if beta is None else beta
    if channels < 1 or gamma <= 0:
        raise ValueError(f"ECA needs channels >= 1 and gamma > 0, got {channels=}, {gamma=}.")
    return adaptive_kernel_size(channels, gamma=gamma, beta=beta)
