"""Attention inside an unmodified backbone: a child module of each site, applied to the site's output.

The child is registered below the submodule whose output it changes, so the backbone's own keys stay
as they are. The site's class becomes a subclass of itself whose call passes the output through the
inserted children. A forward hook would do the same in eager mode, but `torch.compile` does not guard on
hooks (`torch._dynamo.config.skip_nnmodule_hook_guards`): code compiled for a model without attention
would be used for one with it. A model's classes are guarded.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from ema_lab.errors import SpecError


def insert(module: nn.Module, site: str, attention: nn.Module) -> str:
    """Apply `attention` to the output of the submodule named `site`; return the child's name.

    Raises:
        SpecError: If the submodule cannot carry a child of that name, or would call it itself.
    """
    target = module.get_submodule(site)
    child = next_child_name(target)
    if isinstance(target, nn.Sequential | nn.ModuleDict | nn.ModuleList) and not _is_plain(target):
        rule = f"a {type(target).__name__} runs whatever children it has: nothing can be placed after it"
        raise SpecError(f"placement: {site!r}: {rule}")
    if isinstance(target, torch.jit.ScriptModule):
        raise SpecError(f"placement: {site!r} is compiled by torch.jit: nothing can be inserted there")
    if not _is_plain(target) and not isinstance(target, Carrier):
        _carry(target)
    target.add_module(child, attention)
    return f"{site}.{child}"


def clear(module: nn.Module, site: str) -> None:
    """Put an empty place where a submodule of the backbone is; a place that is empty stays."""
    if not isinstance(module.get_submodule(site), _Cleared):
        replace_submodule(module, site, _Cleared())


def replace_submodule(module: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` where the submodule `name` is; it takes over what is inserted there."""
    parent, _, child = name.rpartition(".")
    old = module.get_submodule(name)
    setattr(module.get_submodule(parent), child, new)
    if isinstance(old, Carrier):
        for inserted in (part for key, part in old.named_children() if CHILD.fullmatch(key)):
            insert(module, name, inserted)


class _Cleared(nn.Identity):
    """Where a submodule of the backbone was taken out."""


CHILD = re.compile(r"attention(_\d+)?")


def next_child_name(target: nn.Module) -> str:
    """Return `attention`, or `attention_2`, ... where a submodule carries several."""
    number = sum(CHILD.fullmatch(name) is not None for name, _ in target.named_children())
    if number and not _is_plain(target) and not isinstance(target, Carrier):
        raise SpecError(f"a {type(target).__name__} has a child named 'attention' of its own")
    name = "attention" if number == 0 else f"attention_{number + 1}"
    if hasattr(target, name):
        raise SpecError(f"a {type(target).__name__} has something named {name!r} already")
    return name


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is a sequence that passes its output through its last children by itself."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


class Carrier(nn.Module):
    """A submodule of a backbone that passes its output through every inserted child.

    It stands first among the bases of a site's class, so that the call of the class itself comes first.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = super().__call__(*args, **kwargs)
        for name, child in self.named_children():
            if CHILD.fullmatch(name):
                output = child(output)
        return output

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle as the class that the site had, which has a name, and then carry again."""
        reduced: Any = super().__reduce_ex__(protocol)
        function, arguments, *rest = reduced
        own = type(self)
        named = tuple(own.__bases__[1] if argument is own else argument for argument in arguments)
        return (_carried, (function, named), *rest)


@cache
def _carrier_of(base: Any) -> Any:
    """Return the subclass of a site's class that applies inserted children; it looks like the class."""
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    return type(base)(base.__name__, (Carrier, base), names)


def _carry(module: nn.Module) -> None:
    base: Any = type(module)
    module.__class__ = _carrier_of(base)


def _carried(function: Callable[..., nn.Module], arguments: tuple[Any, ...]) -> nn.Module:
    """Rebuild a copied or unpickled site."""
    module = function(*arguments)
    _carry(module)
    return module
