"""Initial weights that depend on (seed, qualified name) alone.

A backbone's own initialisation is kept: each of its random draws is seeded by the name of the
parameter that it fills. So two models that share a parameter's name and shape start it bit-equal,
whatever else they contain (DESIGN: paired by construction), and no distribution is written twice.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.utils._python_dispatch import TorchDispatchMode

from ema_lab.errors import SpecError
from ema_lab.randomness import hash_counters


def refuse_lazy(module: object) -> None:
    """Refuse layers that have no weights before their first input: no seed could decide them.

    Raises:
        SpecError: With the first of them.
    """
    if not isinstance(module, nn.Module):
        return
    for name, part in module.named_modules():
        if isinstance(part, LazyModuleMixin) and part.has_uninitialized_params():  # type: ignore[misc]
            kind = type(part).__name__
            rule = f"give its input size, as {kind.removeprefix('Lazy')} takes it"
            raise SpecError(
                f"{name or 'it'} is a {kind}, which has no weights before its first input: {rule}"
            )


def build_named(build: Callable[[], nn.Module], seed: int, prefix: str = "") -> nn.Module:
    """Build a module twice: first to learn which draw fills which parameter, then with those seeds.

    A draw that fills no parameter or buffer directly is seeded by `prefix` and its number.
    """
    recorder = _Draws(seed, prefix, {})
    with torch.random.fork_rng(devices=[]), recorder:
        first = build()
    owners = _owners(first, recorder.filled)
    with torch.random.fork_rng(devices=[]), _Draws(seed, prefix, owners):
        return build()


def _owners(module: nn.Module, filled: list[Tensor]) -> dict[int, str]:
    """Return the qualified name of the parameter that each numbered draw ended up in."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    names = {tensor.untyped_storage().data_ptr(): name for name, tensor in tensors.items()}
    places = ((i, names.get(tensor.untyped_storage().data_ptr())) for i, tensor in enumerate(filled))
    return {number: name for number, name in places if name is not None}


class _Draws(TorchDispatchMode):
    """Seeds each random operation by the name it is for, and remembers the tensors they fill."""

    def __init__(self, seed: int, prefix: str, owners: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.filled: list[Tensor] = []  # kept alive, so that no storage is used again
        self._key = (seed, "initial weights")
        self._prefix = prefix
        self._owners = owners
        self._times: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        owner = self._owners.get(len(self.filled), "")
        name = f"{self._prefix}.{owner}" if self._prefix else owner
        self._times[name] = self._times.get(name, 0) + 1
        torch.default_generator.manual_seed(hash_counters(*self._key, name, self._times[name]))
        result = func(*args, **(kwargs or {}))
        self.filled.append(result)
        return result
