"""Kernels of EMA: which one a call uses, and the check against the formula before the first use."""

import warnings
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ema_lab.attention.kernels.agreement import (
    disagreement,
    is_observed,
    is_watched,
    noise,
    output_and_gradients,
    randomised,
)
from ema_lab.attention.kernels.choice import kernel_on, note
from ema_lab.attention.kernels.ema_module import EMAModule, EMAWeights
from ema_lab.attention.kernels.exact_ema import exact_ema
from ema_lab.attention.kernels.many_maps_ema import FEW_MAPS, is_for_many_maps
from ema_lab.attention.kernels.triton_ema import takes_size, triton_ema

Kernel = Callable[[Tensor, EMAWeights, int, float], Tensor]


class Build(Protocol):
    """Constructor of an EMA module."""

    def __call__(self, channels: int, *, groups: int) -> EMAModule: ...


TYPES = {
    "exact": (torch.float64, torch.float32),
    "triton": (torch.float32, torch.float16, torch.bfloat16),
}


class _Case(NamedTuple):
    """Key of a comparison with the formula: all that selects a kernel's code."""

    name: str
    device: torch.device
    dtype: torch.dtype
    width: int  # channels of a group
    size: tuple[int, ...]
    is_for_many_maps: bool
    is_channels_last: bool


_trusted: dict[_Case, bool] = {}


def apply_ema(module: EMAModule, x: Tensor, build: Build) -> Tensor:
    """Apply an EMA module with the chosen kernel; calls out of the kernel's reach use the formula.

    Args:
        module: The module.
        x: Its input.
        build: Builds the module with which a kernel is compared before its first use.
    """
    if torch.compiler.is_compiling() or torch._C._is_tracing():  # both see the operators of the formula
        return module.formula(x)
    name = kernel_on(x.device.type)
    case = None if name == "formula" or not _in_reach(name, module, x) else _case(name, module, x)
    if case is None or not _is_trusted(case, build):
        if x.device.type != "meta":
            note("formula")
        return module.formula(x)
    note(name)
    return kernel(name)(x, _weights(module), module.groups, _eps(module))


def kernel(name: str) -> Kernel:
    """Return the function of a kernel: `exact` or `triton`."""
    return {"exact": exact_ema, "triton": triton_ema}[name]


def _in_reach(name: str, module: EMAModule, x: Tensor) -> bool:
    """Whether the exact algebra holds for a module's options, and a kernel can replace this call."""
    mix, local, norm = module.mix, module.local, module.norm
    if mix is None or local is None or norm is None or module.cross_spatial != "cross":
        return False
    if local.kernel_size != (3, 3) or norm.num_groups != norm.num_channels or x.dim() != 4:
        return False
    return (
        _takes_types(name, x, mix.weight.dtype)
        and x.shape[0] > 0
        and x.shape[1] == mix.in_channels * module.groups  # the formula says what is wrong
        and x.shape[2] * x.shape[3] > 1  # the formula refuses some maps of one pixel
        and (name != "triton" or takes_size(*x.shape[2:]))
        and all(_is_plain(part) for part in (mix, local, norm))
        and not is_watched()
    )


def _takes_types(name: str, x: Tensor, weights: torch.dtype) -> bool:
    """Whether a kernel computes what the formula does in these types; mixed precision is for Triton alone."""
    if x.dtype not in TYPES[name]:
        return False
    device_type = x.device.type
    if not torch.is_autocast_enabled(device_type):
        return x.dtype == weights
    mixed = (torch.float32, torch.get_autocast_dtype(device_type))
    return name == "triton" and weights == torch.float32 and x.dtype in mixed


def _is_plain(part: nn.Module) -> bool:
    """Whether a submodule is torch's own layer, and nothing observes its call."""
    return type(part) in {nn.Conv2d, nn.GroupNorm} and not is_observed(part)


def _weights(module: EMAModule) -> EMAWeights:
    parts = (module.mix, module.local, module.norm)
    return EMAWeights(*(tensor for part in parts if part is not None for tensor in (part.weight, part.bias)))  # type: ignore[arg-type]


def _eps(module: EMAModule) -> float:
    assert module.norm is not None
    return module.norm.eps


def _case(name: str, module: EMAModule, x: Tensor) -> _Case:
    batch, channels, *size = x.shape
    width = channels // module.groups
    return _Case(
        *(name, x.device, x.dtype, width, tuple(size)),
        is_for_many_maps=name == "exact" and is_for_many_maps((batch * module.groups, width, *size)),
        is_channels_last=name == "triton" and _is_channels_last(x),
    )


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _is_trusted(case: _Case, build: Build) -> bool:
    """Whether a kernel agrees with the formula in a case."""
    if case not in _trusted:
        if case.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return False  # the comparison reads values from the device
        problem = _problem(case, build)
        _trusted[case] = problem is None
        if problem is not None:
            maps = " x ".join(str(side) for side in (case.width, *case.size))
            text = f"attention kernel {case.name} on {case.device}, maps {maps} of {case.dtype}: {problem}"
            warnings.warn(f"{text}; the formula is used", RuntimeWarning, stacklevel=3)
    return _trusted[case]


def _problem(case: _Case, build: Build) -> str | None:
    """Compare a kernel's output and gradients with the formula on random input; None if they agree."""
    layout = torch.channels_last if case.is_channels_last else torch.contiguous_format
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.autocast(case.device.type, enabled=False),
    ):
        module = _random_module(case.width, build).to(case.device)
        shape = (FEW_MAPS if case.is_for_many_maps else 2, 2 * case.width, *case.size)
        x, grad = (
            noise(shape, seed).to(case.device, case.dtype).contiguous(memory_format=layout) for seed in (1, 2)
        )
        expected = output_and_gradients(module, module.formula, x.double(), grad.double())
        rounded = module.to(case.dtype)
        function = kernel(case.name)

        def fast(x: Tensor) -> Tensor:
            return function(x, _weights(rounded), rounded.groups, _eps(rounded))

        return disagreement(expected, rounded, fast, x, grad)


def _random_module(width: int, build: Build) -> EMAModule:
    """Return a module of two groups with random float64 weights; torch's generators keep their state."""
    with torch.device("meta"):
        module = build(2 * width, groups=2)
    return randomised(module)
