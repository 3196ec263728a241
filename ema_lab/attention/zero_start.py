"""Wrapper of an attention module that begins as the identity, to insert it into a trained network."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ema_lab.registry.catalogue import ATTENTIONS


class ZeroStart(nn.Module):
    """Another module f, faded in: x + g * (f(x) - x) with one learned g per channel, 0 at the start.

    The network's outputs are therefore those without the module before the first step, as with the residual
    gains of ReZero (arXiv:2003.04887). At first only g has a gradient.

    Input and output: (B, C, H, W). Parameters: those of the module and C.

    Args:
        of: Module to fade in: a name, or a mapping with `name` and its options.
    """

    def __init__(self, channels: int, *, of: Mapping) -> None:  # type: ignore[type-arg]
        super().__init__()
        options = {key: value for key, value in of.items() if key != "name"}
        self.inner: nn.Module = ATTENTIONS.build(of["name"], channels, **options)
        self.gain = nn.Parameter(torch.zeros(channels))

    @property
    def zero_gradients(self) -> frozenset[str]:
        """Names of the parameters without a gradient at the start, for `ema-lab check`."""
        return frozenset(f"inner.{name}" for name, _ in self.inner.named_parameters())

    def forward(self, x: Tensor) -> Tensor:
        gain = self.gain.to(x.dtype).reshape(-1, 1, 1)
        added: Tensor = gain * (self.inner(x) - x)
        return x + added
