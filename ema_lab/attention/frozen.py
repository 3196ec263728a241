"""A control: any module with the weights that it starts with."""

from collections.abc import Mapping

from torch import nn

from ema_lab.registry.catalogue import ATTENTIONS


def frozen(channels: int, *, of: Mapping) -> nn.Module:  # type: ignore[type-arg]
    """Another module whose weights are not trained, so that a table can tell learning from its form.

    It starts with the weights that the trained module starts with. Running statistics of batch
    normalisation still follow the data.

    Parameters: those of the module, none of them trained.

    Args:
        of: The module: a name, or a mapping with `name` and its options.
    """
    options = {key: value for key, value in of.items() if key != "name"}
    module: nn.Module = ATTENTIONS.build(of["name"], channels, **options)
    if not any(True for _ in module.parameters()):
        raise ValueError(f"frozen needs a module with weights, got of={of['name']!r}.")
    return module.requires_grad_(False)
