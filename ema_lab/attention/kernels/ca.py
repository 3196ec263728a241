"""Kernel of CA on a CPU: the means and the gating with a hand-written backward, and fewer passes over pixels.

The gradient of the gates needs the product of input and gradient once; the sums over rows and columns are
matrix products, which make no map. The formula makes six maps in its backward pass, this one makes three.

Shape letters: B batch, C channels, H rows, W columns.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ema_lab.attention.kernels.trust import Kernel, WithFormula


class CAModule(WithFormula):
    """Base class of CA: what the kernel reads."""

    squeeze: nn.Conv2d
    norm: nn.BatchNorm2d

    def gates(self, means_BCL1: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
        """Return the gates (B, C, H, 1) of the rows and (B, C, 1, W) of the columns of maps of a size."""
        raise NotImplementedError


def apply_ca(module: CAModule, x: Tensor, build: Callable[[], CAModule]) -> Tensor:
    """Apply a CA module with the chosen kernel; `build` makes the one for the comparison (see `Kernel`)."""
    return KERNEL.apply(module, x, 1, lambda _: build())


def exact_ca(module: CAModule, x: Tensor) -> Tensor:
    """Apply CA to contiguous maps; differentiable once."""
    rows_BCH, columns_BCW = _Means.apply(x)
    gates = module.gates(torch.cat([rows_BCH, columns_BCW], dim=2).unsqueeze(3), list(x.shape[2:]))
    gated: Tensor = _Gated.apply(x, *gates)
    return gated


class _Means(torch.autograd.Function):
    """Row means and column means: (B, C, H, W) -> (B, C, H), (B, C, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.size = x.shape[2:]
        return x.mean(3), x.mean(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_rows: Tensor, d_columns: Tensor) -> Tensor:
        height, width = ctx.size
        grad: Tensor = (d_rows / width).unsqueeze(3) + (d_columns / height).unsqueeze(2)
        return grad


class _Gated(torch.autograd.Function):
    """Product of maps, row gates and column gates: (B, C, H, W), (B, C, H, 1), (B, C, 1, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(x, rows, columns)
        return (rows * columns).mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, rows, columns = ctx.saved_tensors
        batch, channels, height, width = x.shape
        product = grad.contiguous() * x
        maps = product.view(batch * channels, height, width)
        # A row times a matrix: `bmm` is several times slower with a column on a CPU.
        d_rows = torch.bmm(columns.reshape(-1, 1, width), maps.transpose(1, 2)).view(rows.shape)
        d_columns = torch.bmm(rows.reshape(batch * channels, 1, height), maps).view(columns.shape)
        return torch.mul(rows, columns, out=product).mul_(grad), d_rows, d_columns


KERNEL = Kernel("CA", exact_ca)
