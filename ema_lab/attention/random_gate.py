"""Control: random channel gates that are independent of the input and not learned."""

import torch
from torch import Tensor, nn


class RandomGate(nn.Module):
    """Fixed channel gate, drawn once from the uniform distribution on [0, 1). Keeps (B, C, H, W).

    Parameters: 0. The C gate values are a buffer of the state dict. A learned gate should outperform
    this random gate.
    """

    gate: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("gate", torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate.reshape(-1, 1, 1).to(x.dtype)
