"""Small detectors, each of which breaks the rule of the contract that its option names."""

import copy
import random
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ema_lab.models.features import Features


class OwnLoss(nn.Module):
    """One box in each image, from the mean of the last map."""

    def __init__(self, features: Features, classes: int, flaw: str) -> None:
        super().__init__()
        self.features, self.classes, self.flaw = features, classes, flaw
        self.head = nn.Linear(features.channels[-1], 4 + classes)
        self.calls = 0.0
        if flaw == "unused":
            self.unused = nn.Parameter(torch.ones(3))
        if flaw == "anywhere":
            self.head.bias.data.fill_(random.random())
        if flaw == "lambda":
            self.activation = lambda x: x

    def __deepcopy__(self, memo: dict[int, object]) -> "OwnLoss":
        if self.flaw == "copy":
            raise TypeError("one of its kind")
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        nn.Module.__init__(other)
        other.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return other

    def forward(self, x: Tensor) -> Tensor:
        if self.flaw == "values" and x.sum() > 0:
            x = x + 0
        if self.flaw == "trace" and torch.jit.is_tracing():
            raise RuntimeError("cannot be traced")
        if self.flaw == "input":
            x.mul_(2)
        if self.flaw == "random":
            x = x + torch.rand(1)
        if self.flaw == "state":
            self.calls += not self.training
            x = x + self.calls
        if self.flaw == "hidden":
            self.calls += self.training
            x = x + self.calls
        raw: Tensor = self.head(self.features(x)[-1].mean((2, 3)))
        return raw * x.sum() if self.flaw == "batch" else raw

    def losses(self, images: Tensor, targets: Tensor) -> Mapping[str, Tensor]:
        raw = self(images)
        loss = raw.square().mean()
        return {"all": loss / len(targets) if self.flaw == "empty" else loss}

    def detections(self, images: Tensor, suppression: object) -> list[Tensor]:
        raw = self(images)
        corner, size = raw[:, :2].sigmoid() * 20, raw[:, 2:4].sigmoid() * 20
        score, number = raw[:, 4:].softmax(1).max(1)
        rows = torch.cat([corner, corner + size, score[:, None], number[:, None]], 1)
        return [row[None, :5] if self.flaw == "rows" and not self.calls else row[None] for row in rows]


def build(features: Features, classes: int, *, flaw: str = "") -> nn.Module:
    """One box in each image.

    Args:
        flaw: The rule to break.
    """
    if flaw == "raises":
        raise KeyError("absent")
    return OwnLoss(features, classes, flaw)


def mute(features: Features, classes: int, *, flaw: str = "") -> nn.Module:
    """One box in each image."""
    return OwnLoss(features, classes, flaw)


class Raw(nn.Module):
    """Raw heads of one scale.

    Args:
        flaw: The rule to break.
    """

    strides = (8,)

    def __init__(self, classes: int, channels: int, *, flaw: str = "") -> None:
        super().__init__()
        self.classes = classes
        self.head = nn.Conv2d(channels, 2 * (5 + classes), 8, 8)
        sizes = torch.tensor([[[10.0, 10], [20, 20]]])
        self.register_buffer("anchors", sizes[:, :1] if flaw == "anchors" else sizes)
        self.flaw = flaw

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        raw = self.head(x)
        raw = raw.view(len(x), 2, -1, *raw.shape[2:]).permute(0, 1, 3, 4, 2)
        return (raw[..., 1:],) if self.flaw == "width" else (raw,)
