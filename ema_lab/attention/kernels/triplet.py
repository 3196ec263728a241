"""Kernel of triplet attention on a CPU: fewer maps, with a hand-written backward.

The convolutions are `row_convolution`, and maxima over channels and rows a pooling (`channel_maximum`). The
gradients of all gates and of the input share one map.

Shape letters: B batch, C channels, H rows, W columns; 2 is the pair (maximum, mean).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ema_lab.attention.kernels.channel_maximum import channel_maximum
from ema_lab.attention.kernels.row_convolution import row_convolution, takes_gate
from ema_lab.attention.kernels.trust import Kernel, WithFormula
from ema_lab.attention.spatial_gate import SpatialGate


class TripletModule(WithFormula):
    """Base class of triplet attention: what the kernel reads."""

    cw: SpatialGate
    hc: SpatialGate
    hw: SpatialGate


def apply_triplet(module: TripletModule, x: Tensor, build: Callable[[int], TripletModule]) -> Tensor:
    """Apply a module with the chosen kernel; `build` makes the one for the comparison (see `Kernel`)."""
    in_reach = all(takes_gate(gate) for gate in (module.cw, module.hc, module.hw))
    return KERNEL.apply(module, x, module.hw.conv.kernel_size[0] if in_reach else None, build)


def exact_triplet(module: TripletModule, x: Tensor) -> Tensor:
    """Apply triplet attention to contiguous maps; differentiable once."""
    *pairs, x = _Extremes.apply(x)
    gates = (
        gate.from_convolved(row_convolution(pair, gate.conv.weight))
        for gate, pair in zip((module.cw, module.hc, module.hw), pairs, strict=True)
    )
    gate_B1CW, gate_B1HC, gate_B1HW = gates
    gated: Tensor = _Gated.apply(x, gate_B1CW.transpose(1, 2), gate_B1HC.permute(0, 3, 2, 1), gate_B1HW)
    return gated


class _Extremes(torch.autograd.Function):
    """Maximum and mean over rows, columns and channels, and the input.

    (B, C, H, W) -> (B, 2, C, W), (B, 2, H, C), (B, 2, H, W), (B, C, H, W).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        batch, channels, height, width = x.shape
        of_rows, row = channel_maximum(x.flatten(0, 1))
        of_columns, column = x.max(3)
        of_channels, channel = channel_maximum(x.flatten(2))
        ctx.save_for_backward(row, column, channel)
        return (
            torch.stack([of_rows.view(batch, channels, width), x.mean(2)], 1),
            torch.stack([of_columns.transpose(1, 2), x.mean(3).transpose(1, 2)], 1),
            torch.stack([of_channels.view(batch, height, width), x.mean(1)], 1),
            x.view_as(x),
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_cw: Tensor, d_hc: Tensor, d_hw: Tensor, d_x: Tensor) -> Tensor:
        row, column, channel = ctx.saved_tensors
        batch, channels, height, width = d_x.shape
        d_max_BCW, d_mean_BCW = d_cw.unbind(1)
        d_max_BCH, d_mean_BCH = d_hc.transpose(2, 3).unbind(1)
        d_max_BHW, d_mean_BHW = d_hw.unbind(1)
        # `d_x` is of `_Gated`, and nobody else has it.
        d_x += (d_mean_BCW / height).unsqueeze(2)
        d_x += (d_mean_BCH / width).unsqueeze(3)
        d_x += (d_mean_BHW / channels).unsqueeze(1)
        d_x.scatter_add_(2, row.view(batch, channels, 1, width), d_max_BCW.unsqueeze(2))
        d_x.scatter_add_(3, column.unsqueeze(3), d_max_BCH.unsqueeze(3))
        d_x.scatter_add_(1, channel.view(batch, 1, height, width), d_max_BHW.unsqueeze(1))
        return d_x


class _Gated(torch.autograd.Function):
    """Product of maps and the mean of gates (B, C, 1, W), (B, C, H, 1), (B, 1, H, W): (B, C, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, of_rows: Tensor, of_columns: Tensor, of_channels: Tensor) -> Tensor:
        thirds = (of_rows / 3, of_columns / 3, of_channels / 3)
        ctx.save_for_backward(x, *thirds)
        return (thirds[0] + thirds[1]).add_(thirds[2]).mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, of_rows, of_columns, of_channels = ctx.saved_tensors
        product = grad.contiguous() * x
        d_gates = [product.sum(axis, keepdim=True).div_(3) for axis in (2, 3, 1)]
        d_x = torch.add(of_rows, of_columns, out=product).add_(of_channels).mul_(grad)
        return d_x, d_gates[0], d_gates[1], d_gates[2]


KERNEL = Kernel("Triplet", exact_triplet)
