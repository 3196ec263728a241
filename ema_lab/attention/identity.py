"""Control: an inserted module that does nothing."""

from torch import Tensor, nn


class Identity(nn.Module):
    """Identity module, inserted like any attention module. Keeps (B, C, H, W).

    Parameters: 0. Unlike `none`, which inserts nothing, `identity` isolates the effect of insertion: a
    model with `identity` must give the same results as the plain model.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
