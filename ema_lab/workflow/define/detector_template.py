"""Template of a detector that works without changes."""

DETECTOR_TEMPLATE = '''\
"""{title}: description in one line (reference).

Raw heads, which YOLOv5's loss trains and its decoding reads. A detector with a loss of its own has `losses`
and `detections` instead: see ema_lab.models.detector.OwnLossDetector.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ema_lab.models.features import Features

ANCHORS = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))  # width and height of each anchor, over four strides
RARE = -4.0  # start of the objectness: few cells have an object


class {title}(nn.Module):
    """A top-down pyramid on a backbone's last maps, with one head for each.

    (B, C, H, W) -> for each scale, fine to coarse, (B, anchors, rows, columns, 5 + classes): x, y, width,
    height, objectness and classes, all raw.

    Attributes:
        strides: Pixels of a cell of each head.
        anchors: Width and height in pixels: (heads, anchors, 2). A recipe fits them to the data.
    """

    anchors: Tensor

    def __init__(self, features: Features, classes: int, width: int, scales: int) -> None:
        super().__init__()
        maps = features.maps[-scales:]
        if len(maps) < scales:
            raise ValueError(f"scales must be at most {{len(maps)}}, the backbone's stages, got {{scales}}")
        self.features = features
        self.strides = tuple(one.stride for one in maps)
        sizes = torch.tensor(self.strides)[:, None, None] * 4 * torch.tensor(ANCHORS)
        self.register_buffer("anchors", sizes)
        self.laterals = nn.ModuleList(nn.Conv2d(one.channels, width, 1) for one in maps)
        self.heads = nn.ModuleList(head(width, classes) for _ in maps)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = self.features(x)[-len(self.heads) :]
        merged = [lateral(one) for lateral, one in zip(self.laterals, maps, strict=True)]
        for fine in reversed(range(len(merged) - 1)):
            merged[fine] = merged[fine] + F.interpolate(merged[fine + 1], merged[fine].shape[2:])
        return tuple(by_anchor(one(map_)) for one, map_ in zip(self.heads, merged, strict=True))


def head(width: int, classes: int) -> nn.Module:
    """Build a head: (B, width, H, W) -> (B, anchors * (5 + classes), H, W)."""
    last = nn.Conv2d(width, len(ANCHORS) * (5 + classes), 1)
    with torch.no_grad():
        last.bias.view(len(ANCHORS), -1)[:, 4] = RARE
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.SiLU(), last
    )


def by_anchor(raw: Tensor) -> Tensor:
    """Return (B, anchors, H, W, values) of (B, anchors * values, H, W)."""
    return raw.unflatten(1, (len(ANCHORS), -1)).permute(0, 1, 3, 4, 2)


def {name}(features: Features, classes: int, *, width: int = 64, scales: int = 3) -> nn.Module:
    """A small detector on any backbone with stages.

    Args:
        features: The backbone's stages, which the detector must keep as a submodule.
        classes: Number of classes.
        width: Channels of the pyramid and its heads.
        scales: Number of maps that are read, the last ones.
    """
    return {title}(features, classes, width, scales)
'''
