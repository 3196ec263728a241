"""EMA by its exact algebra, forward and backward, in plain PyTorch.

Three identities save most passes over the pixels. They hold for norm="instance", cross_spatial="cross", both
branches and a 3x3 kernel:

    1. The spatial mean of a normalised channel is the norm's bias. So w(x1) = softmax(bias) is one vector,
       and w(x1) . x2 is one convolution to one channel, with the kernel w(x1) . local.weight.
    2. The spatial mean of a 3x3 convolution follows from nine window means of its input.
    3. w(x2) . x1 is a weighted sum of the normalised maps: the scale and bias of the norm join the weights.

`matmul` of more than two dimensions is avoided: whether it folds them, and with it the last bits, depends on
`requires_grad`.

Shape letters: B batch x groups, C channels of one group, H rows, W columns, L = H + W, M = H * W, K = 9 taps.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ema_lab.attention.kernels.ema_module import EMAWeights
from ema_lab.attention.kernels.linear_maps import linear_maps
from ema_lab.attention.kernels.many_maps_ema import ManyMapsEMA, is_for_many_maps


def exact_ema(x: Tensor, weights: EMAWeights, groups: int, eps: float) -> Tensor:
    """Apply EMA; differentiable once.

    Args:
        x: Input (batch, channels, H, W), with maps of more than one pixel.
        weights: Parameters of the module, of the same type as the input.
        groups: Channel groups.
        eps: Epsilon of the norm.
    """
    x_BCHW = x.reshape(x.shape[0] * groups, x.shape[1] // groups, *x.shape[2:])
    function = ManyMapsEMA if is_for_many_maps(x_BCHW.shape) else _ExactEMA
    result: Tensor = function.apply(x_BCHW.contiguous(), *weights, eps)
    return result.reshape(x.shape)


class _ExactEMA(torch.autograd.Function):
    """Forward and backward. Names of gradients begin with `d_`; gradients of the output are `grad`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> Tensor:
        weights, eps = EMAWeights(*arguments[:6]), arguments[6]
        batch, channels, height, width = x.shape
        maps = linear_maps(x)
        means_BCL, windows_BCK = maps.means(x)
        gate_BCL = _mix(means_BCL, weights.mix_weight.flatten(1), weights.mix_bias).sigmoid_()
        gated = x * gate_BCL[:, :, :height].unsqueeze(3)
        gated *= gate_BCL[:, :, height:].unsqueeze(2)
        # `var_mean` gives the same moments ten times slower on a CPU.
        normalised, _, inverse_BC = torch.native_group_norm(
            gated, None, None, batch, channels, height * width, channels, eps
        )
        kernel_CK, local_C9 = _folded(weights)
        own_BC = torch.addmm(weights.local_bias, windows_BCK.flatten(1), local_C9.t()).softmax(1)
        offset_B = torch.addmv(weights.norm_bias.softmax(0) @ weights.local_bias, own_BC, weights.norm_bias)
        scale_BC = own_BC * weights.norm_weight
        map_BM = _weighted_sum(scale_BC, normalised.view(batch, channels, -1))
        map_BM += maps.correlate(x, kernel_CK)
        map_BM += offset_B.unsqueeze(1)
        map_BM.sigmoid_()
        saved = (means_BCL, windows_BCK, gate_BCL, normalised, inverse_BC, own_BC, map_BM)
        ctx.save_for_backward(x, *weights, *saved)
        return x * map_BM.view(batch, 1, height, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *others = ctx.saved_tensors
        weights = EMAWeights(*others[:6])
        means_BCL, windows_BCK, gate_BCL, normalised, inverse_BC, own_BC, map_BM = others[6:]
        batch, channels, height, width = x.shape
        maps, pixels = linear_maps(x), height * width
        grad = grad.contiguous()
        kernel_CK, local_C9 = _folded(weights)
        constant_C = weights.norm_bias.softmax(0)

        # The map before its sigmoid, and the terms of the two branches.
        d_map_BM = (grad * x).sum(1).view(batch, pixels).mul_(map_BM * (1 - map_BM))
        total_B1 = d_map_BM.sum(1, keepdim=True)
        hats_BCM = normalised.view(batch, channels, pixels)
        # A row times a matrix: `bmm` is ten times slower with a column on a CPU.
        product_BC = torch.bmm(d_map_BM.unsqueeze(1), hats_BCM.transpose(1, 2)).squeeze(1)
        d_own_BC = torch.addcmul(total_B1 * weights.norm_bias, product_BC, weights.norm_weight)
        d_norm_weight = (own_BC * product_BC).sum(0)
        d_norm_bias = total_B1.squeeze(1) @ own_BC

        # The gated maps: their gradient times the gate, and what of it goes through the gate.
        scale_BC1 = (own_BC * weights.norm_weight * inverse_BC.view(batch, channels)).unsqueeze(2)
        d_x = torch.addcmul(
            scale_BC1 * total_B1.unsqueeze(2) / -pixels,
            hats_BCM,
            scale_BC1 * product_BC.unsqueeze(2) / -pixels,
        )
        d_x = d_x.addcmul_(scale_BC1, d_map_BM.unsqueeze(1)).view_as(x)
        d_x *= gate_BCL[:, :, :height].unsqueeze(3)
        d_x *= gate_BCL[:, :, height:].unsqueeze(2)
        d_gate_BCL = maps.sums(d_x * x).mul_(1 - gate_BCL)
        d_means_BCL = _unmix(d_gate_BCL, weights.mix_weight.flatten(1))
        d_mix_weight = _summed_outer(d_gate_BCL, means_BCL).view_as(weights.mix_weight)

        # The softmax over the window means, and the folded kernel.
        d_logits_BC = own_BC * (d_own_BC - (own_BC * d_own_BC).sum(1, keepdim=True))
        d_kernel_CK = maps.correlation_gradient(x, kernel_CK, d_map_BM, d_x)
        total = total_B1.sum()
        d_constant_C = torch.addmv(weights.local_bias * total, local_C9, d_kernel_CK.flatten())
        d_norm_bias += constant_C * (d_constant_C - constant_C @ d_constant_C)
        d_local_weight = torch.outer(constant_C, d_kernel_CK.flatten())
        d_local_weight.addmm_(d_logits_BC.t(), windows_BCK.flatten(1))
        d_local_bias = d_logits_BC.sum(0) + constant_C * total
        maps.add_means_gradient(d_x, d_means_BCL, (d_logits_BC @ local_C9).view_as(windows_BCK))
        d_x.addcmul_(grad, map_BM.view(batch, 1, height, width))
        return (
            *(d_x, d_mix_weight, d_gate_BCL.sum((0, 2)), d_local_weight.view_as(weights.local_weight)),
            *(d_local_bias, d_norm_weight, d_norm_bias, None),
        )


def _folded(weights: EMAWeights) -> tuple[Tensor, Tensor]:
    """Return the local kernel weighted by w(x1), of shape (C, K), and the local weights as (C, C K)."""
    local_C9 = weights.local_weight.flatten(1)
    return (weights.norm_bias.softmax(0) @ local_C9).view(-1, 9), local_C9


def _mix(means_BCL: Tensor, weight_CC: Tensor, bias_C: Tensor) -> Tensor:
    mixed = torch.addmm(bias_C, means_BCL.transpose(1, 2).flatten(0, 1), weight_CC.t())
    return mixed.view(len(means_BCL), -1, len(bias_C)).transpose(1, 2)


def _unmix(gradient_BCL: Tensor, weight_CC: Tensor) -> Tensor:
    unmixed = gradient_BCL.transpose(1, 2).flatten(0, 1).mm(weight_CC)
    return unmixed.view(len(gradient_BCL), -1, len(weight_CC)).transpose(1, 2)


def _summed_outer(left_BCL: Tensor, right_BCL: Tensor) -> Tensor:
    """Return the sum over maps and positions of left x right, of shape (C, C)."""
    return left_BCL.transpose(0, 1).flatten(1) @ right_BCL.transpose(0, 1).flatten(1).t()


def _weighted_sum(weight_BC: Tensor, value_BCM: Tensor) -> Tensor:
    return torch.bmm(weight_BC.unsqueeze(1), value_BCM).squeeze(1)
