"""YOLOv5 as of v6.0 in its five sizes, and with a fourth head for small objects (P2).

The layers follow their published description; tests hold every head against golden data of the authors' code.
The P2 networks have the stem (Focus) and the pooling (SPP) of v5.0, as the EMA paper's files for VisDrone do.

A level L has 1 / 2^L of the image's resolution. `stage2` to `stage5` are the backbone's C3 blocks, a
block each; `top_down` and `bottom_up` are those of the path aggregation, by level.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ema_lab.models.backbone import Backbone, Block
from ema_lab.models.yolov5_layers import C3, ConvNorm, Focus, Layout, PyramidPooling
from ema_lab.models.yolov5_names import published_names

ANCHORS = 3  # boxes that each cell of each head predicts
ANCHOR_PIXELS = {  # width and height of each level's anchors
    2: ((5, 6), (8, 14), (15, 11)),
    3: ((10, 13), (16, 30), (33, 23)),
    4: ((30, 61), (62, 45), (59, 119)),
    5: ((116, 90), (156, 198), (373, 326)),
}
WIDTHS = {1: 64, 2: 128, 3: 256, 4: 512, 5: 1024}  # of each level, before scaling
NECK = {2: 256, 3: 256, 4: 512}  # of the top-down path
SCALES = {  # depth and width of each size
    "n": (0.33, 0.25),
    "s": (0.33, 0.50),
    "m": (0.67, 0.75),
    "l": (1.0, 1.0),
    "x": (1.33, 1.25),
}
OBJECTS_EXPECTED = 8  # of an image of 640 pixels, for the heads' first guess


def standard(depth: float, width: float) -> Layout:
    """Return the layout of v6.0, with heads at levels 3 to 5."""
    return Layout(depth, width, (3, 6, 9, 3), 3, focus=False)


def small_objects(depth: float, width: float) -> Layout:
    """Return the layout with a fourth head at level 2."""
    return Layout(depth, width, (3, 9, 9, 3), 2, focus=True)


LAYOUTS = {f"yolov5{size}": standard(*scale) for size, scale in SCALES.items()} | {
    f"yolov5{size}_p2": small_objects(*scale) for size, scale in SCALES.items()
}


class YOLOv5(nn.Module):
    """(B, channels, H, W) -> one (B, ANCHORS, H / 2^L, W / 2^L, 5 + classes) for each head's level L.

    A prediction is raw: x, y, width, height, objectness, classes.

    Attributes:
        strides: Pixels of a cell of each head, fine to coarse.
        anchors: Width and height in pixels, (heads, ANCHORS, 2); a buffer, so that checkpoints keep them.

    Args:
        layout: The network.
        classes: Of objects.
        channels: Of an image.
        skips: What the bottom-up path is joined with: the top-down path's inner convolutions
            (`lateral`), or its C3 blocks (`fused`), which is what YOLOv5xP2's files with attention name.
        heads: Whether the finer heads read a C3 block `after` what is inserted behind it, or `before` that,
            which is what those files do. With `before`, `behind` holds an empty place for each such block:
            only the path sees what is inserted there, the heads and the joins do not.
    """

    anchors: Tensor

    def __init__(
        self, layout: Layout, classes: int, channels: int, skips: str = "lateral", heads: str = "after"
    ) -> None:
        super().__init__()
        for name, value, known in (("skips", skips, SKIPS), ("heads", heads, HEADS)):
            if value not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}, got {value!r}")
        self.layout, self.skips, self.classes, self.reads = layout, skips, classes, heads
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
        levels = range(layout.lowest, 6)
        self.strides = tuple(2**level for level in levels)
        self.register_buffer("anchors", torch.tensor([ANCHOR_PIXELS[level] for level in levels]).float())
        outputs = [*neck.values(), width[5]]
        self.heads = nn.ModuleList(nn.Conv2d(size, ANCHORS * (5 + classes), 1) for size in outputs)
        self._guess()

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
        lowest = self.layout.lowest
        names = [f"top_down_{level}" for level in range(3, lowest - 1, -1)]
        names += [f"bottom_up_{level}" for level in range(lowest + 1, 5)]
        places = names if self.reads == "before" else []
        self.behind = nn.ModuleDict({name: nn.Identity() for name in places})

    def _guess(self) -> None:
        """Set the heads' biases to the priors of objects and classes (arXiv:1708.02002, section 3.3)."""
        with torch.no_grad():
            for head, stride in zip(self.heads, self.strides, strict=True):
                assert isinstance(head.bias, nn.Parameter)
                bias = head.bias.view(ANCHORS, -1)
                bias[:, 4] += math.log(OBJECTS_EXPECTED / (640 / stride) ** 2)
                bias[:, 5:] += math.log(0.6 / (self.classes - 0.99))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        levels = self._backbone(x)
        lowest, skips = self.layout.lowest, dict[int, Tensor]()
        inner = levels[5]
        for level in range(4, lowest - 1, -1):
            lateral = self.lateral[str(level)](inner)
            wide = F.interpolate(lateral, scale_factor=2, mode="nearest")
            block = self.top_down[str(level)](torch.cat([wide, levels[level]], 1))
            skips.setdefault(level + 1, lateral)
            if self.skips == "fused":
                skips[level] = block
            inner = self._path(f"top_down_{level}", block)
        outputs = [block]
        for level in range(lowest + 1, 6):
            narrow = self.shrink[str(level)](inner)
            outputs.append(self.bottom_up[str(level)](torch.cat([narrow, skips[level]], 1)))
            inner = self._path(f"bottom_up_{level}", outputs[-1])
        return tuple(_split(head(output)) for head, output in zip(self.heads, outputs, strict=True))

    def published_names(self, *, shifted: bool) -> dict[str, str]:
        """Return the names of the network's tensors in v6.0's state dict.

        Args:
            shifted: Whether attention counts as a layer, as in the files of attention variants.
        """
        return published_names(self, self.layout, tuple(self.behind), shifted=shifted)

    def _path(self, name: str, block: Tensor) -> Tensor:
        """Return the output of a C3 block that the path continues with."""
        if name not in self.behind:
            return block
        inserted: Tensor = self.behind[name](block)
        return inserted

    def _backbone(self, x: Tensor) -> dict[int, Tensor]:
        levels = {}
        x = self.stem(x)
        for level in range(2, 6):
            x = self.get_submodule(f"down{level}")(x)
            if level == 5 and self.layout.focus:  # before the block in v5.0, after it in v6.0
                x = self.pool(x)
            x = levels[level] = self.get_submodule(f"stage{level}")(x)
        return levels if self.layout.focus else {**levels, 5: self.pool(x)}


def _split(raw: Tensor) -> Tensor:
    """Split channels into anchors and values: (B, A K, H, W) -> (B, A, H, W, K)."""
    _, channels, rows, columns = raw.shape
    return raw.view(-1, ANCHORS, channels // ANCHORS, rows, columns).permute(0, 1, 3, 4, 2)


SKIPS = ("lateral", "fused")
HEADS = ("before", "after")


def yolov5(
    classes: int,
    channels: int,
    *,
    architecture: str,
    skips: Literal["lateral", "fused"] = "lateral",
    heads: Literal["before", "after"] = "after",
) -> Backbone:
    """A YOLOv5 detector.

    Args:
        classes: Of objects.
        channels: Of an image.
        architecture: `yolov5n`, `s`, `m`, `l` or `x`; with `_p2`, the network with a fourth head.
        skips: What the bottom-up path is joined with: `lateral` (the published network) or `fused` (what
            YOLOv5xP2's files with attention make of it).
        heads: What heads read of attention in the neck: `after` it, or the block `before` it, as YOLOv5xP2's
            files do. With `before`, place attention after `top_down.4` and `behind.*`.
    """
    model = YOLOv5(LAYOUTS[architecture], classes, channels, skips, heads)
    return Backbone(model, tuple(_blocks(model)))


def _blocks(model: YOLOv5) -> Sequence[Block]:
    names = [f"stage{level}" for level in range(2, 6)]
    return [Block(name, number, 1, {"block_end": name}) for number, name in enumerate(names, 1)]
