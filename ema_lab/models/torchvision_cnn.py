"""torchvision's convolutional classifiers, unmodified but for classes, input channels and, on request,
the ResNets' stem."""

from typing import Literal

import torchvision
from torch import nn

from ema_lab.models.backbone import Backbone
from ema_lab.models.blocks import describe

INCEPTIONS = {"googlenet", "inception_v3"}
# With auxiliary heads they return a tuple in training. `init_weights` is the default, said aloud: torchvision
# warns where it is left out.
WITHOUT_AUXILIARY_HEADS = {"aux_logits": False, "init_weights": True}


def torchvision_cnn(classes: int, channels: int, architecture: str) -> Backbone:
    """Convolutional network of torchvision, with the initial weights of its own code."""
    without_heads = WITHOUT_AUXILIARY_HEADS if architecture in INCEPTIONS else {}
    module: nn.Module = getattr(torchvision.models, architecture)(num_classes=classes, **without_heads)
    if channels != 3:
        name, first = next((n, m) for n, m in module.named_modules() if isinstance(m, nn.Conv2d))
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, with_channels(first, channels))
    return describe(module)


def torchvision_resnet(
    classes: int, channels: int, architecture: str, *, stem: Literal["imagenet", "cifar"] = "imagenet"
) -> Backbone:
    """ResNet of torchvision (arXiv:1512.03385), ResNeXt (1611.05431) or Wide ResNet (1605.07146).

    Args:
        stem: `imagenet` = 7 x 7 convolution with stride 2, then max-pooling; `cifar` = 3 x 3
            convolution with stride 1 and no pooling, for images of about 32 x 32.
    """
    backbone = torchvision_cnn(classes, channels, architecture)
    if stem == "cifar":
        convolution = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        backbone.module.conv1 = initialised(convolution)
        backbone.module.maxpool = nn.Identity()
    return backbone


def with_channels(convolution: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Return a first convolution like `convolution` for another number of input channels."""
    return initialised(
        nn.Conv2d(
            channels,
            convolution.out_channels,
            convolution.kernel_size,  # type: ignore[arg-type]
            stride=convolution.stride,  # type: ignore[arg-type]
            padding=convolution.padding,  # type: ignore[arg-type]
            bias=convolution.bias is not None,
        )
    )


def initialised(convolution: nn.Conv2d) -> nn.Conv2d:
    """Draw a new first convolution's weight as torchvision's ResNets do (normal, fan out)."""
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
