"""Baseline without attention."""

from torch import Tensor, nn


class NoAttention(nn.Module):
    """Absence of attention: `none` inserts nothing into a backbone and removes nothing.

    With `replace: se` a backbone keeps its own squeeze-and-excitation modules. `identity` removes them.

    Parameters: 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
