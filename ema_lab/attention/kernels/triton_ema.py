"""EMA by its exact algebra with Triton kernels on CUDA, forward and backward.

The algebra is that of `exact_ema`, in float32 whatever the type of the maps. Products with the weights of
the convolutions lie between the kernels. The backward pass keeps the maps and their gates alone, at most two
input sizes, and computes the rest anew.

Shape letters: N maps (batch x groups), K channels of one group, L = rows + columns, M pixels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ema_lab.attention.kernels.ema_module import EMAWeights

BLOCK = 2048  # values that a program holds of one tensor at a time, if a channel is no larger
LARGEST_CHANNEL = 16384  # values of a channel, each side rounded up to a power of two
VALUES_PER_THREAD = 8
MAPS_PER_PROGRAM = 8  # at most, where there are enough maps to fill the device
PROGRAMS = 4096  # that fill it

Sizes = dict[str, int]


def takes_size(height: int, width: int) -> bool:
    """Whether one channel of a map fits into a program."""
    return _power(height) * _power(width) <= LARGEST_CHANNEL


def triton_ema(x: Tensor, weights: EMAWeights, groups: int, eps: float) -> Tensor:
    """Apply EMA; differentiable once.

    Args:
        x: Input (batch, channels, H, W) in float32, float16 or bfloat16, of a size that `takes_size`.
        weights: Parameters of the module, of any of these types.
        groups: Channel groups.
        eps: Epsilon of the norm.
    """
    if not (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)):
        x = x.contiguous()
    with torch.autocast(x.device.type, enabled=False):
        result: Tensor = _TritonEMA.apply(x, *weights, groups, eps)
    return result


class _TritonEMA(torch.autograd.Function):
    """Forward and backward. Names of gradients begin with `d_`; gradients of the output are `grad`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> Tensor:
        from ema_lab.attention.kernels import triton_kernels

        weights, groups, eps = EMAWeights(*arguments[:6]), *arguments[6:]
        linear = _linear(x, weights, groups)
        gate_type = torch.float32 if x.dtype == torch.float32 else torch.float16
        gate_NM = x.new_empty(len(linear.own_NK), x.shape[2] * x.shape[3], dtype=gate_type)
        output = torch.empty_like(x)
        sizes = _sizes(x, groups)
        triton_kernels.apply[(len(gate_NM),)](
            x, linear.logits, linear.scale_NK, linear.offset_N, linear.kernel_K9, output, gate_NM, eps,
            *x.stride(), **sizes,
        )  # fmt: skip
        ctx.save_for_backward(x, gate_NM, *weights)
        ctx.groups, ctx.eps = groups, eps
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grad.device.type, enabled=False):
            x, gate_NM, *parameters = ctx.saved_tensors
            return *_gradients(x, gate_NM, EMAWeights(*parameters), grad, ctx.groups, ctx.eps), None, None


class _Linear:
    """The linear parts of EMA's maps, and what follows from them without a pass over the pixels."""

    def __init__(self, means: Tensor, windows: Tensor, weights: EMAWeights) -> None:
        self.weights = weights
        self.means, self.windows = means, windows  # (N L, K) and (N, 9 K)
        channels = len(weights.mix_bias)
        self.local = weights.local_weight.reshape(channels, -1)
        self.logits = torch.addmm(weights.mix_bias, means, weights.mix_weight.view(channels, channels).t())
        self.own_NK = torch.addmm(weights.local_bias, windows, self.local.t()).softmax(1)
        self.constant_K = weights.norm_bias.softmax(0)
        self.kernel_K9 = torch.mv(self.local.t(), self.constant_K)
        self.scale_NK = self.own_NK * weights.norm_weight
        self.offset_N = torch.mv(self.own_NK, weights.norm_bias)
        self.offset_N += torch.dot(self.constant_K, weights.local_bias)


def _linear(x: Tensor, weights: EMAWeights, groups: int) -> _Linear:
    from ema_lab.attention.kernels import triton_kernels

    maps, channels = x.shape[0] * groups, x.shape[1] // groups
    means = x.new_empty(maps * (x.shape[2] + x.shape[3]), channels, dtype=torch.float32)
    windows = x.new_empty(maps, 9 * channels, dtype=torch.float32)
    triton_kernels.means[(maps,)](x, means, windows, *x.stride(), **_sizes(x, groups))
    return _Linear(means, windows, EMAWeights(*(weight.float() for weight in weights)))


def _gradients(
    x: Tensor, gate_NM: Tensor, weights: EMAWeights, grad: Tensor, groups: int, eps: float
) -> tuple[Tensor, ...]:
    """Return the gradients of the input and of the weights."""
    from ema_lab.attention.kernels import triton_kernels

    if grad.stride() != x.stride():
        grad = torch.empty_like(x).copy_(grad)
    sizes, linear = _sizes(x, groups), _linear(x, weights, groups)
    maps, channels = linear.own_NK.shape
    d_map_NM = torch.empty_like(gate_NM, dtype=torch.float32)
    d_total_N, product_NK = torch.empty_like(linear.offset_N), torch.empty_like(linear.own_NK)
    d_logits, factors = torch.empty_like(linear.logits), linear.own_NK.new_empty(maps, 3, channels)
    triton_kernels.gate_gradient[(maps,)](
        x, grad, linear.logits, linear.scale_NK, gate_NM, d_map_NM, d_total_N, d_logits, product_NK, factors,
        eps, *x.stride(), **sizes,
    )  # fmt: skip

    exact = linear.weights
    d_own_NK = torch.addcmul(torch.outer(d_total_N, exact.norm_bias), product_NK, exact.norm_weight)
    d_own_logits_NK = linear.own_NK * (d_own_NK - (linear.own_NK * d_own_NK).sum(1, keepdim=True))
    d_means = torch.mm(d_logits, exact.mix_weight.view(channels, channels))
    d_windows = torch.mm(d_own_logits_NK, linear.local)

    per_program = max(1, min(MAPS_PER_PROGRAM, maps // PROGRAMS))
    programs = -(-maps // per_program)
    d_x, d_kernels = torch.empty_like(x), x.new_empty(programs, 9 * channels, dtype=torch.float32)
    triton_kernels.input_gradient[(programs,)](
        x, grad, linear.logits, gate_NM, d_map_NM, d_means, d_windows, factors, linear.kernel_K9, d_x,
        d_kernels, maps, *x.stride(), PER=per_program, **sizes,
    )  # fmt: skip

    d_kernel, d_total = d_kernels.sum(0), d_total_N.sum()
    d_constant_K = torch.addmv(exact.local_bias * d_total, linear.local, d_kernel)
    d_bias = linear.constant_K * (d_constant_K - torch.dot(linear.constant_K, d_constant_K))
    d_local = torch.outer(linear.constant_K, d_kernel).addmm_(d_own_logits_NK.t(), linear.windows)
    d_weights = EMAWeights(
        torch.mm(d_logits.t(), linear.means),
        d_logits.sum(0),
        d_local,
        d_own_logits_NK.sum(0) + linear.constant_K * d_total,
        (linear.own_NK * product_NK).sum(0),
        torch.addmv(d_bias, linear.own_NK.t(), d_total_N),
    )
    return d_x, *(new.view_as(old).to(old.dtype) for new, old in zip(d_weights, weights, strict=True))


def _sizes(x: Tensor, groups: int) -> Sizes:
    """Return the constants of a launch: the sizes of the maps, the blocks, and the number of warps."""
    channels, height, width = x.shape[1] // groups, *x.shape[2:]
    pixels = _power(height) * _power(width)
    block = min(_power(channels), max(1, BLOCK // pixels))
    threads = block * pixels // VALUES_PER_THREAD
    return {
        "K": channels,
        "H": height,
        "W": width,
        "GROUPS": groups,
        "KB": block,
        "NB": -(-channels // block),
        "HP": _power(height),
        "WP": _power(width),
        "num_warps": max(1, min(16, threads // 32)),
    }


def _power(number: int) -> int:
    """Return the next power of two."""
    return 1 << (number - 1).bit_length()
