"""Initial weights that depend on (seed, qualified name) alone.

The backbone's own initialisation code runs unchanged, but each random draw is seeded by the name of the
parameter that it fills. Two models that share a parameter's name and shape therefore start with bit-equal
values, whatever else they contain. No distribution has to be written a second time.
"""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from ema_lab.errors import SpecError
from ema_lab.randomness import hash_counters


def refuse_lazy(module: object) -> None:
    """Refuse parameters and buffers that get their shape at the first input, outside of seeding.

    Raises:
        SpecError: If there is such a tensor; the message names the first, or its lazy layer.
    """
    if not isinstance(module, nn.Module):
        return
    for name, part in module.named_modules():
        own = chain(part.named_parameters(recurse=False), part.named_buffers(recurse=False))
        for tensor_name, tensor in own:
            if not is_lazy(tensor):
                continue
            if isinstance(part, LazyModuleMixin):
                kind = type(part).__name__
                subject, rule = name or "it", f"use {kind.removeprefix('Lazy')} with its input size"
            else:
                kind = type(tensor).__name__
                subject, rule = ".".join(filter(None, (name, tensor_name))), "give it a shape in __init__"
            raise SpecError(f"{subject}: {kind} has no values before its first input; {rule}")


def build_seeded(build: Callable[[], nn.Module], seed: int, prefix: str = "") -> nn.Module:
    """Build a module twice: first to learn which draw fills which parameter, then with seeds by name.

    Draws that fill no parameter or buffer directly share the name `prefix` and are numbered in order.

    Args:
        build: Builds the module; must make the same draws at each call.
        seed: The run's seed.
        prefix: Qualified name of the module in the model.
    """
    recorder = _Draws(seed, prefix, {})
    # A draw fills a tensor before the module has a name for it, as in `nn.Parameter(torch.randn(3))`. The
    # names exist only after the first build; the second build makes the same draws in the same order.
    with torch.random.fork_rng(devices=[]), recorder:
        first = build()
    owners = _owners(first, recorder.filled)
    with torch.random.fork_rng(devices=[]), _Draws(seed, prefix, owners):
        return build()


def _owners(module: nn.Module, filled: list[Tensor]) -> dict[int, str]:
    """Return the qualified name of the parameter that each numbered draw ended up in."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    # By storage, not by tensor: a parameter wraps or views the tensor that the draw has filled.
    names = {tensor.untyped_storage().data_ptr(): name for name, tensor in tensors.items()}
    numbered = ((i, names.get(tensor.untyped_storage().data_ptr())) for i, tensor in enumerate(filled))
    return {number: name for number, name in numbered if name is not None}


class _Draws(TorchDispatchMode):
    """Dispatch mode that seeds each random operation by the name of its tensor, and records the tensor.

    Below the dispatcher every draw passes here: `nn.init`, in-place methods and factory functions alike.
    Patching `nn.init` would miss modules that call `normal_` or `torch.randn` themselves.
    """

    def __init__(self, seed: int, prefix: str, owners: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.filled: list[Tensor] = []  # kept alive: a freed storage's address could be reused
        self._key = (seed, "initial weights")
        self._prefix = prefix
        self._owners = owners
        self._num_draws: dict[str, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: torch would import its compiler, for seconds, to keep it out of a mode's code."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        owner = self._owners.get(len(self.filled), "")
        name = f"{self._prefix}.{owner}" if self._prefix else owner
        # A parameter may be drawn twice (the layer's default, then the network's own): number the draws.
        self._num_draws[name] = self._num_draws.get(name, 0) + 1
        torch.default_generator.manual_seed(hash_counters(*self._key, name, self._num_draws[name]))
        result = func(*args, **(kwargs or {}))
        self.filled.append(result)
        return result
