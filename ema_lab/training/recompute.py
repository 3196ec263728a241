"""Activation checkpointing (arXiv:1604.06174): blocks keep their input, and are computed again for gradients.

The second pass computes the same bits: dropout masks depend on the step alone, torch's generators are
restored by `torch.utils.checkpoint`, and running statistics of batch norms move in the first pass only.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ema_lab.errors import SpecError


def recompute_blocks(model: nn.Module) -> None:
    """Let each block of a model compute its activations again in the backward pass, in place.

    Blocks are the outermost modules with parts of their own in an `nn.Sequential`, with the attention after
    them. Names, values and state dicts stay as they are.

    Raises:
        SpecError: If the model has no such block.
    """
    outer = list(_outermost(model))
    if not outer:
        rule = "it has no nn.Sequential of blocks, whose activations could be computed again"
        raise SpecError(f"recipe.recompute does not fit {type(model).__name__}: {rule}; leave it out")
    for sequence in outer:
        sequence.forward = partial(_recomputed, sequence)  # type: ignore[method-assign]


def _outermost(module: nn.Module) -> Iterator[nn.Sequential]:
    if type(module) is nn.Sequential and any(_is_block(part) for part in module):
        yield module
        return
    for child in module.children():
        yield from _outermost(child)


def _is_block(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


def _recomputed(sequence: nn.Sequential, x: Any) -> Any:
    for part in sequence:
        if sequence.training and isinstance(x, Tensor) and _is_block(part):
            x = checkpoint(part, x, use_reentrant=False, context_fn=partial(_contexts, part))
        else:
            x = part(x)
    return x


def _contexts(part: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _fixed_statistics(part)


@contextmanager
def _fixed_statistics(part: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norms, which moved in the first pass, where they are."""
    norms = [norm for norm in part.modules() if isinstance(norm, _BatchNorm) and norm.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked = count
