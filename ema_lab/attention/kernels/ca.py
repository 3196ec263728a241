"""Kernel of CA on a CPU: the means and the gating with a hand-written backward, and fewer passes over pixels.

The gradient of the gates needs the product of input and gradient once; the sums over rows and columns are
matrix products, which make no map. The formula makes six maps in its backward pass, this one makes three.

Shape letters: B batch, C channels, H rows, W columns.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ema_lab.attention.kernels.agreement import (
    difference,
    is_watched,
    noise,
    output_and_gradients,
    randomised,
)
from ema_lab.attention.kernels.choice import kernel_on, note

Case = tuple[torch.dtype, int, int]
_trusted: dict[Case, bool] = {}


class CAModule(nn.Module):
    """Base class of CA: what the kernel reads, and the formula that it replaces. CA imports the kernel."""

    squeeze: nn.Conv2d
    norm: nn.BatchNorm2d

    def formula(self, x: Tensor) -> Tensor:
        """Apply the formula, operator by operator."""
        raise NotImplementedError

    def gates(self, means_BCL1: Tensor, size: list[int]) -> tuple[Tensor, Tensor]:
        """Return the gates (B, C, H, 1) of the rows and (B, C, 1, W) of the columns of maps of a size."""
        raise NotImplementedError


Build = Callable[[], CAModule]


def apply_ca(module: CAModule, x: Tensor, build: Build) -> Tensor:
    """Apply a CA module with the chosen kernel; calls out of the kernel's reach use the formula.

    Args:
        module: The module.
        x: Its input.
        build: Builds a module of four channels, with which the kernel is compared before its first use.
    """
    if torch.compiler.is_compiling() or torch._C._is_tracing():  # both see the operators of the formula
        return module.formula(x)
    if kernel_on(x.device.type) != "exact" or not _in_reach(module, x) or not _is_trusted(x, build):
        if x.device.type != "meta":
            note("formula")
        return module.formula(x)
    note("exact")
    return exact_ca(module, x)


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


def _in_reach(module: CAModule, x: Tensor) -> bool:
    """Whether the kernel can stand in for this call."""
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.numel() > 0
        and x.is_contiguous()
        and x.dtype in {torch.float32, torch.float64}
        and x.dtype == module.squeeze.weight.dtype
        and not torch.is_autocast_enabled("cpu")
        and not is_watched()
    )


def _is_trusted(x: Tensor, build: Build) -> bool:
    """Whether the kernel agrees with the formula for maps of this type and size."""
    case = (x.dtype, x.shape[2], x.shape[3])
    if case not in _trusted:
        problem = _problem(case, build)
        _trusted[case] = problem is None
        if problem is not None:
            maps = f"maps {x.shape[2]} x {x.shape[3]} of {x.dtype}"
            text = f"attention kernel exact of CA, {maps}: {problem}; the formula is used"
            warnings.warn(text, RuntimeWarning, stacklevel=3)
    return _trusted[case]


def _problem(case: Case, build: Build) -> str | None:
    """Compare the kernel's output and gradients with the formula on random input; None if they agree."""
    dtype, *size = case
    with torch.inference_mode(mode=False), torch.enable_grad():
        module = _random_module(build)
        x, grad = (noise((2, 4, *size), seed).to(dtype) for seed in (1, 2))
        expected = output_and_gradients(module, module.formula, x.double(), grad.double())
        rounded = module.to(dtype)
        actual = output_and_gradients(rounded, lambda x: exact_ca(rounded, x), x, grad)
    return difference(expected, actual, dtype)


def _random_module(build: Build) -> CAModule:
    with torch.device("meta"):
        module = build()
    module = randomised(module).eval()
    module.norm.reset_running_stats()
    return module
