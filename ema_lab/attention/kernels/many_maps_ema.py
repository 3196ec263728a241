"""EMA by its exact algebra for many small maps, as one matrix product, in plain PyTorch.

All that EMA computes linearly from a map (the logits of the gates, those of the channel weights, and the term
of the local branch) is one matrix times the map: one product for all maps, and two in the backward pass. The
maps are the last dimension, so that what is broadcast along rows, columns or channels runs over long rows of
memory.

Shape letters: N maps (batch x groups), C channels of one group, H rows, W columns, L = H + W, M = H * W
pixels, R = C L + C + M rows of the matrix, G = C L, P = C M.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ema_lab.attention.kernels.ema_module import EMAWeights
from ema_lab.attention.kernels.linear_maps import SMALL_MAP, small_maps

FEW_MAPS = 64  # below, rows of N values are too short to pay
MANY_ROWS = 192  # above, the product costs more than passes over the pixels

_sigmoid_gradient = torch.ops.aten.sigmoid_backward.grad_input
_softmax_gradient = torch.ops.aten._softmax_backward_data


def is_for_many_maps(shape: tuple[int, ...] | torch.Size) -> bool:
    """Whether maps (N, C, H, W) are many and small."""
    maps, channels, height, width = shape
    rows = channels * (height + width) + channels + height * width
    return maps >= FEW_MAPS and height * width <= SMALL_MAP and rows <= MANY_ROWS


class ManyMapsEMA(torch.autograd.Function):
    """EMA of contiguous maps (N, C, H, W). Gradients begin with `d_`; gradients of the output are `grad`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> Tensor:
        weights, eps = EMAWeights(*arguments[:6]), arguments[6]
        maps, channels, height, width = x.shape
        pixels = height * width
        constant_C = weights.norm_bias.softmax(0)
        matrix_RP, bias_R1 = _linear_part(weights, constant_C, _constants(height, width, x.dtype, x.device))
        x_PN = x.view(maps, -1).t().contiguous()
        linear_RN = torch.addmm(bias_R1, matrix_RP, x_PN)
        gate_GN, logits_CN, map_MN = linear_RN.split(_parts(channels, height, width))
        rows, columns = gate_GN.sigmoid_().view(channels, -1, 1, maps).split([height, width], 1)
        own_CN = logits_CN.softmax(0)
        gated = x_PN.view(channels, height, width, maps) * rows
        gated *= columns.view(channels, 1, width, maps)
        gated_CMN, buffer = gated.view(channels, pixels, maps), x_PN.view(channels, pixels, maps)
        mean_C1N = gated_CMN.mean(1, keepdim=True)
        torch.sub(gated_CMN, mean_C1N, out=buffer)
        inverse_C1N = buffer.square().mean(1, keepdim=True).add_(eps).rsqrt_()
        scale_C1N = (own_CN * weights.norm_weight.unsqueeze(1)).unsqueeze(1).mul_(inverse_C1N)
        map_MN += buffer.mul_(scale_C1N).sum(0)
        map_MN += torch.mv(own_CN.t(), weights.norm_bias)
        map_N1M = map_MN.sigmoid_().t().contiguous().view(maps, 1, pixels)
        kept = (matrix_RP, constant_C, linear_RN, own_CN, gated_CMN, mean_C1N)
        ctx.save_for_backward(x, *weights, *kept, inverse_C1N, scale_C1N, map_N1M)
        output: Tensor = (x.view(maps, channels, pixels) * map_N1M).view(x.shape)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *others = ctx.saved_tensors
        weights = EMAWeights(*others[:6])
        matrix_RP, constant_C, linear_RN, own_CN, gated_CMN, mean_C1N, *more = others[6:]
        inverse_C1N, scale_C1N, map_N1M = more
        maps, channels, height, width = x.shape
        pixels, parts = height * width, _parts(channels, height, width)
        x_NCM, grad_NCM = x.view(maps, channels, pixels), grad.reshape(maps, channels, pixels)
        gate_GN, _, map_MN = linear_RN.split(parts)
        d_linear_RN = torch.empty_like(linear_RN)
        d_gate_GN, d_logits_CN, d_map_MN = d_linear_RN.split(parts)

        # The map before its sigmoid, and the weights of the normalised channels.
        d_x_NCM = grad_NCM * x_NCM
        _sigmoid_gradient(d_x_NCM.sum(1).t(), map_MN, grad_input=d_map_MN)
        buffer = d_x_NCM.view(channels, pixels, maps)
        total_1N = d_map_MN.sum(0, keepdim=True)
        product_C1N = torch.mul(gated_CMN, d_map_MN, out=buffer).sum(1, keepdim=True)
        product_C1N.addcmul_(mean_C1N, total_1N, value=-1).mul_(inverse_C1N)
        product_CN = product_C1N.squeeze(1)
        d_own_CN = torch.outer(weights.norm_bias, total_1N.squeeze(0))
        d_own_CN.addcmul_(product_CN, weights.norm_weight.unsqueeze(1))
        d_logits_CN.copy_(_softmax_gradient(d_own_CN, own_CN, 0, own_CN.dtype))
        d_norm_weight = (own_CN * product_CN).sum(1)
        d_norm_bias = torch.mv(own_CN, total_1N.squeeze(0))

        # The gated maps: their gradient, what of it goes through the gate, and what through the pixels.
        slope_C1N = product_C1N.mul_(inverse_C1N).mul_(scale_C1N).div_(-pixels)
        constant_C1N = torch.addcmul(mean_C1N * slope_C1N, scale_C1N, total_1N, value=1 / pixels).neg_()
        d_gated_CMN = torch.addcmul(constant_C1N, gated_CMN, slope_C1N).addcmul_(scale_C1N, d_map_MN)
        through_gate = torch.mul(d_gated_CMN, gated_CMN, out=buffer).view(channels, height, width, maps)
        d_rows, d_columns = d_gate_GN.view(channels, -1, maps).split([height, width], 1)
        torch.sum(through_gate, 2, out=d_rows)
        torch.sum(through_gate, 1, out=d_columns)
        d_gate_GN.addcmul_(d_gate_GN, gate_GN, value=-1)
        rows, columns = gate_GN.view(channels, -1, 1, maps).split([height, width], 1)
        d_gated = d_gated_CMN.view_as(through_gate)
        d_gated *= rows
        d_gated *= columns.view(channels, 1, width, maps)
        d_x_NP = d_x_NCM.view(maps, -1).copy_(d_gated_CMN.view(-1, maps).t())
        d_x_NP.addmm_(d_linear_RN.t(), matrix_RP)
        d_x_NCM.addcmul_(grad_NCM, map_N1M)

        d_matrix_RP, d_bias_R = torch.mm(d_linear_RN, x.view(maps, -1)), d_linear_RN.sum(1)
        constants = _constants(height, width, x.dtype, x.device)
        through_matrix = _weight_gradients(
            weights, constant_C, constants, d_matrix_RP.split(parts), d_bias_R.split(parts)
        )
        d_norm_bias += through_matrix.norm_bias
        d_weights = through_matrix._replace(norm_weight=d_norm_weight, norm_bias=d_norm_bias)
        return d_x_NCM.view(x.shape), *d_weights, None


class _Constants(NamedTuple):
    """Matrices over the pixels: means of rows and columns, means of windows, taps of each output pixel."""

    means: Tensor  # (L, 1, M)
    windows: Tensor  # (K, M)
    taps: Tensor  # (K, Q), Q = output pixel x pixel


@lru_cache(maxsize=64)
def _constants(height: int, width: int, dtype: torch.dtype, device: torch.device) -> _Constants:
    maps = small_maps(height, width, dtype, device)
    with torch.inference_mode(mode=False):
        means_LM, windows_KM = maps.means_ML.t().contiguous().split([height + width, 9])
        return _Constants(means_LM.unsqueeze(1), windows_KM, maps.taps_KMM.transpose(1, 2).flatten(1))


def _parts(channels: int, height: int, width: int) -> list[int]:
    """Return the numbers of rows of the gates' logits, of the channel weights' logits, and of the map."""
    return [channels * (height + width), channels, height * width]


def _linear_part(weights: EMAWeights, constant_C: Tensor, constants: _Constants) -> tuple[Tensor, Tensor]:
    """Return the matrix of the linear part and its biases, of shapes (R, P) and (R, 1)."""
    channels, (sides, _, pixels) = len(constant_C), constants.means.shape
    local_C9, local_D9 = weights.local_weight.view(channels, -1), weights.local_weight.view(-1, 9)
    folded_CK = torch.mv(local_C9.t(), constant_C).view(channels, 9)
    gates = weights.mix_weight.view(channels, 1, channels, 1) * constants.means
    logits = torch.mm(local_D9, constants.windows)
    local = torch.mm(folded_CK, constants.taps).view(channels, pixels, pixels).transpose(0, 1)
    size = channels * pixels
    matrix_RP = torch.cat([gates.view(-1, size), logits.view(-1, size), local.reshape(-1, size)])
    bias_C = weights.mix_bias.unsqueeze(1).expand(-1, sides).reshape(-1)
    bias_R = torch.cat([bias_C, weights.local_bias, torch.dot(constant_C, weights.local_bias).expand(pixels)])
    return matrix_RP, bias_R.unsqueeze(1)


def _weight_gradients(
    weights: EMAWeights,
    constant_C: Tensor,
    constants: _Constants,
    d_matrix: tuple[Tensor, ...],
    d_bias: tuple[Tensor, ...],
) -> EMAWeights:
    """Return the gradients of the weights through the linear part, which does not use `norm_weight`."""
    channels, (sides, _, pixels) = len(constant_C), constants.means.shape
    gates, logits, local = d_matrix
    total = d_bias[2].sum()
    d_taps_CQ = local.view(pixels, channels, pixels).transpose(0, 1).reshape(channels, -1)
    d_folded = torch.mm(d_taps_CQ, constants.taps.t()).view(-1)
    d_local_weight = torch.outer(constant_C, d_folded).view(-1, 9)
    d_local_weight.addmm_(logits.view(-1, pixels), constants.windows.t())
    local_C9 = weights.local_weight.view(channels, -1)
    d_constant_C = torch.addmv(weights.local_bias * total, local_C9, d_folded)
    return EMAWeights(
        (gates.view(channels, sides, channels, pixels) * constants.means)
        .sum((1, 3))
        .view_as(weights.mix_weight),
        d_bias[0].view(channels, sides).sum(1),
        d_local_weight.view_as(weights.local_weight),
        torch.addcmul(d_bias[1], constant_C, total),
        constant_C,
        _softmax_gradient(d_constant_C, constant_C, 0, constant_C.dtype),
    )
