"""Attention modules that keep the shape (batch, channels, rows, columns).

Importing this package does not import torch.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ema_lab.registry.catalogue import ATTENTIONS

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["attentions", "build_attention", "load_reference_state"]


def attentions() -> tuple[str, ...]:
    """Return the names of all registered attention modules, sorted.

    Example:
        >>> ema_lab.attentions()[:3]
        ('bam', 'ca', 'cbam')
    """
    return tuple(ATTENTIONS)


def build_attention(name: str, channels: int, **options: object) -> "nn.Module":
    """Build an attention module for inputs of shape (batch, channels, rows, columns).

    Args:
        name: Registered name, or "package.module:Name".
        channels: Number of input channels, which equals the number of output channels.
        options: Keyword-only parameters of the module.

    Raises:
        UnknownNameError: If the name is unknown.
        SpecError: If an option is unknown.
        ValueError: If an option has an invalid value.

    Example:
        >>> module = ema_lab.build_attention("ema", 64, groups=8)
        >>> module(torch.zeros(2, 64, 8, 8)).shape
        torch.Size([2, 64, 8, 8])
    """
    module: nn.Module = ATTENTIONS.build(name, channels, **options)
    return module


def load_reference_state(module: "nn.Module", state_dict: "Mapping[str, Tensor]") -> None:
    """Load a state dict with the key names of the module authors' code.

    Args:
        module: Attention module to load into.
        state_dict: State dict of the authors' module.

    Raises:
        SpecError: If the module has no table of the authors' key names, or the state dict does not fit.

    Example:
        >>> module = ema_lab.build_attention("se", 64)
        >>> state = {"fc.0.weight": torch.zeros(4, 64), "fc.2.weight": torch.zeros(64, 4)}
        >>> ema_lab.load_reference_state(module, state)
        >>> bool((module.squeeze.weight == 0).all())
        True
    """
    from ema_lab.attention.reference import load_reference_state as load

    load(module, state_dict)
