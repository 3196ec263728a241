"""Insertion of attention into an unmodified backbone, as a child module of each site.

The attention becomes a child of the submodule whose output it changes, so the backbone's own state dict keys
stay. The site's class becomes a subclass of itself, whose call passes the output through the inserted
children. A forward hook would do the same in eager mode, but `torch.compile` does not guard on hooks
(`torch._dynamo.config.skip_nnmodule_hook_guards`): it would reuse code that was compiled for a model without
attention. It does guard on a module's class.
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
        SpecError: If the submodule cannot carry the child, or would call the child by itself.
    """
    target = module.get_submodule(site)
    child = next_child_name(target)
    refuse_site(target, site)
    if not _is_plain(target) and not isinstance(target, Carrier):
        _make_carrier(target)
    target.add_module(child, attention)
    return f"{site}.{child}"


def refuse_site(target: nn.Module, site: str) -> None:
    """Refuse a submodule that cannot carry inserted children.

    Raises:
        SpecError: If the submodule would call the children by itself, or is compiled.
    """
    if isinstance(target, nn.Sequential | nn.ModuleDict | nn.ModuleList) and not _is_plain(target):
        rule = f"a {type(target).__name__} runs whatever children it has: nothing can be placed after it"
        raise SpecError(f"placement: {site!r}: {rule}")
    if isinstance(target, torch.jit.ScriptModule):
        raise SpecError(f"placement: {site!r} is compiled by torch.jit: nothing can be inserted there")


def clear(module: nn.Module, site: str) -> None:
    """Replace a submodule of the backbone by an identity, unless that has been done."""
    if not isinstance(module.get_submodule(site), _Cleared):
        replace_submodule(module, site, _Cleared())


def replace_submodule(module: nn.Module, name: str, new: nn.Module) -> None:
    """Replace the submodule `name` by `new`, and insert the old one's attention into the new one."""
    parent, _, child = name.rpartition(".")
    old = module.get_submodule(name)
    setattr(module.get_submodule(parent), child, new)
    if isinstance(old, Carrier):
        for inserted in (part for key, part in old.named_children() if CHILD.fullmatch(key)):
            insert(module, name, inserted)


class _Cleared(nn.Identity):
    """Identity in place of a submodule that `replace` has removed."""


CHILD = re.compile(r"attention(_\d+)?")
RESIDUAL_DROP = "residual_drop"  # the child that drops a residual branch, after all attention
_APPLIED = re.compile(rf"{CHILD.pattern}|{RESIDUAL_DROP}")


def drop_after(module: nn.Module, site: str, drop: nn.Module) -> None:
    """Apply `drop` to the output of the submodule named `site`, after the attention there.

    Raises:
        SpecError: If the submodule cannot carry the child, or would call the child by itself.
    """
    target = module.get_submodule(site)
    refuse_site(target, site)
    if not _is_plain(target) and not isinstance(target, Carrier):
        _make_carrier(target)
    target.add_module(RESIDUAL_DROP, drop)


def next_child_name(target: nn.Module) -> str:
    """Return the name of a submodule's next inserted child: `attention`, then `attention_2`, ...

    Raises:
        SpecError: If the submodule already uses the name for something else.
    """
    number = sum(CHILD.fullmatch(name) is not None for name, _ in target.named_children())
    if number and not _is_plain(target) and not isinstance(target, Carrier):
        raise SpecError(f"a {type(target).__name__} has a child named 'attention' of its own")
    name = "attention" if number == 0 else f"attention_{number + 1}"
    if hasattr(target, name):
        raise SpecError(f"a {type(target).__name__} has something named {name!r} already")
    return name


def _is_plain(module: nn.Module) -> bool:
    """Return whether a module is a plain sequence, which runs an appended child by itself."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


class Carrier(nn.Module):
    """Mixin of a site's class that passes the output through every inserted child.

    `Carrier` comes first among the bases, so that its call wraps the call of the site's own class.
    """

    # Not `forward`: some published layers replace their own `forward` attribute and would bypass it.
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = super().__call__(*args, **kwargs)
        for name, child in self.named_children():
            if _APPLIED.fullmatch(name):
                output = child(output)
        return output

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle as the site's own class, then make it a carrier again.

        The subclass is made at run time, so that pickle could not import it by name.
        """
        reduced: Any = super().__reduce_ex__(protocol)
        function, arguments, *rest = reduced
        own = type(self)
        importable = tuple(own.__bases__[1] if argument is own else argument for argument in arguments)
        return (_rebuild_carrier, (function, importable), *rest)


@cache  # one subclass per class, because torch.compile guards on the identity of a class
def _carrier_of(base: Any) -> Any:
    """Return the subclass of a site's class that applies inserted children, with the class's own name."""
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    return type(base)(base.__name__, (Carrier, base), names)


def _make_carrier(module: nn.Module) -> None:
    base: Any = type(module)
    module.__class__ = _carrier_of(base)


def change_class(module: nn.Module, changed: Callable[[Any], Any]) -> None:
    """Replace a module's class by the one that `changed` makes of it, below the attention it may carry."""
    if isinstance(module, Carrier):
        module.__class__ = _carrier_of(changed(type(module).__bases__[1]))
    else:
        module.__class__ = changed(type(module))


def _rebuild_carrier(function: Callable[..., nn.Module], arguments: tuple[Any, ...]) -> nn.Module:
    """Rebuild a copied or unpickled site."""
    module = function(*arguments)
    _make_carrier(module)
    return module
