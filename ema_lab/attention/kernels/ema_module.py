"""EMA module and its parameters, as the kernels take them.

`EMA` of `ema_lab.attention.ema` is the only such module. Kernels know its base class alone: EMA imports them.
"""

from typing import NamedTuple

from torch import Tensor, nn


class EMAModule(nn.Module):
    """Base class of EMA: the parts that kernels read, and the formula that they replace."""

    mix: nn.Conv2d | None
    local: nn.Conv2d | None
    norm: nn.GroupNorm | None
    groups: int
    cross_spatial: str

    def formula(self, x: Tensor) -> Tensor:
        """Apply the formula, operator by operator."""
        raise NotImplementedError


class EMAWeights(NamedTuple):
    """Parameters of an EMA module, with the shapes of its convolutions and its norm."""

    mix_weight: Tensor
    mix_bias: Tensor
    local_weight: Tensor
    local_bias: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
