"""A control: a module in the place of attention that does nothing."""

from torch import Tensor, nn


class Identity(nn.Module):
    """Return the input unchanged, from a module that is placed like any other.

    Parameters: 0. Unlike `none`, which inserts nothing, it shows what insertion itself does: a model
    with it must give the results of the model without.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
