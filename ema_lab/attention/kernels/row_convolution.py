"""Convolution of a pair of maps to one map, as matrix products over whole rows, in plain PyTorch.

Libraries of convolutions work on blocks of channels, and here are two and one: their backward pass takes
most of the time of CBAM on small channel counts. A row of the output is the k rows of the input around it,
of both maps, times one band matrix for all rows of all images.

Shape letters: B batch, 2 input maps, H rows, W columns, K rows and columns of the kernel, 1 output map.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ema_lab.attention.kernels.agreement import is_observed
from ema_lab.attention.spatial_gate import SpatialGate


def row_convolution(pair_B2HW: Tensor, weight_12KK: Tensor) -> Tensor:
    """Convolve with an odd kernel and zero padding, so that the size stays; differentiable once."""
    if pair_B2HW.shape[2] < pair_B2HW.shape[3]:  # the band matrices grow with the square of the width
        return _convolved(pair_B2HW.transpose(2, 3), weight_12KK.transpose(2, 3)).transpose(2, 3)
    return _convolved(pair_B2HW, weight_12KK)


def takes_gate(gate: SpatialGate) -> bool:
    """Whether `row_convolution` can stand in for the convolution of a gate: nothing observes the call."""
    is_plain = type(gate) is SpatialGate and type(gate.conv) is nn.Conv2d
    return is_plain and not is_observed(gate) and not is_observed(gate.conv)


def _convolved(pair: Tensor, weight: Tensor) -> Tensor:
    result: Tensor = _RowConvolution.apply(pair, weight)
    return result


class _RowConvolution(torch.autograd.Function):
    """(B, 2, H, W), (1, 2, K, K) -> (B, 1, H, W)."""

    @staticmethod
    def forward(ctx: Any, pair: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(pair, weight)
        batch, _, height, width = pair.shape
        matrix_K2WW = _bands(weight, width)
        rows = _rows_around(pair, weight.shape[2])
        return rows.mm(matrix_K2WW.flatten(0, 2)).view(batch, 1, height, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        pair, weight = ctx.saved_tensors
        side, width = weight.shape[2], pair.shape[3]
        flipped = _bands(weight, width).flip(0).permute(0, 3, 1, 2).reshape(side * width, 2 * width)
        d_pair = _rows_around(grad, side).mm(flipped).view(len(pair), -1, 2, width).transpose(1, 2)
        d_matrix = _rows_around(pair, side).t().mm(grad.reshape(-1, width))
        bands_KQ = _band_of_each_column(side, width, weight.dtype, weight.device)
        d_weight = d_matrix.view(side, 2, -1).transpose(0, 1).reshape(2 * side, -1).mm(bands_KQ.t())
        return d_pair, d_weight.view(weight.shape)


def _rows_around(maps: Tensor, side: int) -> Tensor:
    """Return each row of all maps with the `side - 1` rows around it: (B, C, H, W) -> (B H, K C W)."""
    batch, channels, height, width = maps.shape
    row = channels * width
    padded = maps.new_zeros(batch, height + side - 1, channels, width)
    padded[:, side // 2 : side // 2 + height] = maps.transpose(1, 2)
    windows = padded.as_strided((batch, height, side * row), ((height + side - 1) * row, row, 1))
    return windows.reshape(batch * height, side * row)


def _bands(weight: Tensor, width: int) -> Tensor:
    """Return the matrix from input rows to an output row, of shape (K, 2, W, W)."""
    side = weight.shape[2]
    bands_KQ = _band_of_each_column(side, width, weight.dtype, weight.device)
    return (
        weight.reshape(2, side, side)
        .transpose(0, 1)
        .reshape(-1, side)
        .mm(bands_KQ)
        .view(side, 2, width, width)
    )


@lru_cache(maxsize=64)
def _band_of_each_column(side: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return which column of the kernel joins an input and an output column: (K, W W), ones and zeros."""
    with torch.inference_mode(mode=False):
        columns = torch.arange(width, device=device)
        apart = columns.unsqueeze(1) - columns + side // 2
        return (apart.flatten() == torch.arange(side, device=device).unsqueeze(1)).to(dtype)
