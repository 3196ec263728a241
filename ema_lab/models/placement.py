"""Placement of attention: named places and name patterns, resolved to sites of a backbone."""

import difflib
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ema_lab.errors import SpecError, error_summary, user_location
from ema_lab.models.backbone import Backbone, Block
from ema_lab.models.block_kinds import REVISION
from ema_lab.models.shapes import ShapesOnly
from ema_lab.models.trial_pass import layer_of
from ema_lab.specs.run import PlacementSpec

MAX_NAMES = 12  # submodule names in an error message
SQUEEZE_EXCITATIONS = {"SqueezeExcitation", "SqueezeExcite", "SEModule"}  # torchvision's, and two of timm


@dataclass(frozen=True)
class Site:
    """Submodule after which attention is inserted, and the shape (C, H, W) of the submodule's output.

    If `replaces` is True, the attention replaces the submodule.
    """

    name: str
    channels: int
    height: int
    width: int
    replaces: bool = False


@dataclass
class _Output:
    calls: int = 0
    shape: torch.Size | None = None


def find_sites(backbone: Backbone, placement: PlacementSpec, image_shape: Sequence[int]) -> list[Site]:
    """Return the sites of a placement, in the order in which the backbone runs them.

    Args:
        backbone: The backbone. On the meta device a trial pass computes shapes only.
        placement: The placement.
        image_shape: Channels, height and width of an input image.

    Raises:
        SpecError: If a pattern matches nothing, or a match cannot carry attention.
    """
    _refuse_old_counts(backbone, placement)
    names = _squeeze_excitations(backbone) if placement.replace else _matched_names(backbone, placement)
    names = _in_blocks(backbone, _in_stages(backbone, names, placement), placement)
    if not names:
        raise SpecError(
            f"placement: no match in blocks {placement.blocks} of stages {placement.stages or 'all'}"
        )
    outputs = _trace(backbone.module, names, image_shape)
    _refuse_channels_last(backbone.module, outputs, image_shape)
    sites = [_site(name, output, replaces=bool(placement.replace)) for name, output in outputs.items()]
    chosen = [site for site in sites if _is_within_widths(site, placement)]
    if not chosen:
        widths = sorted({site.channels for site in sites})
        limits = f"min_channels={placement.min_channels}, max_channels={placement.max_channels}"
        raise SpecError(f"placement: no match has a width within {limits}; widths there: {widths}")
    return chosen


def _refuse_old_counts(backbone: Backbone, placement: PlacementSpec) -> None:
    """Refuse to choose by old stage and block numbers, which an earlier release counted differently."""
    after = [placement.after] if isinstance(placement.after, str) else placement.after
    chooses = placement.stages is not None or placement.blocks != "all"
    if backbone.revised and chooses and not all(place.endswith(REVISION) for place in after):
        raise SpecError(
            f"placement: `stages` and `blocks` need a place of the revised names: {backbone.note}"
        )


def _squeeze_excitations(backbone: Backbone) -> list[str]:
    modules = backbone.module.named_modules()
    names = [name for name, part in modules if type(part).__name__ in SQUEEZE_EXCITATIONS]
    if not names:
        raise SpecError("placement: replace: se finds no squeeze-and-excitation in this backbone")
    return names


def _matched_names(backbone: Backbone, placement: PlacementSpec) -> list[str]:
    names = [name for name, _ in backbone.module.named_modules() if name]
    chosen: dict[str, None] = {}
    for item in [placement.after] if isinstance(placement.after, str) else placement.after:
        if item in backbone.places:
            matches = backbone.where(item)
            if absent := [name for name in matches if name not in names]:
                raise SpecError(f"placement: the place {item!r} names {absent[0]!r}, which is no submodule")
        else:
            matches = [name for name in names if glob_matches(item, name)]
        if not matches:
            known = _known_names(backbone, names)
            close = difflib.get_close_matches(item, list(backbone.places), n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise SpecError(f"placement: {item!r} matches no submodule; {hint}{known}")
        chosen |= dict.fromkeys(matches)
    return list(chosen)


def _in_stages(backbone: Backbone, names: Sequence[str], placement: PlacementSpec) -> list[str]:
    if placement.stages is None:
        return list(names)
    stages = {name: backbone.stage_of(name) for name in names}
    present = sorted({stage for stage in stages.values() if stage is not None})
    if absent := set(placement.stages) - set(present):
        note = f" ({backbone.note})" if backbone.note else ""
        raise SpecError(f"placement: no match in stage {sorted(absent)}; stages there: {present}{note}")
    return [name for name in names if stages[name] in placement.stages]


def _in_blocks(backbone: Backbone, names: Sequence[str], placement: PlacementSpec) -> list[str]:
    if placement.blocks == "all":
        return list(names)
    blocks = {name: block for name in names if (block := backbone.block_of(name))}
    if not blocks:
        note = f" ({backbone.note})" if backbone.note else ""
        raise SpecError(f"placement: blocks is set, but {names[0]!r} is in no known block{note}")
    numbers = sorted({block.number for block in blocks.values()})
    if not isinstance(placement.blocks, str) and (absent := set(placement.blocks) - set(numbers)):
        raise SpecError(f"placement: no match in block {sorted(absent)} of a stage; blocks there: {numbers}")
    last = _last_numbers(backbone.blocks)
    return [name for name, block in blocks.items() if _chosen(block, placement, last[block.stage])]


def _last_numbers(blocks: Iterable[Block]) -> dict[int, int]:
    return {block.stage: block.number for block in blocks}


def _chosen(block: Block, placement: PlacementSpec, last: int) -> bool:
    match placement.blocks:
        case "first":
            return block.number == 1
        case "last":
            return block.number == last
        case "even":
            return block.number % 2 == 0
        case numbers:
            return block.number in numbers


def glob_matches(pattern: str, name: str) -> bool:
    """Return whether a dotted name matches: `*` and `?` stay inside one part, `**` spans parts."""
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    wild = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    return re.fullmatch("".join(wild.get(part, re.escape(part)) for part in parts), name) is not None


def _known_names(backbone: Backbone, names: Sequence[str]) -> str:
    """List a backbone's places and, shortest first, its submodules, with `*` in place of numbers."""
    patterns = dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names)
    listed = sorted(patterns, key=lambda name: name.count("."))[:MAX_NAMES]
    more = f" and {len(patterns) - MAX_NAMES} more" if len(patterns) > MAX_NAMES else ""
    note = f" ({backbone.note})" if backbone.note else ""
    return f"places: {', '.join(backbone.places) or 'none'}{note}; submodules: {', '.join(listed)}{more}"


def _trace(module: nn.Module, names: Sequence[str], image_shape: Sequence[int]) -> dict[str, _Output]:
    """Run the backbone on the meta device and return the output of each named submodule, in call order."""
    try:
        outputs = _outputs(module, names, image_shape)
    except Exception as error:  # a user's own code may raise anything
        reason = (
            error_summary(error)
            if user_location(error)
            else (str(error).splitlines() or [type(error).__name__])[0]
        )
        layer = layer_of(error, module)
        where = f" (at {layer!r})" if layer else ""
        problem = f"the backbone cannot take images of shape {tuple(image_shape)}{where}"
        raise SpecError(f"{problem}: {reason}") from None
    if unused := [name for name in names if name not in outputs]:
        raise SpecError(f"placement: {unused[0]!r} is never called in a forward pass")
    return outputs


def _outputs(module: nn.Module, names: Sequence[str], image_shape: Sequence[int]) -> dict[str, _Output]:
    outputs: dict[str, _Output] = {}

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def record(_module: nn.Module, _inputs: object, output: object) -> None:
            recorded = outputs.setdefault(name, _Output())
            recorded.calls += 1
            recorded.shape = output.shape if isinstance(output, Tensor) else None

        return module.get_submodule(name).register_forward_hook(record)

    handles = [watch(name) for name in names]
    training = {part: part.training for part in module.modules()}
    try:
        with torch.no_grad(), ShapesOnly():
            module.eval()(_images(module, image_shape))
    finally:
        for part, mode in training.items():
            part.training = mode
        for handle in handles:
            handle.remove()
    return outputs


def _images(module: nn.Module, image_shape: Sequence[int]) -> Tensor:
    """Return two images on the device and in the precision of a module's first parameter or buffer."""
    first = next(itertools.chain(module.parameters(), module.buffers()), None)
    if first is None or first.is_meta:
        return torch.empty(2, *image_shape, device="meta")
    dtype = first.dtype if first.is_floating_point() else None
    return torch.zeros(2, *image_shape, device=first.device, dtype=dtype)


def _refuse_channels_last(module: nn.Module, outputs: dict[str, _Output], image_shape: Sequence[int]) -> None:
    """Refuse outputs (B, H, W, C), which one pass cannot tell from (B, C, H, W).

    In a second pass with images of twice the width, only a last dimension W may change. If the backbone
    takes a single size of square images, the last two dimensions must be equal instead.
    """
    channels, height, width = image_shape
    try:
        wider = _outputs(module, list(outputs), (channels, height, 2 * width))
    except Exception:  # the backbone takes one size of images only
        odd = {name: out.shape for name, out in outputs.items() if out.shape is not None and height == width}
        for name, shape in odd.items():
            if len(shape) == 4 and shape[2] != shape[3]:
                rule = "its last two dimensions differ, for a square image"
                raise SpecError(
                    f"placement: the output {tuple(shape)} of {name!r} is not (B, C, H, W): {rule}"
                ) from None
        return
    for name, output in outputs.items():
        first, second = output.shape, wider[name].shape
        if first is not None and second is not None and first[:3] != second[:3]:
            raise SpecError(
                f"placement: the output of {name!r} is not (B, C, H, W): for an image of twice the width "
                f"{tuple(first)} becomes {tuple(second)}"
            )


def _site(name: str, output: _Output, *, replaces: bool) -> Site:
    if output.calls > 1:
        raise SpecError(f"placement: {name!r} is called {output.calls} times in a forward pass, not once")
    if output.shape is None or len(output.shape) != 4:
        shape = None if output.shape is None else tuple(output.shape)
        raise SpecError(f"placement: the output of {name!r} is not (B, C, H, W), got {shape}")
    return Site(name, *output.shape[1:], replaces=replaces)


def _is_within_widths(site: Site, placement: PlacementSpec) -> bool:
    low, high = placement.min_channels, placement.max_channels
    return (low is None or site.channels >= low) and (high is None or site.channels <= high)
