"""No attention: the baseline of an ablation."""

from torch import Tensor, nn


class NoAttention(nn.Module):
    """Return the input unchanged. Placing `none` in a backbone inserts nothing, and takes nothing out.

    With `replace: se` a backbone keeps its own squeeze-and-excitation; `identity` takes it out.

    Parameters: 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
