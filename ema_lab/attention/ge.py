"""GE: Gather-Excite (arXiv:1810.12348).

Shape letters: B batch, C channels, H rows, W columns, h = ceil(H / extent), w = ceil(W / extent).
"""

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from ema_lab.attention.validation import normalise


def gather_means(x_BCHW: Tensor, extent: int) -> Tensor:
    """Average the existing positions of a (2 extent - 1)^2 window around every `extent`-th position.

    (B, C, H, W) -> (B, C, h, w).
    """
    return avg_pool2d(
        x_BCHW, kernel_size=2 * extent - 1, stride=extent, padding=extent - 1, count_include_pad=False
    )


class GE(nn.Module):
    """Gate from gathered context: x * sigmoid(enlarge(gather(x))) (arXiv:1810.12348).

    Without `learned` (GE-theta-minus in the paper), gather is a mean over all positions, or with an
    extent e over the (2 e - 1)^2 positions around every e-th one. With `learned` (GE-theta), gather is
    log2(e) depthwise 3x3 convolutions of stride 2 without bias. Batch normalisation follows each
    convolution, and ReLU follows all but the last. Both forms have the same receptive field. enlarge is
    nearest-neighbour interpolation.

    Parameters: 0, or 11 C log2(e) with `learned`.

    The paper's learned form for the whole map is one depthwise convolution as large as the map. That
    form ties the weights to one image size, so this module omits it. Means at the border exclude the
    positions outside the map. Some implementations add a bottleneck of two 1x1 convolutions before the
    sigmoid, which is GE-theta-plus in the paper.

    Args:
        channels: Channels of the input.
        extent: Downsampling factor e of gather. None gathers the whole map.
        learned: Whether gather has learned convolutions.

    Raises:
        ValueError: If `extent` is below 2, or `learned` has no extent or one that is not a power of two.
    """

    def __init__(self, channels: int, *, extent: int | None = None, learned: bool = False) -> None:
        super().__init__()
        if extent is not None and extent < 2:
            raise ValueError(f"GE needs extent >= 2, or None for the whole map, got {extent=}.")
        if learned and extent is None:
            raise ValueError(
                "GE needs an extent if learned: a kernel as large as the whole map"
                f" would fit one image size only, got {extent=}, {learned=}."
            )
        if learned and extent is not None and extent & (extent - 1):
            raise ValueError(f"GE needs a power of two as extent if learned, got {extent=}, {learned=}.")
        self.extent = extent
        steps = (extent.bit_length() - 1) if learned and extent is not None else 0
        self.convs: nn.ModuleList | None = None
        self.norms: nn.ModuleList | None = None
        if steps:
            self.convs = nn.ModuleList(_depthwise(channels) for _ in range(steps))
            self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(steps))

    def gather(self, x: Tensor) -> Tensor:
        """Return the gathered context: (B, C, H, W) -> (B, C, h, w), or (B, C, 1, 1) for the whole map."""
        if self.extent is None:
            return x.mean((2, 3), keepdim=True)
        if self.convs is None or self.norms is None:
            return gather_means(x, self.extent)
        for step, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = normalise(norm, conv(x.relu() if step else x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gather(x).sigmoid()
        if self.extent is not None:
            gate = interpolate(gate, size=x.shape[2:], mode="nearest")
        return x * gate.to(x.dtype)


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1, groups=channels, bias=False)
