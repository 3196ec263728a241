"""Kernel of CBAM on a CPU: fewer passes over the pixels, with a hand-written backward.

Means over channels are matrix products, maxima over channels a pooling whose channels are the pixels, and the
spatial gate's convolution is `row_convolution`. Gradients of the input are added up in one map: each step of
the computation hands the input on, so that in the backward pass the next step's gradient of it is its own.

Shape letters: B batch, C channels, H rows, W columns, M = H * W pixels; 2 is the pair (maximum, mean).
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


class CBAMModule(WithFormula):
    """Base class of CBAM: what the kernel reads."""

    spatial_gate: SpatialGate | None

    def channel_gate(self, mean_BC: Tensor, max_BC: Tensor) -> Tensor:
        """Return the gate of each channel, from its mean and its maximum: (B, C)."""
        raise NotImplementedError


def apply_cbam(module: CBAMModule, x: Tensor, build: Callable[[int], CBAMModule]) -> Tensor:
    """Apply a CBAM module with the chosen kernel; `build` makes the one for the comparison (see `Kernel`)."""
    gate = module.spatial_gate
    in_reach = gate is not None and takes_gate(gate)
    return KERNEL.apply(module, x, gate.conv.kernel_size[0] if gate and in_reach else None, build)


def exact_cbam(module: CBAMModule, x: Tensor) -> Tensor:
    """Apply CBAM with a spatial gate to contiguous maps; differentiable once."""
    gate = module.spatial_gate
    assert gate is not None
    mean_BC, max_BC, x = _ChannelExtremes.apply(x)
    pair_B2HW, x, scale_BC, scaled = _PixelExtremes.apply(x, module.channel_gate(mean_BC, max_BC))
    gate_B1HW = gate.from_convolved(row_convolution(pair_B2HW, gate.conv.weight))
    gated: Tensor = _Gated.apply(x, scale_BC, gate_B1HW, scaled)
    return gated


class _ChannelExtremes(torch.autograd.Function):
    """Mean and maximum of each channel, and the input: (B, C, H, W) -> (B, C), (B, C), (B, C, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_BCM = x.flatten(2)
        maximum, position_BC = x_BCM.max(2)
        ctx.save_for_backward(position_BC)
        return x_BCM.mean(2), maximum, x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mean: Tensor, d_max: Tensor, d_x: Tensor) -> Tensor:
        (position_BC,) = ctx.saved_tensors
        d_x_BCM = d_x.flatten(2)  # of `_PixelExtremes`, which nobody else has
        d_x_BCM += (d_mean / d_x_BCM.shape[2]).unsqueeze(2)
        d_x_BCM.scatter_add_(2, position_BC.unsqueeze(2), d_max.unsqueeze(2))
        return d_x


class _PixelExtremes(torch.autograd.Function):
    """Maximum and mean over the scaled channels, then the inputs and the scaled maps.

    (B, C, H, W), (B, C) -> (B, 2, H, W), (B, C, H, W), (B, C), (B, C, H, W).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        batch, channels, height, width = x.shape
        scaled = x * scale.view(batch, channels, 1, 1)
        scaled_BCM = scaled.flatten(2)
        pair_B2M = x.new_empty(batch, 2, height * width)
        pair_B2M[:, 0], position_BM = channel_maximum(scaled_BCM)
        torch.mean(scaled_BCM, 1, out=pair_B2M[:, 1])
        ctx.mark_non_differentiable(scaled)
        ctx.set_materialize_grads(False)  # that of `scaled` would be a map of zeros
        ctx.save_for_backward(x, scale, position_BM)
        return pair_B2M.view(batch, 2, height, width), x.view_as(x), scale.view_as(scale), scaled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_pair: Tensor, d_x: Tensor, d_scale: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        x, scale, position_BM = ctx.saved_tensors
        d_max_BM, d_mean_BM = d_pair.flatten(2).unbind(1)
        d_mean_BM = d_mean_BM / x.shape[1]
        x_BCM, d_x_BCM = x.flatten(2), d_x.flatten(2)  # of `_Gated`, which nobody else has
        d_scale += torch.bmm(d_mean_BM.unsqueeze(1), x_BCM.transpose(1, 2)).squeeze(1)
        at_max_BM = x_BCM.gather(1, position_BM.unsqueeze(1)).squeeze(1)
        d_scale.scatter_add_(1, position_BM, d_max_BM * at_max_BM)
        d_x_BCM.addcmul_(scale.unsqueeze(2), d_mean_BM.unsqueeze(1))
        d_max_BM = d_max_BM * scale.gather(1, position_BM)
        d_x_BCM.scatter_add_(1, position_BM.unsqueeze(1), d_max_BM.unsqueeze(1))
        return d_x, d_scale


class _Gated(torch.autograd.Function):
    """Product of maps, channel gates and pixel gates: (B, C, H, W), (B, C), (B, 1, H, W) -> (B, C, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, gate: Tensor, scaled: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale, gate)
        ctx.mark_dirty(scaled)
        return scaled.mul_(gate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, scale, gate = ctx.saved_tensors
        product = grad.contiguous() * x
        product_BCM = product.flatten(2)
        d_gate = torch.bmm(scale.unsqueeze(1), product_BCM).view(gate.shape)
        d_scale = torch.bmm(gate.view(len(x), 1, -1), product_BCM.transpose(1, 2)).squeeze(1)
        d_x = torch.mul(grad, gate, out=product).mul_(scale.view(*scale.shape, 1, 1))
        return d_x, d_scale, d_gate, None


KERNEL = Kernel("CBAM", exact_cbam)
