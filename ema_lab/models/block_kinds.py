"""The kinds of blocks of torchvision's and timm's convolutional networks: the places of each class."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import nn

Places = Mapping[str, str]
ITSELF = ""
REVISION = ".v2"


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
    return not isinstance(part, nn.Identity) or below.startswith("drop_path")


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


def _dual_path(block: nn.Module) -> dict[str, str]:
    """Places of a dual path block; the `b` variants split before their last convolutions: no one end."""
    return {} if _exists(block, "c1x1_c1") else {"block_end": "c1x1_c"}


def _named(pattern: str, parts: Iterable[object]) -> list[str]:
    return [pattern.format(part) for part in parts]


PARALLEL = {"timm.models.hrnet.HighResolutionNet"}
CONCATENATED = {"torchvision.models.densenet._DenseLayer", "timm.models.densenet.DenseLayer"}
PLAIN = {"torchvision.models.alexnet.AlexNet", "torchvision.models.vgg.VGG", "timm.models.vgg.VGG"}
# Parts of a stem that lie beside the blocks.
STEMS = {"timm.models.inception_v4.Mixed4a"}
NOT_BLOCKS = ("stem", "msfa")  # MobileNetV5 fuses its stages in `msfa`
# Blocks that attend to keys and values of a lower resolution, but keep their own.
STRIDED_INSIDE = {"timm.models._efficientnet_blocks.MobileAttention"}
# Stages that register their `downsample` after their blocks, but run it before.
DOWNSAMPLED_FIRST = {"timm.models.fasternet.Block"}
# Networks with these blocks once had places in their other blocks only, and their stages were miscounted.
# To extend `block_end` to all blocks would place attention elsewhere under an old run id, so their places
# have names of their own, which end in REVISION.
LATE = {
    "timm.models._efficientnet_blocks.CondConvResidual",
    "timm.models._efficientnet_blocks.MobileAttention",
    "timm.models.byobnet.DarkBlock",
    "timm.models.byobnet.EdgeBlock",
    "timm.models.byobnet.SelfAttnBlock",
    "timm.models.ghostnet.GhostBottleneckV3",
    "timm.models.mobilevit.MobileVitBlock",
    "timm.models.mobilevit.MobileVitV2Block",
    "timm.models.repghost.RepGhostBottleneck",
}
# Networks of these classes whose blocks halve the resolution in a BlurPool2d once had one stage only.
UNCOUNTED = {"timm.models.efficientnet.EfficientNet", "timm.models.mobilenetv3.MobileNetV3"}
KINDS: Mapping[str, Callable[[nn.Module], Places]] = {
    "ema_lab.models.cifar_resnet.BasicBlock": _convolutions(2, "bn2"),
    "torchvision.models.convnext.CNBlock": _depthwise("block.0", "block"),
    "torchvision.models.densenet._DenseLayer": _convolutions(2, ITSELF),
    "torchvision.models.efficientnet.FusedMBConv": _Sequence("block"),
    "torchvision.models.efficientnet.MBConv": _Sequence("block"),
    "torchvision.models.googlenet.Inception": _Fixed({"block_end": ITSELF}),
    **dict.fromkeys(
        _named("torchvision.models.inception.Inception{}", "ABCDE"), _Fixed({"block_end": ITSELF})
    ),
    "torchvision.models.mnasnet._InvertedResidual": _depthwise("layers.5", "layers.7"),
    "torchvision.models.mobilenetv2.InvertedResidual": _Sequence("conv"),
    "torchvision.models.mobilenetv3.InvertedResidual": _Sequence("block"),
    "torchvision.models.regnet.ResBottleneckBlock": _Fixed(
        {"after_conv1": "f.a.0", "after_conv2": "f.b.0", "after_conv3": "f.c.0", "block_end": "f.c"}
    ),
    "torchvision.models.resnet.BasicBlock": _convolutions(2, "bn2"),
    "torchvision.models.resnet.Bottleneck": _convolutions(3, "bn3"),
    "torchvision.models.shufflenetv2.InvertedResidual": _depthwise("branch2.4", ITSELF),
    "torchvision.models.squeezenet.Fire": _Fixed({"block_end": ITSELF}),
    "timm.models._efficientnet_blocks.CondConvResidual": _depthwise("bn2", "bn3"),
    "timm.models._efficientnet_blocks.ConvBnAct": _Fixed({"block_end": "bn1"}),
    "timm.models._efficientnet_blocks.DepthwiseSeparableConv": _depthwise("bn1", "bn2"),
    "timm.models._efficientnet_blocks.EdgeResidual": _Fixed({"block_end": "bn2"}),
    "timm.models._efficientnet_blocks.InvertedResidual": _depthwise("bn2", "bn3"),
    "timm.models._efficientnet_blocks.MobileAttention": _Fixed({"block_end": "drop_path"}),
    "timm.models._efficientnet_blocks.UniversalInvertedResidual": _depthwise("dw_mid", "pw_proj"),
    "timm.models.byobnet.BasicBlock": _Fixed({"block_end": "conv2_kxk"}),
    "timm.models.byobnet.BottleneckBlock": _Fixed({"block_end": "conv3_1x1"}),
    "timm.models.byobnet.DarkBlock": _Fixed({"block_end": "conv2_kxk"}),
    "timm.models.byobnet.EdgeBlock": _Fixed({"block_end": "conv2_1x1"}),
    "timm.models.byobnet.MobileOneBlock": _Fixed({"block_end": ITSELF}),
    "timm.models.byobnet.RepVggBlock": _Fixed({"block_end": ITSELF}),
    "timm.models.byobnet.SelfAttnBlock": _Fixed({"block_end": "conv3_1x1"}),
    "timm.models.convnext.ConvNeXtBlock": _depthwise("conv_dw", "drop_path"),
    "timm.models.cspnet.BottleneckBlock": _convolutions(3, "conv3", "conv{}.conv"),
    "timm.models.cspnet.DarkBlock": _convolutions(2, "conv2", "conv{}.conv"),
    "timm.models.cspnet.EdgeBlock": _convolutions(2, "conv2", "conv{}.conv"),
    "timm.models.cspnext.CspNextBlock": _depthwise("conv2.depthwise_conv", "conv2"),
    "timm.models.densenet.DenseLayer": _convolutions(2, ITSELF),
    "timm.models.dla.DlaBasic": _convolutions(2, "bn2"),
    "timm.models.dla.DlaBottleneck": _convolutions(3, "bn3"),
    "timm.models.dla.DlaBottle2neck": _Fixed({"block_end": "bn3"}),
    "timm.models.dpn.DualPathBlock": _dual_path,
    "timm.models.edgenext.ConvBlock": _depthwise("conv_dw", "drop_path"),
    "timm.models.edgenext.SplitTransposeBlock": _Fixed({"block_end": ITSELF}),
    "timm.models.fasternet.MLPBlock": _Fixed({"block_end": "drop_path"}),
    "timm.models.fastvit.AttentionBlock": _Fixed({"block_end": "drop_path2"}),
    "timm.models.fastvit.RepMixerBlock": _Fixed({"block_end": "drop_path"}),
    "timm.models.ghostnet.GhostBottleneck": _Fixed({"block_end": "ghost2"}),
    "timm.models.ghostnet.GhostBottleneckV3": _Fixed({"block_end": "ghost2"}),
    "timm.models.hgnet.HighPerfGpuBlock": _Fixed({"block_end": "aggregation"}),
    "timm.models.inception_next.MetaNeXtBlock": _Fixed({"block_end": "drop_path"}),
    **dict.fromkeys(
        _named("timm.models.inception_resnet_v2.Block{}", (8, 17, 35)), _Fixed({"block_end": "conv2d"})
    ),
    **dict.fromkeys(
        _named("timm.models.inception_resnet_v2.Mixed_{}", ("5b", "6a", "7a")), _Fixed({"block_end": ITSELF})
    ),
    **dict.fromkeys(_named("timm.models.inception_v3.Inception{}", "ABCDE"), _Fixed({"block_end": ITSELF})),
    **dict.fromkeys(_named("timm.models.inception_v4.Inception{}", "ABC"), _Fixed({"block_end": ITSELF})),
    **dict.fromkeys(_named("timm.models.inception_v4.Reduction{}", "AB"), _Fixed({"block_end": ITSELF})),
    "timm.models.lcnetv2.RepDepthwiseSeparable": _Fixed({"block_end": "pw_conv"}),
    "timm.models.mobilevit.MobileVitBlock": _Fixed({"block_end": "conv_fusion"}),
    "timm.models.mobilevit.MobileVitV2Block": _Fixed({"block_end": "conv_proj"}),
    "timm.models.nfnet.NormFreeBlock": _convolutions(3, "conv3"),
    "timm.models.regnet.Bottleneck": _convolutions(3, "conv3", "conv{}.conv"),
    "timm.models.regnet.PreBottleneck": _convolutions(3, "conv3"),
    "timm.models.repvit.RepViTBlock": _depthwise("token_mixer", "channel_mixer"),
    "timm.models.repghost.RepGhostBottleneck": _Fixed({"block_end": "ghost2"}),
    "timm.models.res2net.Bottle2neck": _Fixed({"block_end": "bn3"}),
    "timm.models.resnest.ResNestBottleneck": _Fixed({"block_end": "bn3"}),
    "timm.models.resnet.BasicBlock": _convolutions(2, "bn2"),
    "timm.models.resnet.Bottleneck": _convolutions(3, "bn3"),
    "timm.models.resnetv2.PreActBasic": _convolutions(2, "conv2"),
    "timm.models.resnetv2.PreActBottleneck": _convolutions(3, "conv3"),
    "timm.models.rexnet.LinearBottleneck": _depthwise("conv_dw", "conv_pwl"),
    "timm.models.selecsls.SelecSlsBlock": _Fixed({"block_end": "conv6"}),
    "timm.models.senet.SEBottleneck": _convolutions(3, "bn3"),
    "timm.models.senet.SEResNeXtBottleneck": _convolutions(3, "bn3"),
    "timm.models.senet.SEResNetBlock": _convolutions(2, "bn2"),
    "timm.models.senet.SEResNetBottleneck": _convolutions(3, "bn3"),
    "timm.models.sknet.SelectiveKernelBasic": _Fixed({"block_end": "conv2"}),
    "timm.models.sknet.SelectiveKernelBottleneck": _Fixed({"block_end": "conv3"}),
    "timm.models.starnet.Block": _depthwise("dwconv", "dwconv2"),
    "timm.models.tresnet.BasicBlock": _Fixed({"block_end": "conv2"}),
    "timm.models.tresnet.Bottleneck": _Fixed({"block_end": "conv3"}),
    "timm.models.vovnet.OsaBlock": _Fixed({"block_end": "conv_concat"}),
    "timm.models.xception.Block": _Fixed({"block_end": "rep"}),
    "timm.models.xception_aligned.PreXceptionModule": _Fixed({"block_end": "stack"}),
    "timm.models.xception_aligned.XceptionModule": _Fixed({"block_end": "stack"}),
}
