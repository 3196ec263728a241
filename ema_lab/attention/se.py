"""SE: Squeeze-and-Excitation (arXiv:1709.01507).

Shape letters: B batch, C channels, H rows, W columns.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from ema_lab.attention.validation import hidden_channels


def bottleneck_gate(mean_BC: Tensor, squeeze: nn.Module, excite: nn.Module) -> Tensor:
    """Return one gate per channel, sigmoid(excite(relu(squeeze(mean)))): (B, C) -> (B, C, 1, 1)."""
    gate_BC: Tensor = excite(squeeze(mean_BC).relu()).sigmoid()
    return gate_BC.unsqueeze(2).unsqueeze(3)


class SE(nn.Module):
    """Channel gate from the global mean: x * sigmoid(W2 relu(W1 mean(x))) (arXiv:1709.01507).

    Parameters: 2 C h with h = C // reduction, and C + h more with `bias`.

    Implementations differ in the biases. The widespread PyTorch port (moskomule/senet.pytorch) has none,
    which is the default here. The authors' Caffe models have both. Many MobileNet implementations add
    biases, a minimum of h, or a hard sigmoid.

    Args:
        channels: Channels of the input.
        reduction: C // reduction is the width of the bottleneck.
        bias: Whether both linear maps have a bias.

    Raises:
        ValueError: If the bottleneck has no channel.
    """

    reference_keys: ClassVar[Mapping[str, str]] = {"fc.0": "squeeze", "fc.2": "excite"}

    def __init__(self, channels: int, *, reduction: int = 16, bias: bool = False) -> None:
        super().__init__()
        hidden = hidden_channels("SE", channels, reduction)
        self.squeeze = nn.Linear(channels, hidden, bias=bias)
        self.excite = nn.Linear(hidden, channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return x * bottleneck_gate(x.mean((2, 3)), self.squeeze, self.excite)
