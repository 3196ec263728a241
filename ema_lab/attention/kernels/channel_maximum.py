"""Maximum over channels and where it is, several times as fast on a CPU as `Tensor.max`.

`Tensor.max` walks through the channels of one pixel after another. Pooling of maps whose channels lie next to
each other in memory takes many of them at once, so here pixels are called channels.
"""

from torch import Tensor
from torch.nn.functional import max_pool2d


def channel_maximum(x_BCM: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maximum over channels and its first channel, as `x.max(1)` does: two tensors (B, M)."""
    pixels_first = x_BCM.unsqueeze(2).permute(0, 3, 1, 2)
    maximum, channel = max_pool2d(pixels_first, (x_BCM.shape[1], 1), return_indices=True)
    return maximum.flatten(1), channel.flatten(1)
