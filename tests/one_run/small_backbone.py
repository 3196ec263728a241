"""A network of two blocks, for rules that hold in any network: measuring a larger one takes longer."""

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Two convolutions, each with a norm, and a classifier."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 32, 3, 2, padding=1, bias=False), nn.BatchNorm2d(32)
        self.fc = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        x = torch.relu(self.norm2(self.conv2(x)))
        scores: Tensor = self.fc(x.mean((2, 3)))
        return scores
