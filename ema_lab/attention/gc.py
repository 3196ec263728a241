"""GC: global context block of GCNet (arXiv:1904.11492).

Shape letters: B batch, C channels, H rows, W columns, L = H x W.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn

from ema_lab.attention.validation import check_choice, hidden_channels


def global_context(x_BCHW: Tensor, score: nn.Module) -> Tensor:
    """Average all positions, weighted by the softmax of their scores: (B, C, H, W) -> (B, C, 1, 1)."""
    weight_B1L = score(x_BCHW).flatten(2).softmax(dim=2)
    context_BC1: Tensor = x_BCHW.flatten(2) @ weight_B1L.transpose(1, 2)
    return context_BC1.unsqueeze(3)


class GC(nn.Module):
    """Attention-pooled context, transformed and fused: x + W2 relu(LN(W1 context(x))).

    context(x) = sum over positions of x weighted by softmax over positions of w . x + b
    (arXiv:1904.11492). W1 and W2 are 1x1 convolutions with bias.

    Parameters: 2 C h + 2 C + 3 h + 1 with h = C // reduction. The softmax cancels the bias b of the scores,
    as in the authors' code, so that the gradient of b is always 0.

    As in the authors' code, W2 is initialised to zero. The module therefore starts as the identity with
    fusion="add", and as a constant gate of 1/2 with fusion="multiply", which is x * sigmoid(W2 ...).
    The scores' weights use torch's default initialisation, where the authors use Kaiming's.

    Args:
        channels: Channels of the input.
        reduction: C // reduction is the width of the transform's bottleneck.
        fusion: "add" adds the transformed context to each position. "multiply" gates the channels by
            the transformed context.

    Raises:
        ValueError: If the bottleneck has no channel, or `fusion` is unknown.
    """

    zero_gradients: ClassVar[frozenset[str]] = frozenset({"score.bias"})  # read by `ema-lab check`

    def __init__(
        self, channels: int, *, reduction: int = 16, fusion: Literal["add", "multiply"] = "add"
    ) -> None:
        super().__init__()
        hidden = hidden_channels("GC", channels, reduction)
        check_choice("GC", "fusion", fusion, ("add", "multiply"))
        self.fusion = fusion
        self.score = nn.Conv2d(channels, 1, kernel_size=1)
        self.squeeze = nn.Conv2d(channels, hidden, kernel_size=1)
        self.norm = nn.LayerNorm([hidden, 1, 1])
        self.excite = nn.Conv2d(hidden, channels, kernel_size=1)
        nn.init.zeros_(self.excite.weight)
        if self.excite.bias is not None:
            nn.init.zeros_(self.excite.bias)

    @property
    def reference_keys(self) -> Mapping[str, str]:
        """Key prefixes of the authors' code, where the name of the transform depends on the fusion."""
        transform = "channel_add_conv" if self.fusion == "add" else "channel_mul_conv"
        return {
            "conv_mask": "score",
            f"{transform}.0": "squeeze",
            f"{transform}.1": "norm",
            f"{transform}.3": "excite",
        }

    def forward(self, x: Tensor) -> Tensor:
        context_BC11 = self.squeeze(global_context(x, self.score))
        change_BC11: Tensor = self.excite(self.norm(context_BC11).relu())
        return x + change_BC11 if self.fusion == "add" else x * change_BC11.sigmoid()
