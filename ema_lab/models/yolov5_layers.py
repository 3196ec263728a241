"""Layers of YOLOv5, and the table that scales a network of them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Layout:
    """Layout of a network: the factors of its size, and the layers of its family."""

    depth: float
    width: float
    repeats: tuple[int, int, int, int]  # of stage2 to stage5, before scaling
    lowest: int  # level of the finest head
    focus: bool  # the stem and the pooling of v5.0

    def channels(self, width: int) -> int:
        """Scale a width, to a multiple of eight."""
        return 8 * math.ceil(width * self.width / 8)

    def times(self, repeats: int) -> int:
        """Scale a number of repeats, at least one."""
        return max(1, round(repeats * self.depth))


class ConvNorm(nn.Module):
    """Convolution, batch norm, SiLU. (B, channels, H, W) -> (B, width, H/stride, W/stride)."""

    def __init__(
        self, channels: int, width: int, kernel: int = 1, stride: int = 1, padding: int | None = None
    ) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(width, eps=1e-3, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)))


class Focus(nn.Module):
    """Fold each 2 x 2 pixels into channels, then convolve. (B, C, H, W) -> (B, width, H/2, W/2)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.mix = ConvNorm(4 * channels, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        out: Tensor = self.mix(torch.cat(corners, 1))
        return out


class Bottleneck(nn.Module):
    """1 x 1 and 3 x 3 convolution, beside a shortcut if `shortcut`."""

    def __init__(self, channels: int, *, shortcut: bool) -> None:
        super().__init__()
        self.reduce = ConvNorm(channels, channels)
        self.expand = ConvNorm(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.expand(self.reduce(x))
        return x + inner if self.shortcut else inner


class C3(nn.Module):
    """Bottlenecks on half of the width, beside a convolution. (B, channels, H, W) -> (B, width, H, W)."""

    def __init__(self, channels: int, width: int, repeats: int, *, shortcut: bool = True) -> None:
        super().__init__()
        half = width // 2
        self.enter = ConvNorm(channels, half)
        self.bypass = ConvNorm(channels, half)
        self.bottlenecks = nn.Sequential(*(Bottleneck(half, shortcut=shortcut) for _ in range(repeats)))
        self.join = ConvNorm(2 * half, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.join(torch.cat([self.bottlenecks(self.enter(x)), self.bypass(x)], 1))
        return out


class PyramidPooling(nn.Module):
    """Maxima over windows of 5, 9 and 13, side by side (SPP), or, the same, of 5 in a row (SPPF)."""

    def __init__(self, channels: int, *, in_a_row: bool) -> None:
        super().__init__()
        self.reduce = ConvNorm(channels, channels // 2)
        self.join = ConvNorm(2 * channels, channels)
        self.in_a_row = in_a_row

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.reduce(x)]
        for size in (5, 9, 13):
            source, window = (levels[-1], 5) if self.in_a_row else (levels[0], size)
            levels.append(F.max_pool2d(source, window, stride=1, padding=window // 2))
        out: Tensor = self.join(torch.cat(levels, 1))
        return out
