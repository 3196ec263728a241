"""Kernel of SA on a CPU: both gates and the shuffle with a hand-written backward, in few maps.

One group normalisation gives the means of the first halves and, with the spatial gate's affine map in its
weights, the second halves before the sigmoid. Products are written to their shuffled places. Each block of
images goes through all steps at once, so that intermediate maps stay in the processor's cache.

Shape letters: B images, C channels, H rows, W columns, M = H * W pixels, G groups of all images of a block, P
channels of half a group; 2 is the pair of halves of all channels, which the shuffle interleaves.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ema_lab.attention.kernels.agreement import is_observed
from ema_lab.attention.kernels.trust import Kernel, WithFormula

BLOCK = 2**18  # values of a block of images, or up to twice as many; a larger image is a block of its own
SMALL_IMAGE = 2**10  # values; on so few, calls take longer than the passes that the kernel saves
_sigmoid_backward = torch.ops.aten.sigmoid_backward


class SAModule(WithFormula):
    """Base class of SA with the attributes that the kernel reads."""

    groups: int
    channel_weight: nn.Parameter
    channel_bias: nn.Parameter
    spatial_weight: nn.Parameter
    spatial_bias: nn.Parameter
    norm: nn.GroupNorm


def apply_sa(module: SAModule, x: Tensor, build: Callable[[], SAModule]) -> Tensor:
    """Apply an SA module with the chosen kernel; `build` makes the one for the comparison (see `Kernel`)."""
    kernel = KERNEL if x.shape[1:].numel() > SMALL_IMAGE else ON_SMALL_IMAGES
    return kernel.apply(module, x, 1 if _in_reach(module, x) else None, lambda _: build())


def exact_sa(module: SAModule, x: Tensor) -> Tensor:
    """Apply SA to contiguous maps; differentiable once."""
    weight_P = module.spatial_weight.flatten()
    scale_P = weight_P * module.norm.weight
    shift_P = torch.addcmul(module.spatial_bias.flatten(), weight_P, module.norm.bias)
    channel_gates = (module.channel_weight.view(-1, 1), module.channel_bias.view(-1, 1))
    gated: Tensor = _Gated.apply(x, *channel_gates, scale_P, shift_P, module.norm.eps)
    return gated


def _in_reach(module: SAModule, x: Tensor) -> bool:
    """Return whether nothing observes the normalisation, and the formula accepts the channels."""
    norm = module.norm
    has_channels = x.shape[1] == 2 * norm.num_groups * module.groups  # else the formula raises its error
    return has_channels and type(norm) is nn.GroupNorm and not is_observed(norm)


class _Gated(torch.autograd.Function):
    """Shuffled product of maps and gates: (B, C, H, W) -> (B, C, H, W).

    Weight and bias of the channel gates are (P, 1), scale and shift of the normalised second halves (P,).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor, eps: float
    ) -> Tensor:
        width, pixels = len(scale), x.shape[2] * x.shape[3]
        scale_2P, shift_2P = torch.cat([scale, scale]), torch.cat([shift, shift])
        gated = torch.empty_like(x)
        saved: list[Tensor] = []
        for part, part_gated in _blocks(x, gated):
            sizes = (part.numel() // (2 * width * pixels), 2 * width, pixels)
            gate, mean, rstd = torch.native_group_norm(
                part.view(sizes), scale_2P, shift_2P, sizes[0], sizes[1], pixels, 2 * width, eps
            )
            first_GPM, second_GPM = _pair(gate, width, pixels)
            second_GPM.sigmoid_()
            mean_GP1, _ = _pair(mean, width)
            first_GPM.copy_(torch.addcmul(bias, mean_GP1, weight).sigmoid_())
            gate = gate.view(part.shape)
            torch.mul(_halves(part), _halves(gate), out=_shuffled(part_gated))
            saved += [gate, mean, rstd]
        ctx.save_for_backward(x, weight, scale, *saved)
        return gated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale, *saved = ctx.saved_tensors
        d_x = torch.empty_like(x)
        maps = _blocks(x, grad.contiguous(), d_x)
        of_blocks = [
            _block_gradients(each, gates, weight, scale)
            for each, *gates in zip(maps, saved[::3], saved[1::3], saved[2::3], strict=True)
        ]
        return d_x, *(torch.stack(each).sum(0) for each in zip(*of_blocks, strict=True)), None


def _block_gradients(
    maps: tuple[Tensor, ...], gates: list[Tensor], weight: Tensor, scale: Tensor
) -> tuple[Tensor, ...]:
    """Write the gradient of a block's maps; return those of weight, bias, scale and shift.

    Args:
        maps: Input, gradient of the output, and place of the gradient of the input.
        gates: Gates, means and inverse deviations of the forward pass.
        weight: Of the channel gates.
        scale: Of the normalised second halves.
    """
    (x, grad, d_x), (gate, mean, rstd) = maps, gates
    width, pixels = len(scale), x.shape[2] * x.shape[3]
    product = torch.empty_like(x)
    torch.mul(_shuffled(grad), _halves(x), out=_halves(product))
    gate_GPM, second_gate_GPM = _pair(gate, width, pixels)
    d_first_GPM, d_second_GPM = _pair(product, width, pixels)
    mean_GP1, second_mean_GP1 = _pair(mean, width)
    d_logit_GP1 = _sigmoid_backward(d_first_GPM.sum(2, keepdim=True), gate_GPM[..., :1])
    d_normalised_GPM, d_scale, d_shift = torch.ops.aten.native_group_norm_backward(
        _sigmoid_backward(d_second_GPM, second_gate_GPM),
        _pair(x, width, pixels)[1].contiguous(),
        second_mean_GP1.contiguous(),
        _pair(rstd, width)[1].contiguous(),
        scale,
        *(*d_second_GPM.shape, width),
        [True, True, True],
    )
    d_first_GPM.copy_(d_logit_GP1 * (weight / pixels))
    d_second_GPM.copy_(d_normalised_GPM)
    torch.addcmul(_halves(product), _shuffled(grad), _halves(gate), out=_halves(d_x))
    return (d_logit_GP1 * mean_GP1).sum(0), d_logit_GP1.sum(0), d_scale, d_shift


def _blocks(*maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split maps of the same shape into blocks of images."""
    number = max(1, maps[0].numel() // BLOCK)
    return zip(*(each.chunk(number) for each in maps), strict=True)


def _pair(values: Tensor, width: int, pixels: int = 1) -> tuple[Tensor, ...]:
    """Return the first and the second half of each group of contiguous values: (G, P, pixels) each."""
    return values.view(-1, 2, width, pixels).unbind(1)


def _halves(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 2, C / 2, M)."""
    return maps.view(len(maps), 2, maps.shape[1] // 2, -1)


def _shuffled(maps: Tensor) -> Tensor:
    """Return the places of both halves of all channels after the shuffle, (B, 2, C / 2, M)."""
    return maps.view(len(maps), maps.shape[1] // 2, 2, -1).transpose(1, 2)


KERNEL = Kernel("SA", exact_sa)
# A kernel, too: rows of one choice of kernel have one name in their records, whatever the size of the images.
ON_SMALL_IMAGES: Kernel[SAModule] = Kernel("SA", lambda module, x: module.formula(x))
