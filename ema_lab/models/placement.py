"""Where attention goes: named places and patterns over submodule names, resolved against a backbone."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ema_lab.errors import SpecError, error_summary, user_location
from ema_lab.models.backbone import Backbone, Block
from ema_lab.models.block_kinds import REVISION
from ema_lab.models.trial import layer_of
from ema_lab.specs.run import PlacementSpec

MAX_LISTED_NAMES = 12
SQUEEZE_EXCITATIONS = {"SqueezeExcitation", "SqueezeExcite", "SEModule"}  # torchvision's, timm's two


@dataclass(frozen=True)
class Site:
    """A submodule after which attention is inserted, and the shape of what it sees (no batch).

    With `replaces`, the submodule itself gives way to the attention.
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
        backbone: On the meta device, so that finding shapes costs nothing.
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
    kept = [site for site in sites if _wide_enough(site, placement)]
    if not kept:
        widths = sorted({site.channels for site in sites})
        limits = f"min_channels={placement.min_channels}, max_channels={placement.max_channels}"
        raise SpecError(f"placement: no match has a width within {limits}; widths there: {widths}")
    return kept


def _refuse_old_counts(backbone: Backbone, placement: PlacementSpec) -> None:
    """Refuse to choose by stages or blocks that were once counted otherwise under the same run id."""
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
            found = backbone.where(item)
            if absent := [name for name in found if name not in names]:
                raise SpecError(f"placement: the place {item!r} names {absent[0]!r}, which is no submodule")
        else:
            found = [name for name in names if glob_matches(item, name)]
        if not found:
            raise SpecError(f"placement: {item!r} matches no submodule; {_what_exists(backbone, names)}")
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _in_stages(backbone: Backbone, names: Sequence[str], placement: PlacementSpec) -> list[str]:
    if placement.stages is None:
        return list(names)
    stages = {name: backbone.stage_of(name) for name in names}
    there = sorted({stage for stage in stages.values() if stage is not None})
    if absent := set(placement.stages) - set(there):
        note = f" ({backbone.note})" if backbone.note else ""
        raise SpecError(f"placement: no match in stage {sorted(absent)}; stages there: {there}{note}")
    return [name for name in names if stages[name] in placement.stages]


def _in_blocks(backbone: Backbone, names: Sequence[str], placement: PlacementSpec) -> list[str]:
    if placement.blocks == "all":
        return list(names)
    blocks = {name: block for name in names if (block := backbone.block_of(name))}
    if not blocks:
        note = f" ({backbone.note})" if backbone.note else ""
        raise SpecError(f"placement: blocks is set, but {names[0]!r} is in no block that is known of{note}")
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
    """Whether a dotted name matches: `*` and `?` stay inside one part, `**` spans parts."""
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    wild = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    return re.fullmatch("".join(wild.get(part, re.escape(part)) for part in parts), name) is not None


def _what_exists(backbone: Backbone, names: Sequence[str]) -> str:
    shapes = dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names)
    shown = sorted(shapes, key=lambda name: name.count("."))[:MAX_LISTED_NAMES]
    more = f" and {len(shapes) - MAX_LISTED_NAMES} more" if len(shapes) > MAX_LISTED_NAMES else ""
    note = f" ({backbone.note})" if backbone.note else ""
    return f"places: {', '.join(backbone.places) or 'none'}{note}; submodules: {', '.join(shown)}{more}"


def _trace(module: nn.Module, names: Sequence[str], image_shape: Sequence[int]) -> dict[str, _Output]:
    """Run the backbone on the meta device; return what each named submodule puts out, in call order."""
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
        what = f"the backbone cannot take images of shape {tuple(image_shape)}{where}"
        raise SpecError(f"{what}: {reason}") from None
    if unused := [name for name in names if name not in outputs]:
        raise SpecError(f"placement: {unused[0]!r} is never called in a forward pass")
    return outputs


def _outputs(module: nn.Module, names: Sequence[str], image_shape: Sequence[int]) -> dict[str, _Output]:
    outputs: dict[str, _Output] = {}

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def record(_module: nn.Module, _inputs: object, output: object) -> None:
            seen = outputs.setdefault(name, _Output())
            seen.calls += 1
            seen.shape = output.shape if isinstance(output, Tensor) else None

        return module.get_submodule(name).register_forward_hook(record)

    handles = [watch(name) for name in names]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(torch.empty(2, *image_shape, device="meta"))
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return outputs


def _refuse_channels_last(module: nn.Module, outputs: dict[str, _Output], image_shape: Sequence[int]) -> None:
    """Refuse (B, H, W, C): its shape alone looks like (B, C, H, W), but it changes with the image.

    A second pass with an image of twice the width tells the two apart. Of a backbone that takes one size
    of square images only, an output is refused whose last two dimensions differ.
    """
    channels, height, width = image_shape
    try:
        wider = _outputs(module, list(outputs), (channels, height, 2 * width))
    except Exception:  # it takes one size of images only
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


def _wide_enough(site: Site, placement: PlacementSpec) -> bool:
    low, high = placement.min_channels, placement.max_channels
    return (low is None or site.channels >= low) and (high is None or site.channels <= high)
