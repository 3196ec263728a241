"""Parameters of an EMA module, as all its kernels take them."""

from typing import NamedTuple

from torch import Tensor


class EMAWeights(NamedTuple):
    """Parameters of an EMA module, with the shapes of its convolutions and its norm."""

    mix_weight: Tensor
    mix_bias: Tensor
    local_weight: Tensor
    local_bias: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
