"""Control: an attention module with frozen initial weights."""

from collections.abc import Mapping

from torch import nn

from ema_lab.registry.catalogue import ATTENTIONS


def frozen(channels: int, *, of: Mapping) -> nn.Module:  # type: ignore[type-arg]
    """Build another module with frozen weights, to separate effects of learning and of structure.

    The initial weights equal those of the trained module. Running statistics of batch normalisation still
    follow the data.

    Parameters: those of the module, none of them trained.

    Args:
        of: Module to freeze: a name, or a mapping with `name` and its options.

    Raises:
        ValueError: If the module has no weights.
    """
    options = {key: value for key, value in of.items() if key != "name"}
    module: nn.Module = ATTENTIONS.build(of["name"], channels, **options)
    if not any(True for _ in module.parameters()):
        raise ValueError(f"frozen needs a module with weights, got of={of['name']!r}.")
    return module.requires_grad_(False)
