"""EMA: Efficient Multi-Scale Attention with Cross-Spatial Learning (arXiv:2305.13563).

Shape letters: B batch x groups, C channels of one group, H rows, W columns, L = H + W.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ema_lab.attention.kernels.ema import apply_ema
from ema_lab.attention.kernels.ema_module import EMAModule
from ema_lab.attention.validation import check_choice, check_odd, normalise


def directional_gate(x_BCHW: Tensor, mix: nn.Module) -> Tensor:
    """Gate each position by its row mean and its column mean, both passed through `mix`.

    (B, C, H, W) -> (B, C, H, W).
    """
    means_BCL1 = torch.cat([x_BCHW.mean(3), x_BCHW.mean(2)], dim=2).unsqueeze(3)
    row_BCH1, column_BCW1 = torch.split(mix(means_BCL1).sigmoid(), list(x_BCHW.shape[2:]), dim=2)
    gate_BCHW: Tensor = row_BCH1 * column_BCW1.transpose(2, 3)
    return gate_BCHW


def weighted_map(query_BCHW: Tensor, value_BCHW: Tensor) -> Tensor:
    """Sum the channels of `value`, weighted by the softmax of the channel means of `query`.

    Two tensors (B, C, H, W) -> (B, 1, H, W).
    """
    weight_BC = query_BCHW.mean((2, 3)).softmax(dim=1)
    batch, _, height, width = value_BCHW.shape
    return (weight_BC.unsqueeze(1) @ value_BCHW.flatten(2)).reshape(batch, 1, height, width)


def attention_map(branches: Sequence[Tensor], cross_spatial: str) -> Tensor:
    """Return A, the sum over branches of a weighted channel sum, of shape (B, 1, H, W).

    `cross_spatial` selects the weights: "cross", "self" or "none", as in `EMA`.
    """
    if cross_spatial == "none":
        terms = [map_BCHW.mean(1, keepdim=True) for map_BCHW in branches]
        return sum(terms[1:], start=terms[0])
    queries = branches if cross_spatial == "self" else branches[::-1]
    terms = [weighted_map(query, value) for query, value in zip(queries, branches, strict=True)]
    return sum(terms[1:], start=terms[0])


class EMA(EMAModule):
    """Multi-scale attention over channel groups (arXiv:2305.13563). Keeps (batch, channels, H, W).

    The channels are split into `groups` groups X of n = channels / groups neighbours. Per group:

        x1 = norm(X * sigmoid(mix(row means)) * sigmoid(mix(column means)))    pointwise branch
        x2 = local(X)                                                          local branch
        A  = w(x1) . x2 + w(x2) . x1,  w(y) = softmax over channels of the spatial mean of y
        output = X * sigmoid(A), one map for all n channels

    `mix` is a 1x1 convolution shared by rows and columns, and `local` a k x k convolution (k = 3). Both
    map n to n channels with a bias. `norm` normalises each channel of each image, with a learned scale
    and bias.

    Parameters: n^2 + n (mix) + k^2 n^2 + n (local) + 2 n (norm) = 10 n^2 + 4 n by default.

    Options:
        pointwise_branch=False: `mix` and `norm` are absent and A is the term of x2 alone.
        local_branch=False: `local` is absent and A is the term of x1 alone.
        norm="instance": GroupNorm with one channel per group, the authors' choice.
        norm="group": GroupNorm with one group over the n channels, so that x1 keeps the ratios of its
            channels.
        norm="none": x1 is the gated X itself.
        cross_spatial="cross": A as above. Each branch is weighted by the other branch's descriptor.
        cross_spatial="self": A = w(x1) . x1 + w(x2) . x2. Each branch is weighted by its own descriptor.
        cross_spatial="none": A = mean over channels of x1 + mean over channels of x2.

    With norm="instance" the spatial mean of x1 equals the bias of `norm` for every input. So w(x1) is
    a constant weight, learned but independent of the input. At initialisation w(x1) is 1/n per channel,
    and the term that it weights is a plain mean: "cross" equals "none" in the term of x2, and "self"
    equals "none" in the term of x1. The gradients differ. With norm="group" and norm="none", w(x1)
    depends on the input.

    With one channel per group (groups = channels) every softmax is 1. Then "cross", "self" and "none"
    are equal, and so are norm="instance" and norm="group".

    The official code (YOLOonMe/EMA-attention-module) calls `groups` factor and uses 32 throughout. Many
    copies in YOLO repositories use factor=8, which the authors do not.

    `ema_lab.attention.kernels` has faster kernels, which agree with the formula within rounding.

    Args:
        channels: Channels of the input, a multiple of `groups`.
        groups: Number of channel groups. Each group has its own map, and all groups share the weights.
        pointwise_branch: Whether the branch with the directional gate and the norm exists.
        local_branch: Whether the branch with the k x k convolution exists.
        kernel_size: Odd width k of the local branch's convolution. None means 3.
        norm: Normalisation of the pointwise branch. None means "instance".
        cross_spatial: Source of each branch's channel weights. None means "cross" with two branches and
            "self" with one.

    Raises:
        ValueError: If `channels` is not a multiple of `groups`, both branches are off, the kernel is
            even, or an option belongs to a branch that is off.
    """

    reference_keys: ClassVar[Mapping[str, str]] = {"conv1x1": "mix", "conv3x3": "local", "gn": "norm"}

    def __init__(
        self,
        channels: int,
        *,
        groups: int = 32,
        pointwise_branch: bool = True,
        local_branch: bool = True,
        kernel_size: int | None = None,
        norm: Literal["instance", "group", "none"] | None = None,
        cross_spatial: Literal["cross", "self", "none"] | None = None,
    ) -> None:
        super().__init__()
        if groups < 1 or channels < 1 or channels % groups:
            raise ValueError(f"EMA needs channels % groups == 0, got {channels=}, {groups=}.")
        if not pointwise_branch and not local_branch:
            raise ValueError(f"EMA needs at least one branch, got {pointwise_branch=}, {local_branch=}.")
        width = channels // groups
        self.groups = groups
        self.cross_spatial = _cross_spatial(cross_spatial, two_branches=pointwise_branch and local_branch)
        self.mix = nn.Conv2d(width, width, kernel_size=1) if pointwise_branch else None
        self.local = _local(width, kernel_size, present=local_branch)
        self.norm = _norm(width, norm, present=pointwise_branch)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the formula, or a kernel that agrees with it within rounding, if the user has chosen one."""
        return apply_ema(self, x, EMA)

    def formula(self, x: Tensor) -> Tensor:
        """Apply the formula of the class, operator by operator."""
        x_BCHW = x.reshape(x.shape[0] * self.groups, x.shape[1] // self.groups, *x.shape[2:])
        branches = []
        if self.mix is not None:
            gated_BCHW = x_BCHW * directional_gate(x_BCHW, self.mix)
            branches.append(gated_BCHW if self.norm is None else normalise(self.norm, gated_BCHW))
        if self.local is not None:
            branches.append(self.local(x_BCHW))
        map_B1HW = attention_map(branches, self.cross_spatial)
        return (x_BCHW * map_B1HW.sigmoid()).reshape(x.shape)


def _cross_spatial(choice: str | None, *, two_branches: bool) -> str:
    if choice is None:
        return "cross" if two_branches else "self"
    check_choice("EMA", "cross_spatial", choice, ("cross", "self", "none"))
    if choice == "cross" and not two_branches:
        raise ValueError("EMA needs both branches for cross_spatial='cross', got one branch.")
    return choice


def _local(width: int, kernel_size: int | None, *, present: bool) -> nn.Conv2d | None:
    if not present:
        if kernel_size is not None:
            raise ValueError(f"EMA needs local_branch=True to use kernel_size, got {kernel_size=}.")
        return None
    size = 3 if kernel_size is None else kernel_size
    check_odd("EMA", size)
    return nn.Conv2d(width, width, size, padding=size // 2)


def _norm(width: int, choice: str | None, *, present: bool) -> nn.GroupNorm | None:
    if not present:
        if choice is not None:
            raise ValueError(f"EMA needs pointwise_branch=True to use norm, got norm={choice!r}.")
        return None
    kind = "instance" if choice is None else choice
    check_choice("EMA", "norm", kind, ("instance", "group", "none"))
    if kind == "none":
        return None
    return nn.GroupNorm(width if kind == "instance" else 1, width)
