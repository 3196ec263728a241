"""SimAM: a simple, parameter-free attention module (Yang et al., ICML 2021).

Shape letters: B batch, C channels, H rows, W columns.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn


def inverse_energy(x_BCHW: Tensor, regularisation: float) -> Tensor:
    """Return the inverse energy d / (4 (var + regularisation)) + 1/2: (B, C, H, W) -> (B, C, H, W)."""
    deviation_BCHW = (x_BCHW - x_BCHW.mean((2, 3), keepdim=True)).square()
    others = max(x_BCHW.shape[2] * x_BCHW.shape[3] - 1, 1)
    variance_BC11 = deviation_BCHW.sum((2, 3), keepdim=True) / others
    return deviation_BCHW / (4 * (variance_BC11 + regularisation)) + 0.5


class SimAM(nn.Module):
    """Gate per value from its squared distance to the channel's mean; no parameters.

    x * sigmoid(d / (4 (sum d / (H W - 1) + regularisation)) + 1/2), d = (x - mean(x))^2, means and sums
    over the positions of one channel (Yang et al., ICML 2021).

    Parameters: 0.

    The module equals the authors' code (ZjjConan/SimAM) except on maps of one pixel, where their code
    divides by 0. Here the variance of a single pixel is 0, so that the gate is sigmoid(1/2).

    Args:
        channels: Channels of the input, any number.
        regularisation: Lambda of the paper, added to the variance.

    Raises:
        ValueError: If `regularisation` is not positive.
    """

    reference_keys: ClassVar[Mapping[str, str]] = {}

    def __init__(self, channels: int, *, regularisation: float = 1e-4) -> None:
        super().__init__()
        if regularisation <= 0:
            raise ValueError(f"SimAM needs regularisation > 0, got {regularisation=}.")
        self.regularisation = regularisation

    def forward(self, x: Tensor) -> Tensor:
        return x * inverse_energy(x, self.regularisation).sigmoid()
