"""A control: channel gates that look at nothing and learn nothing."""

import torch
from torch import Tensor, nn


class RandomGate(nn.Module):
    """Multiply each channel by a number drawn once, uniformly from [0, 1), and then fixed.

    Parameters: 0; the C numbers are a buffer and part of the state dict. A learned gate should do
    better than this one.
    """

    gate: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("gate", torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate.reshape(-1, 1, 1).to(x.dtype)
