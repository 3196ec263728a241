"""torchvision's ResNets (arXiv:1512.03385), with their own stem or the one for 32 x 32 images."""

import re
from typing import Literal

import torchvision
from torch import nn

from ema_lab.models.backbone import Backbone


def resnet(
    classes: int, channels: int, depth: int, *, stem: Literal["imagenet", "cifar"] = "imagenet"
) -> Backbone:
    """ResNet of torchvision (arXiv:1512.03385).

    Args:
        stem: `imagenet` = 7 x 7 convolution with stride 2, then max-pooling; `cifar` = 3 x 3
            convolution with stride 1 and no pooling, for images of about 32 x 32.
    """
    module: nn.Module = getattr(torchvision.models, f"resnet{depth}")(num_classes=classes)
    if stem == "cifar":
        module.conv1 = stem_convolution(channels, kernel_size=3, stride=1)
        module.maxpool = nn.Identity()
    elif channels != 3:
        module.conv1 = stem_convolution(channels, kernel_size=7, stride=2)
    last_norm = "bn3" if depth >= 50 else "bn2"
    shortcuts = {"block_end": (f"layer*.*.{last_norm}",)}
    return Backbone(module, re.compile(r"layer(\d+)(?:\.|$)"), shortcuts)


def stem_convolution(channels: int, *, kernel_size: int, stride: int) -> nn.Conv2d:
    """Return the first convolution, initialised as torchvision does."""
    padding = kernel_size // 2
    convolution = nn.Conv2d(channels, 64, kernel_size, stride=stride, padding=padding, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
