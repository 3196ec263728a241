"""Attention modules: each keeps (batch, channels, rows, columns). Importing this loads no torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ema_lab.registry.catalogue import ATTENTIONS

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["attentions", "build_attention", "load_reference_state"]


def attentions() -> tuple[str, ...]:
    """Return the names that `build_attention` knows, sorted."""
    return tuple(ATTENTIONS)


def build_attention(name: str, channels: int, **options: object) -> "nn.Module":
    """Build the module behind `name` for an input of `channels` channels.

    Raises:
        UnknownNameError: If nothing has this name.
        SpecError: If the module has no such option.
        ValueError: If the module cannot be built with these values.
    """
    module: nn.Module = ATTENTIONS.build(name, channels, **options)
    return module


def load_reference_state(module: "nn.Module", state_dict: "Mapping[str, Tensor]") -> None:
    """Load a state dict whose keys are those of the authors' own code.

    Raises:
        SpecError: If the module has no such table of keys, or the state does not fit it.
    """
    from ema_lab.attention.reference import load_reference_state as load

    load(module, state_dict)
