"""Feature maps of a classifier's stages, which detectors read.

The classifier runs unchanged, and the outputs of its stages are collected. Layers after the last stage in use
are removed, so that they cost nothing. A map includes attention at its stage's end.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from ema_lab.errors import SpecError, error_summary
from ema_lab.models.backbone import Backbone
from ema_lab.models.block_kinds import REVISION
from ema_lab.models.insertion import CHILD, Carrier
from ema_lab.models.shapes import ShapesOnly

STAGE_END = "stage_end"


@dataclass(frozen=True)
class FeatureMap:
    """The output of one stage.

    Attributes:
        stage: Number of the stage, from 1.
        name: Qualified name, in the classifier, of the submodule that returns the map.
        channels: Number of channels of the map.
        stride: Pixels of the image for each row of the map, rounded.
        later: Qualified names of the submodules that run only after it.
    """

    stage: int
    name: str
    channels: int
    stride: int
    later: tuple[str, ...] = ()


class Features(nn.Module):
    """A classifier's stages: (B, C, H, W) -> one map (B, channels, H / stride, W / stride) for each stage.

    Attributes:
        body: The classifier without the layers after the last stage.
        maps: Description of each map, fine to coarse.

    Args:
        body: The classifier; layers after the last map are removed from it.
        maps: The maps to return.
    """

    def __init__(self, body: nn.Module, maps: Sequence[FeatureMap]) -> None:
        super().__init__()
        self.body = body
        self.maps = tuple(maps)
        for name in self.maps[-1].later:
            _take_out(body, name)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each map."""
        return tuple(one.channels for one in self.maps)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image for each row of each map."""
        return tuple(one.stride for one in self.maps)

    def maps_of(self, stages: Sequence[int]) -> tuple[FeatureMap, ...]:
        """Return the maps of some stages.

        Raises:
            ValueError: If a stage does not exist, or the stages do not ascend.
        """
        known = {one.stage: one for one in self.maps}
        if absent := [stage for stage in stages if stage not in known]:
            raise ValueError(f"the backbone has no stage {absent[0]}; stages there: {[*known]}")
        if list(stages) != sorted(set(stages)) or not stages:
            raise ValueError(f"stages must ascend, got {list(stages)}")
        return tuple(known[stage] for stage in stages)

    def read(self, x: Tensor) -> list[Tensor]:
        """Return the maps of images, fine to coarse."""
        outputs: dict[str, Tensor] = {}
        parts = {one.name: _last_part(self.body.get_submodule(one.name)) for one in self.maps}
        handles = [part.register_forward_hook(partial(_keep, outputs, name)) for name, part in parts.items()]
        try:
            self.body(x)
        finally:
            for handle in handles:
                handle.remove()
        return [outputs[one.name] for one in self.maps]

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.read(x)


def _keep(outputs: dict[str, Tensor], name: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
    outputs[name] = output


def _last_part(module: nn.Module) -> nn.Module:
    """Return the last attention module inserted at a submodule; without any, the submodule itself."""
    if not isinstance(module, Carrier):  # a plain sequence runs its attention by itself
        return module
    inserted = [child for name, child in module.named_children() if CHILD.fullmatch(name)]
    return inserted[-1]


def _take_out(body: nn.Module, name: str) -> None:
    """Replace a submodule by an identity, unless one around it has been replaced already."""
    parent, _, child = name.rpartition(".")
    try:
        container = body.get_submodule(parent)
    except AttributeError:
        return
    setattr(container, child, nn.Identity())


def features_of(backbone: Backbone, image_shape: Sequence[int]) -> Features:
    """Return the features of all of a classifier's stages.

    Args:
        backbone: The classifier, on any device; it is changed.
        image_shape: Channels, height and width of an image.

    Raises:
        SpecError: If the classifier's stages are unknown, or a stage does not end with a feature map.
    """
    ends = _stage_ends(backbone)
    body = copy.deepcopy(backbone.module).to("meta")
    calls = _calls(body, image_shape)
    maps = [_map(stage, name, calls, body, image_shape) for stage, name in ends.items()]
    features = Features(backbone.module, maps)
    shortened = Features(body, maps)
    try:
        with torch.no_grad(), ShapesOnly():
            shortened.eval()(torch.empty(2, *image_shape, device="meta"))
    except Exception as error:  # the network's own code may raise anything
        raise SpecError(f"cannot run without what follows its last stage: {error_summary(error)}") from None
    return features


def _stage_ends(backbone: Backbone) -> dict[int, str]:
    place = STAGE_END + (REVISION if STAGE_END + REVISION in backbone.places else "")
    ends = {block.stage: block.places[place] for block in backbone.blocks if place in block.places}
    if not ends:
        known = f"places there: {', '.join(backbone.places)}" if backbone.places else "none is known of"
        note = f" ({backbone.note})" if backbone.note else ""
        raise SpecError(f"a detector reads the ends of stages, the place {STAGE_END!r}: {known}{note}")
    return ends


@dataclass
class _Calls:
    """Calls of submodules in a forward pass.

    Attributes:
        began: Names in order of their calls.
        outputs: What each name returned, the last time.
        before: Number of calls that had begun when a name returned.
    """

    began: list[str] = field(default_factory=list)
    outputs: dict[str, object] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)


def _calls(body: nn.Module, image_shape: Sequence[int]) -> _Calls:
    """Run a network on the meta device and record the calls of its submodules.

    Raises:
        SpecError: If it cannot take the images.
    """
    calls, handles = _Calls(), []

    def watch(name: str, module: nn.Module) -> None:
        def begin(*_: object) -> None:
            calls.began.append(name)

        def end(_module: nn.Module, _inputs: object, output: object) -> None:
            calls.outputs[name] = output
            calls.before[name] = len(calls.began)

        handles.extend([module.register_forward_pre_hook(begin), module.register_forward_hook(end)])

    for name, module in body.named_modules():
        watch(name, module)
    try:
        with torch.no_grad(), ShapesOnly():
            body.eval()(torch.empty(2, *image_shape, device="meta"))
    except Exception as error:  # the network's own code may raise anything
        raise SpecError(f"cannot take images of shape {tuple(image_shape)}: {error_summary(error)}") from None
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _map(stage: int, end: str, calls: _Calls, body: nn.Module, image_shape: Sequence[int]) -> FeatureMap:
    output = calls.outputs.get(end)
    if calls.began.count(end) != 1 or not isinstance(output, Tensor) or output.ndim != 4:
        given = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        times = calls.began.count(end)
        rule = f"{end!r} is called {times} times and gives {given}"
        raise SpecError(f"stage {stage} must end with one map (B, C, H, W): {rule}")
    # What stands around the end of a stage and returns the same map may get attention of its own.
    name = end
    while (parent := name.rpartition(".")[0]) and calls.outputs.get(parent) is output:
        name = parent
    done = set(calls.began[: calls.before[name]])
    later = tuple(_outermost(body, done))
    return FeatureMap(stage, name, output.shape[1], round(image_shape[1] / output.shape[2]), later)


def _outermost(body: nn.Module, done: set[str]) -> Iterator[str]:
    """Yield the outermost submodules with weights of which no part is called in `done`."""
    outermost = ""
    for name, module in body.named_modules():
        if not name or (outermost and name.startswith(f"{outermost}.")):
            continue
        idle = not any(one == name or one.startswith(f"{name}.") for one in done)
        if idle and any(True for _ in module.parameters()):
            outermost = name
            yield name


def with_blocks_of(module: nn.Module, features: Features, backbone: Backbone) -> Backbone:
    """Return a detector as a backbone, with the remaining blocks of the classifier inside it.

    Raises:
        SpecError: If the detector does not hold the features' body.
    """
    prefix = next((name for name, part in module.named_modules() if part is features.body), None)
    if prefix is None:
        raise SpecError("must hold the `features` that it is given, or their `body`, as a submodule")
    start = f"{prefix}." if prefix else ""
    there = {name for name, part in module.named_modules() if not isinstance(part, nn.Identity)}
    blocks = [
        replace(
            block,
            name=start + block.name,
            places=_renamed(block.places, start),
            parts=tuple(start + part for part in block.parts),
        )
        for block in backbone.blocks
        if start + block.name in there
    ]
    return replace(backbone, module=module, blocks=tuple(blocks))


def _renamed(places: Mapping[str, str], start: str) -> dict[str, str]:
    return {place: start + name for place, name in places.items()}
