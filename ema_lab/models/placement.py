"""Where attention goes: patterns over submodule names, resolved against a backbone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ema_lab.errors import SpecError
from ema_lab.models.backbone import Backbone
from ema_lab.specs.run import PlacementSpec

SHOWN_NAMES = 12


@dataclass(frozen=True)
class Site:
    """A submodule after which attention is inserted, and the shape of what it sees (no batch)."""

    name: str
    channels: int
    height: int
    width: int


@dataclass
class _Output:
    calls: int = 0
    shape: torch.Size | None = None


def find_sites(backbone: Backbone, placement: PlacementSpec, image_shape: Sequence[int]) -> list[Site]:
    """Return the sites of a placement, in the order in which the backbone runs them.

    Args:
        backbone: On the meta device, so that finding shapes costs nothing.
        image_shape: Channels, height and width of an input image.

    Raises:
        SpecError: If a pattern matches nothing, or a match cannot carry attention.
    """
    names = _matched_names(backbone, placement)
    outputs = _trace(backbone.module, names, image_shape)
    sites = [_site(name, output) for name, output in outputs.items()]
    kept = [site for site in sites if _wide_enough(site, placement)]
    if not kept:
        widths = sorted({site.channels for site in sites})
        limits = f"min_channels={placement.min_channels}, max_channels={placement.max_channels}"
        raise SpecError(f"placement: no match has a width within {limits}; widths there: {widths}")
    return kept


def _matched_names(backbone: Backbone, placement: PlacementSpec) -> list[str]:
    names = [name for name, _ in backbone.module.named_modules() if name]
    chosen: dict[str, None] = {}
    for pattern in _patterns(backbone, placement):
        found = [name for name in names if glob_matches(pattern, name)]
        if not found:
            raise SpecError(f"placement: {pattern!r} matches no submodule; {_what_exists(backbone, names)}")
        chosen |= dict.fromkeys(found)
    if placement.stages is None:
        return list(chosen)
    inside = [name for name in chosen if backbone.stage_of(name) in placement.stages]
    there = sorted({stage for name in chosen if (stage := backbone.stage_of(name)) is not None})
    if absent := set(placement.stages) - set(there):
        raise SpecError(f"placement: no match in stage {sorted(absent)}; stages there: {there}")
    return inside


def _patterns(backbone: Backbone, placement: PlacementSpec) -> list[str]:
    given = [placement.after] if isinstance(placement.after, str) else placement.after
    return [pattern for item in given for pattern in backbone.shortcuts.get(item, (item,))]


def glob_matches(pattern: str, name: str) -> bool:
    """Whether a dotted name matches: `*` and `?` stay inside one part, `**` spans parts."""
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    wild = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    return re.fullmatch("".join(wild.get(part, re.escape(part)) for part in parts), name) is not None


def _what_exists(backbone: Backbone, names: Sequence[str]) -> str:
    shapes = dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names)
    shown = list(shapes)[:SHOWN_NAMES]
    more = f" and {len(shapes) - SHOWN_NAMES} more" if len(shapes) > SHOWN_NAMES else ""
    return f"shortcuts: {', '.join(backbone.shortcuts)}; submodules: {', '.join(shown)}{more}"


def _trace(module: nn.Module, names: Sequence[str], image_shape: Sequence[int]) -> dict[str, _Output]:
    """Run the backbone on the meta device; return what each named submodule puts out, in call order."""
    outputs: dict[str, _Output] = {}

    def watch(name: str) -> None:
        def record(_module: nn.Module, _inputs: object, output: object) -> None:
            seen = outputs.setdefault(name, _Output())
            seen.calls += 1
            seen.shape = output.shape if isinstance(output, Tensor) else None

        handles.append(module.get_submodule(name).register_forward_hook(record))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name in names:
        watch(name)
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.empty(2, *image_shape, device="meta"))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise SpecError(f"the backbone cannot take images of shape {tuple(image_shape)}: {reason}") from None
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    if unused := [name for name in names if name not in outputs]:
        raise SpecError(f"placement: {unused[0]!r} is never called in a forward pass")
    return outputs


def _site(name: str, output: _Output) -> Site:
    if output.calls > 1:
        raise SpecError(f"placement: {name!r} is called {output.calls} times in a forward pass, not once")
    if output.shape is None or len(output.shape) != 4:
        shape = None if output.shape is None else tuple(output.shape)
        raise SpecError(f"placement: the output of {name!r} is not (B, C, H, W), got {shape}")
    return Site(name, *output.shape[1:])


def _wide_enough(site: Site, placement: PlacementSpec) -> bool:
    low, high = placement.min_channels, placement.max_channels
    return (low is None or site.channels >= low) and (high is None or site.channels <= high)
