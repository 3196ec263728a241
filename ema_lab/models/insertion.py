"""Attention inside an unmodified backbone: a child module and a hook at each site.

The child is registered below the submodule whose output it changes, so the backbone's own keys stay
as they are, and copies, pickles and `torch.compile` see ordinary modules.
"""

import re
from typing import Any

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
    target.add_module(child, attention)
    if apply_inserted not in target._forward_hooks.values():
        target.register_forward_hook(apply_inserted)
    return f"{site}.{child}"


def clear(module: nn.Module, site: str) -> None:
    """Put an empty place where a submodule of the backbone is; a place that is empty stays."""
    if not isinstance(module.get_submodule(site), _Cleared):
        replace_submodule(module, site, _Cleared())


def replace_submodule(module: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` where the submodule `name` is."""
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, new)


class _Cleared(nn.Identity):
    """Where a submodule of the backbone was taken out."""


CHILD = re.compile(r"attention(_\d+)?")


def next_child_name(target: nn.Module) -> str:
    """Return `attention`, or `attention_2`, ... where a submodule carries several."""
    number = sum(CHILD.fullmatch(name) is not None for name, _ in target.named_children())
    if number and apply_inserted not in target._forward_hooks.values():
        raise SpecError(f"a {type(target).__name__} has a child named 'attention' of its own")
    name = "attention" if number == 0 else f"attention_{number + 1}"
    if hasattr(target, name):
        raise SpecError(f"a {type(target).__name__} has something named {name!r} already")
    return name


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is a sequence that passes its output through its last children by itself."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def apply_inserted(module: nn.Module, _inputs: Any, output: Any) -> Any:
    """Forward hook: pass the output through every inserted child, in the order of insertion."""
    if _is_plain(module):
        return output
    for name, child in module.named_children():
        if CHILD.fullmatch(name):
            output = child(output)
    return output
