"""Residual networks of depth 6n+2 for small images (He et al., arXiv:1512.03385, section 4.2).

Three stages of n basic blocks with 16, 32 and 64 channels. Shortcuts have no parameters (option A: every
second pixel, missing channels zero). ResNet-20 has 269,722 parameters for RGB and 10 classes. Initial
weights follow arXiv:1502.01852 (normal, fan out).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from ema_lab.models.backbone import Backbone
from ema_lab.models.blocks import describe

WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions in parallel with a shortcut. (B, C, H, W) -> (B, width, H/stride, W/stride)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.stride = stride
        self.added_channels = width - channels

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(inner + self.shortcut(x))
        return out

    def shortcut(self, x: Tensor) -> Tensor:
        """Return the input, subsampled and padded with zero channels to the block's output shape."""
        if self.stride == 1 and not self.added_channels:
            return x
        in_front = self.added_channels // 2
        subsampled = x[:, :, :: self.stride, :: self.stride]
        return F.pad(subsampled, (0, 0, 0, 0, in_front, self.added_channels - in_front))


def stage(channels: int, width: int, blocks: int, *, stride: int) -> nn.Sequential:
    """Return `blocks` basic blocks, the first of which changes width and size."""
    rest = [BasicBlock(width, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(channels, width, stride), *rest)


class CifarResNet(nn.Module):
    """Residual network of depth 6n+2. (B, channels, H, W) -> logits (B, classes).

    Raises:
        ValueError: If `depth` is not 6n+2 with n from 1.
    """

    def __init__(self, classes: int, channels: int, depth: int) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"the depth must be 6n+2 with n from 1, got {depth=}")
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        blocks = (depth - 2) // 6
        self.layer1 = stage(WIDTHS[0], WIDTHS[0], blocks, stride=1)
        self.layer2 = stage(WIDTHS[0], WIDTHS[1], blocks, stride=2)
        self.layer3 = stage(WIDTHS[1], WIDTHS[2], blocks, stride=2)
        self.fc = nn.Linear(WIDTHS[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def cifar_resnet(classes: int, channels: int, depth: int) -> Backbone:
    """Residual network with depth 6n+2 for small images (arXiv:1512.03385)."""
    return describe(CifarResNet(classes, channels, depth))
