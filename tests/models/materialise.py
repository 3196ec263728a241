"""Weights for networks that were built without any: faster than building, where values do not matter."""

import torch
from torch import nn

from ema_lab.models.dropout import SeededDropout

NORMS = torch.nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm


def only_norms_have_buffers(model: nn.Module) -> bool:
    """Whether arbitrary values can stand for all of a network's own: no other layer computed its buffers."""
    owners = (layer for layer in model.modules() if list(layer.buffers(recurse=False)))
    return all(isinstance(layer, NORMS | SeededDropout) for layer in owners)


def materialised(model: nn.Module) -> nn.Module:
    """Give a network on the meta device arbitrary weights."""
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.08, 0.08, generator=generator)
    for layer in model.modules():
        if isinstance(layer, NORMS):
            layer.reset_parameters()
        if isinstance(layer, SeededDropout):
            layer.step.zero_()
    return model
