"""A small backbone that breaks the rule of the contract that its option names."""

import random

import torch
from torch import Tensor, nn

from ema_lab.models.backbone import Backbone, Block


class Net(nn.Module):
    def __init__(self, classes: int, channels: int, flaw: str) -> None:
        super().__init__()
        self.flaw = flaw
        self.calls = 0.0
        self.layer1 = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, classes)
        if flaw == "unused":
            self.unused = nn.Parameter(torch.ones(3))
        if flaw == "anywhere":
            self.fc.bias.data.fill_(random.random())
        if flaw == "lambda":
            self.activation = lambda x: x
        if flaw == "frozen":
            self.fc.bias.requires_grad_(False)

    def __deepcopy__(self, memo: dict[int, object]) -> "Net":
        if self.flaw == "copy":
            raise TypeError("one of its kind")
        other = Net(self.fc.out_features, self.layer1[0].in_channels, self.flaw)
        other.load_state_dict(self.state_dict())
        return other.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        if self.flaw == "values" and x.sum() > 0:
            x = x + 0
        if self.flaw == "trace" and torch.jit.is_tracing():
            raise RuntimeError("cannot be traced")
        if self.flaw == "batch":
            x = x - x.mean(0, keepdim=True)
        if self.flaw == "input":
            x.mul_(2)
        if self.flaw == "random":
            x = x + torch.rand(1)
        if self.flaw == "state":
            self.calls += 1
            x = x + (self.calls if not self.training else 0)
        if self.flaw == "hidden":
            self.calls += 1.0 if self.training else 0.0
            x = x + self.calls
        scores = self.fc(self.layer1(x).mean((2, 3)))
        return scores[:, 1:] if self.flaw == "classes" else scores


def build(classes: int, channels: int, *, flaw: str = "") -> Backbone:
    """A convolution and a linear layer.

    Args:
        classes: Scores of the output.
        channels: Channels of an image.
        flaw: What is wrong with it.
    """
    if flaw == "build":
        raise KeyError("absent")
    places = {"block_end": "layer1.1"} | ({"end": "layer9.0"} if flaw == "place" else {})
    return Backbone(Net(classes, channels, flaw), () if flaw == "none" else (Block("layer1", 1, 1, places),))


def mute(classes: int, channels: int, *, flaw: str = "") -> Backbone:
    """A backbone that does not say what its option means."""
    return build(classes, channels, flaw=flaw)
