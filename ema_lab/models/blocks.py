"""The blocks of torchvision's and timm's convolutional networks, found by the class of a submodule."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import nn

from ema_lab.models.backbone import Backbone, Block

Places = Mapping[str, str]
ITSELF = ""


def describe(module: nn.Module) -> Backbone:
    """Return a network with the blocks and places that are known of it.

    A network without a known kind of block, or with parallel stages, has none: patterns over its
    submodules' names still work.
    """
    found = [] if _class_name(module) in PARALLEL else list(_blocks(module))
    starts = _stage_starts(module, found)
    blocks: list[Block] = []
    stage = number = 0
    for block in found:
        if block.name in starts or not blocks:
            stage, number = stage + 1, 0
        number += 1
        blocks.append(replace(block, stage=stage, number=number))
    ends = {block.stage: block for block in blocks}.values()
    return Backbone(module, tuple(_with_stage_end(module, b) if b in ends else b for b in blocks))


def _with_stage_end(module: nn.Module, block: Block) -> Block:
    """Return the last block of a stage with the place `stage_end`."""
    end = block.name
    if _class_name(module.get_submodule(block.name)) in CONCATENATED:
        modules = list(module.named_modules())
        last = max(number for number, (name, _) in enumerate(modules) if block.holds(name))
        end = next(
            name
            for name, part in modules[last:]
            if isinstance(part, nn.BatchNorm2d) and not block.holds(name)
        )
    return replace(block, places={**block.places, "stage_end": end})


def _blocks(module: nn.Module) -> Iterator[Block]:
    """Yield the blocks in order of registration, stages and numbers still to be set."""
    last = None
    for name, part in module.named_modules():
        if last is not None and name.startswith(last + "."):
            continue
        if find := KINDS.get(_class_name(part)):
            last = name
            places = {place: _joined(name, below) for place, below in find(part).items()}
            yield Block(name, 0, 0, places)
        elif _class_name(part) in PLAIN:
            yield from _plain_blocks(name, part)


def _plain_blocks(name: str, module: nn.Module) -> Iterator[Block]:
    """Yield one block per convolution of a network whose `features` are a plain sequence (VGG)."""
    parts: list[str] = []
    for child, layer in module.get_submodule("features").named_children():
        if isinstance(layer, nn.Conv2d):
            parts = []
        parts.append(_joined(_joined(name, "features"), child))
        if isinstance(layer, nn.ReLU):
            yield Block(parts[-1], 0, 0, {"block_end": parts[-1]}, parts=tuple(parts))


def _joined(name: str, below: str) -> str:
    return f"{name}.{below}".strip(".")


def _class_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _stage_starts(module: nn.Module, blocks: list[Block]) -> set[str]:
    """Return the blocks that halve the resolution, or before which something after the stem does."""
    starts: set[str] = set()
    waiting = list(blocks)
    halved = False
    inside: Block | None = None
    for name, part in module.named_modules():
        if waiting and waiting[0].holds(name):
            inside = waiting.pop(0)
            if halved:
                starts.add(inside.name)
                halved = False
        if _halves(part):
            if inside is not None and inside.holds(name):
                starts.add(inside.name)
            else:
                halved = True
    return starts


def _halves(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return False
    stride = layer.stride
    return max(stride) > 1 if isinstance(stride, tuple) else (stride or 1) > 1


@dataclass(frozen=True)
class _Fixed:
    """Places below a block by the names of its submodules; those that a block lacks are left out."""

    places: Places

    def __call__(self, block: nn.Module) -> dict[str, str]:
        return {place: below for place, below in self.places.items() if _exists(block, below)}


def _exists(block: nn.Module, below: str) -> bool:
    if below == ITSELF:
        return True
    try:
        part = block.get_submodule(below)
    except AttributeError:
        return False
    return not isinstance(part, nn.Identity) or below == "drop_path"


def _convolutions(count: int, end: str, pattern: str = "conv{}") -> _Fixed:
    """Places of a block with numbered convolutions."""
    numbered = {f"after_conv{i}": pattern.format(i) for i in range(1, count + 1)}
    return _Fixed({**numbered, "block_end": end})


@dataclass(frozen=True)
class _Sequence:
    """Places of a block whose layers are a sequence: the last one, and the depthwise convolution's.

    `below` names the sequence in the block.
    """

    below: str

    def __call__(self, block: nn.Module) -> dict[str, str]:
        layers = dict(block.get_submodule(self.below).named_children())
        places = {"block_end": f"{self.below}.{list(layers)[-1]}"}
        for name, layer in layers.items():
            if _is_depthwise(layer):
                places["after_depthwise"] = f"{self.below}.{name}"
        return places


def _is_depthwise(layer: nn.Module) -> bool:
    """Whether a layer is a depthwise convolution with what follows it."""
    if not isinstance(layer, nn.Sequential) or not isinstance(layer[0], nn.Conv2d):
        return False
    return layer[0].groups == layer[0].in_channels > 1


def _depthwise(after: str, end: str) -> _Fixed:
    return _Fixed({"after_depthwise": after, "block_end": end})


PARALLEL = {"timm.models.hrnet.HighResolutionNet"}
CONCATENATED = {"torchvision.models.densenet._DenseLayer", "timm.models.densenet.DenseLayer"}
PLAIN = {"torchvision.models.vgg.VGG", "timm.models.vgg.VGG"}
KINDS: Mapping[str, Callable[[nn.Module], Places]] = {
    "ema_lab.models.cifar_resnet.BasicBlock": _convolutions(2, "bn2"),
    "torchvision.models.convnext.CNBlock": _depthwise("block.0", "block"),
    "torchvision.models.densenet._DenseLayer": _convolutions(2, ITSELF),
    "torchvision.models.efficientnet.FusedMBConv": _Sequence("block"),
    "torchvision.models.efficientnet.MBConv": _Sequence("block"),
    "torchvision.models.mnasnet._InvertedResidual": _depthwise("layers.5", "layers.7"),
    "torchvision.models.mobilenetv2.InvertedResidual": _Sequence("conv"),
    "torchvision.models.mobilenetv3.InvertedResidual": _Sequence("block"),
    "torchvision.models.regnet.ResBottleneckBlock": _Fixed(
        {"after_conv1": "f.a.0", "after_conv2": "f.b.0", "after_conv3": "f.c.0", "block_end": "f.c"}
    ),
    "torchvision.models.resnet.BasicBlock": _convolutions(2, "bn2"),
    "torchvision.models.resnet.Bottleneck": _convolutions(3, "bn3"),
    "torchvision.models.shufflenetv2.InvertedResidual": _depthwise("branch2.4", ITSELF),
    "timm.models._efficientnet_blocks.ConvBnAct": _Fixed({"block_end": "bn1"}),
    "timm.models._efficientnet_blocks.DepthwiseSeparableConv": _depthwise("bn1", "bn2"),
    "timm.models._efficientnet_blocks.EdgeResidual": _Fixed({"block_end": "bn2"}),
    "timm.models._efficientnet_blocks.InvertedResidual": _depthwise("bn2", "bn3"),
    "timm.models._efficientnet_blocks.UniversalInvertedResidual": _depthwise("dw_mid", "pw_proj"),
    "timm.models.byobnet.BasicBlock": _Fixed({"block_end": "conv2_kxk"}),
    "timm.models.byobnet.BottleneckBlock": _Fixed({"block_end": "conv3_1x1"}),
    "timm.models.convnext.ConvNeXtBlock": _depthwise("conv_dw", "drop_path"),
    "timm.models.cspnet.BottleneckBlock": _convolutions(3, "conv3", "conv{}.conv"),
    "timm.models.cspnet.DarkBlock": _convolutions(2, "conv2", "conv{}.conv"),
    "timm.models.densenet.DenseLayer": _convolutions(2, ITSELF),
    "timm.models.dla.DlaBasic": _convolutions(2, "bn2"),
    "timm.models.dla.DlaBottleneck": _convolutions(3, "bn3"),
    "timm.models.ghostnet.GhostBottleneck": _Fixed({"block_end": "ghost2"}),
    "timm.models.nfnet.NormFreeBlock": _convolutions(3, "conv3"),
    "timm.models.regnet.Bottleneck": _convolutions(3, "conv3", "conv{}.conv"),
    "timm.models.res2net.Bottle2neck": _Fixed({"block_end": "bn3"}),
    "timm.models.resnest.ResNestBottleneck": _Fixed({"block_end": "bn3"}),
    "timm.models.resnet.BasicBlock": _convolutions(2, "bn2"),
    "timm.models.resnet.Bottleneck": _convolutions(3, "bn3"),
    "timm.models.resnetv2.PreActBasic": _convolutions(2, "conv2"),
    "timm.models.resnetv2.PreActBottleneck": _convolutions(3, "conv3"),
    "timm.models.rexnet.LinearBottleneck": _depthwise("conv_dw", "conv_pwl"),
    "timm.models.sknet.SelectiveKernelBasic": _Fixed({"block_end": "conv2"}),
    "timm.models.sknet.SelectiveKernelBottleneck": _Fixed({"block_end": "conv3"}),
}
