"""Batch normalisation with the statistics of the global batch, over all ranks.

torch's SyncBatchNorm needs a GPU, and its conversion replaces modules: a subclass with an activation of its
own, or with attention inserted after it, would lose them. Here a module keeps its type, names and values.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from ema_lab.errors import SpecError
from ema_lab.models.insertion import change_class


class Synchronised(nn.Module):
    """Mixin of a batch normalisation's class, whose `forward` it replaces in training.

    `alone`: whether every rank has the whole batch, and normalises without the others.
    """

    alone = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.alone or distributed.get_world_size() == 1:
            normalised: Tensor = super().forward(x)
            return normalised
        return _normalised(self, x)


def synchronise(model: nn.Module) -> None:
    """Let the batch normalisations of a model share their statistics over all ranks.

    Raises:
        SpecError: As `check_synchronised` does.
    """
    check_synchronised(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            change_class(module, _subclass)


def check_synchronised(model: nn.Module) -> None:
    """Check that a model has batch normalisation, all of it torch's own.

    Raises:
        SpecError: If it has none, or a subclass with a forward pass of its own.
    """
    norms = [(name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    if not norms:
        raise SpecError("recipe.sync_batch_norm: the model has no batch normalisation; leave it out")
    for name, module in norms:
        if type(module).forward is not _BatchNorm.forward:
            rule = f"{name} is a {type(module).__name__} with a forward pass of its own"
            raise SpecError(f"recipe.sync_batch_norm: {rule}; leave it out")


def set_alone(model: nn.Module, alone: bool) -> None:
    """Set whether every rank has the whole batch."""
    for module in model.modules():
        if isinstance(module, Synchronised):
            module.alone = alone


@cache  # one subclass per class, because torch.compile guards on the identity of a class
def _subclass(base: Any) -> Any:
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    return type(base)(base.__name__, (Synchronised, base), names)


def _normalised(norm: Any, x: Tensor) -> Tensor:
    """Normalise a rank's values (B, C, ...) by the mean and the variance over all ranks, in float32."""
    norm._check_input_dim(x)
    values = x.float()
    dims = [0, *range(2, x.dim())]
    shape = [1, -1] + [1] * (x.dim() - 2)
    own = torch.cat([values.sum(dims), values.new_tensor([x.numel() / x.shape[1]])])
    total = all_reduce(own)
    count = total[-1].detach()
    mean = total[:-1] / count
    centred = values - mean.reshape(shape)
    variance = all_reduce(centred.square().sum(dims)) / count
    _track(norm, mean.detach(), variance.detach(), count)
    normalised: Tensor = centred * (variance + norm.eps).rsqrt().reshape(shape)
    if norm.affine:
        normalised = normalised * norm.weight.reshape(shape) + norm.bias.reshape(shape)
    return normalised.to(x.dtype)


@torch.no_grad()
def _track(norm: Any, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    """Update the running statistics as torch does, with the unbiased variance."""
    if not norm.track_running_stats or norm.num_batches_tracked is None:  # None in a pass that recomputes
        return
    norm.num_batches_tracked.add_(1)
    share = 1 / norm.num_batches_tracked if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance * count / (count - 1), share)
