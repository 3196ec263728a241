"""The two YOLOv5 networks in which attention papers are compared, for counting.

YOLOv5s as of v6.0 (COCO), and YOLOv5xP2 with a fourth head for small objects (VisDrone), whose stem and
pyramid pooling are those of v5.0. The layers follow their published description; the tests hold them
against the parameter counts that are known of them.

A level L has 1 / 2^L of the image's resolution. `stage2` to `stage5` are the backbone's C3 blocks, a
block each; `top_down` and `bottom_up` are those of the path aggregation, by level. Attention that is
inserted after a C3 block of YOLOv5xP2 is seen by its head too; in the authors' files the heads read the
blocks before it, which changes no count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ema_lab.models.backbone import Backbone, Block

ANCHORS = 3  # boxes that each cell of each head predicts
WIDTHS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 1024}  # of each level, before scaling
NECK = {2: 256, 3: 256, 4: 512}  # of the top-down path


@dataclass(frozen=True)
class Layout:
    """The table of a network: what its size scales, and what its family fixes."""

    width: float
    depth: float
    repeats: tuple[int, int, int, int]  # of stage2 to stage5, before scaling
    lowest: int  # level of the finest head
    focus: bool  # the stem and the pooling of v5.0

    def channels(self, width: int) -> int:
        """Scale a width, to a multiple of eight."""
        return 8 * math.ceil(width * self.width / 8)

    def times(self, repeats: int) -> int:
        """Scale a number of repeats, at least one."""
        return max(1, round(repeats * self.depth))


LAYOUTS = {
    "yolov5s": Layout(0.50, 0.33, (3, 6, 9, 3), 3, focus=False),
    "yolov5x_p2": Layout(1.25, 1.33, (3, 9, 9, 3), 2, focus=True),
}


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


class YOLOv5(nn.Module):
    """(B, channels, H, W) -> one (B, ANCHORS (5 + classes), H / 2^L, W / 2^L) for each head's level L.

    Args:
        layout: The network.
        classes: Of objects.
        channels: Of an image.
        skips: What the bottom-up path is joined with: the top-down path's inner convolutions
            (`lateral`), or its C3 blocks (`fused`), which is what YOLOv5xP2's files with attention name.
    """

    def __init__(self, layout: Layout, classes: int, channels: int, skips: str) -> None:
        super().__init__()
        if skips not in ("lateral", "fused"):
            raise ValueError(f"skips must be lateral or fused, got {skips!r}")
        self.layout, self.skips = layout, skips
        width = {level: layout.channels(full) for level, full in WIDTHS.items()}
        neck = {level: layout.channels(full) for level, full in NECK.items() if level >= layout.lowest}
        self.stem = Focus(channels, width[1]) if layout.focus else ConvNorm(channels, width[1], 6, 2, 2)
        for level, repeats in zip(range(2, 6), layout.repeats, strict=True):
            self.add_module(f"down{level}", ConvNorm(width[level - 1], width[level], 3, 2))
            plain = layout.focus and level == 5
            block = C3(width[level], width[level], layout.times(repeats), shortcut=not plain)
            self.add_module(f"stage{level}", block)
        self.pool = PyramidPooling(width[5], in_a_row=not layout.focus)
        self._add_neck(width, neck)
        outputs = [*neck.values(), width[5]]
        self.heads = nn.ModuleList(nn.Conv2d(size, ANCHORS * (5 + classes), 1) for size in outputs)

    def _add_neck(self, width: dict[int, int], neck: dict[int, int]) -> None:
        times = self.layout.times(3)
        self.lateral, self.top_down, self.shrink, self.bottom_up = (nn.ModuleDict() for _ in range(4))
        above = width[5]
        for level in sorted(neck, reverse=True):
            self.lateral[str(level)] = ConvNorm(above, neck[level])
            both = neck[level] + width[level]
            self.top_down[str(level)] = C3(both, neck[level], times, shortcut=False)
            above = neck[level]
        for level in range(self.layout.lowest + 1, 6):
            out = neck.get(level, width[5])
            skip = neck[level - 1] if self.skips == "lateral" or level == 5 else neck[level]
            self.shrink[str(level)] = ConvNorm(neck[level - 1], neck[level - 1], 3, 2)
            self.bottom_up[str(level)] = C3(neck[level - 1] + skip, out, times, shortcut=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        levels = self._backbone(x)
        lowest, skips = self.layout.lowest, dict[int, Tensor]()
        inner = levels[5]
        for level in range(4, lowest - 1, -1):
            lateral = self.lateral[str(level)](inner)
            wide = F.interpolate(lateral, scale_factor=2, mode="nearest")
            inner = self.top_down[str(level)](torch.cat([wide, levels[level]], 1))
            skips.setdefault(level + 1, lateral)
            if self.skips == "fused":
                skips[level] = inner
        outputs = [inner]
        for level in range(lowest + 1, 6):
            narrow = self.shrink[str(level)](outputs[-1])
            outputs.append(self.bottom_up[str(level)](torch.cat([narrow, skips[level]], 1)))
        return tuple(head(output) for head, output in zip(self.heads, outputs, strict=True))

    def _backbone(self, x: Tensor) -> dict[int, Tensor]:
        levels = {}
        x = self.stem(x)
        for level in range(2, 6):
            x = self.get_submodule(f"down{level}")(x)
            if level == 5 and self.layout.focus:  # before the block in v5.0, after it in v6.0
                x = self.pool(x)
            x = levels[level] = self.get_submodule(f"stage{level}")(x)
        return levels if self.layout.focus else {**levels, 5: self.pool(x)}


def yolov5(
    classes: int, channels: int, *, architecture: str, skips: Literal["lateral", "fused"] = "lateral"
) -> Backbone:
    """A YOLOv5 network; it detects, so it can be counted here, and not trained to classify.

    Args:
        classes: Of objects.
        channels: Of an image.
        architecture: `yolov5s` or `yolov5x_p2`.
        skips: What the bottom-up path is joined with: `lateral` (the published network) or `fused` (what
            YOLOv5xP2's files with attention make of it).
    """
    model = YOLOv5(LAYOUTS[architecture], classes, channels, skips)
    return Backbone(model, tuple(_blocks(model)))


def _blocks(model: YOLOv5) -> Sequence[Block]:
    names = [f"stage{level}" for level in range(2, 6)]
    return [Block(name, number, 1, {"block_end": name}) for number, name in enumerate(names, 1)]
