"""Kernels of EMA: which one a call uses, and the check against the formula before the first use."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ema_lab.attention.kernels.choice import kernel_on, note
from ema_lab.attention.kernels.exact_ema import EMAWeights, exact_ema

if TYPE_CHECKING:
    from ema_lab.attention.ema import EMA

Kernel = Callable[[Tensor, EMAWeights, float], Tensor]
# Largest difference to the formula in float64, per tensor: a share of the tensor's largest value plus FLOOR.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3}
FLOOR = 0.1
_trusted: dict[tuple[object, ...], bool] = {}


def apply_ema(module: "EMA", x: Tensor) -> Tensor:
    """Apply an EMA module with the chosen kernel; calls out of the kernel's reach use the formula."""
    if torch.compiler.is_compiling() or torch._C._is_tracing():  # both see the operators of the formula
        return module.formula(x)
    name = kernel_on(x.device.type)
    if name == "formula" or not _in_reach(module, x):
        if x.device.type != "meta":
            note("formula")
        return module.formula(x)
    x_BCHW = x.reshape(x.shape[0] * module.groups, x.shape[1] // module.groups, *x.shape[2:])
    if not _is_trusted(name, x_BCHW):
        note("formula")
        return module.formula(x)
    note(name)
    return kernel(name)(x_BCHW, _weights(module), _eps(module)).reshape(x.shape)


def kernel(name: str) -> Kernel:
    """Return the function of a kernel: `exact`."""
    return {"exact": exact_ema}[name]


def _in_reach(module: "EMA", x: Tensor) -> bool:
    """Whether the exact algebra holds for a module's options, and a kernel can stand in for this call."""
    mix, local, norm = module.mix, module.local, module.norm
    if mix is None or local is None or norm is None or module.cross_spatial != "cross":
        return False
    if local.kernel_size != (3, 3) or norm.num_groups != norm.num_channels or x.dim() != 4:
        return False
    return (
        x.dtype in TOLERANCES
        and x.dtype == mix.weight.dtype
        and x.shape[0] > 0
        and x.shape[2] * x.shape[3] > 1  # the formula refuses some maps of one pixel
        and not torch.is_autocast_enabled(x.device.type)
        and all(_is_plain(part) for part in (mix, local, norm))
        and not _is_watched()
    )


def _is_plain(part: nn.Module) -> bool:
    """Whether a submodule is torch's own layer, and nothing observes its call."""
    hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks)
    return type(part) in {nn.Conv2d, nn.GroupNorm} and not any(hooks)


def _is_watched() -> bool:
    """Whether something sees each operator of the formula: a counter of FLOPs, or a functorch transform."""
    return torch._C._len_torch_dispatch_stack() > 0 or torch._C._are_functorch_transforms_active()


def _weights(module: "EMA") -> EMAWeights:
    parts = (module.mix, module.local, module.norm)
    return EMAWeights(*(tensor for part in parts if part is not None for tensor in (part.weight, part.bias)))  # type: ignore[arg-type]


def _eps(module: "EMA") -> float:
    assert module.norm is not None
    return module.norm.eps


def _is_trusted(name: str, x_BCHW: Tensor) -> bool:
    """Whether a kernel agrees with the formula on this device, type and size. Each is tried once."""
    key = (name, x_BCHW.device, x_BCHW.dtype, *x_BCHW.shape[1:])
    if key not in _trusted:
        if x_BCHW.is_cuda and torch.cuda.is_current_stream_capturing():
            return False  # the check waits for the device, which a captured graph must not
        problem = _problem(name, x_BCHW)
        _trusted[key] = problem is None
        if problem is not None:
            size = " x ".join(str(side) for side in x_BCHW.shape[1:])
            text = f"attention kernel {name} on {x_BCHW.device}, maps {size} of {x_BCHW.dtype}: {problem}"
            warnings.warn(f"{text}; the formula is used", RuntimeWarning, stacklevel=3)
    return _trusted[key]


def _problem(name: str, x_BCHW: Tensor) -> str | None:
    """Compare a kernel's output and gradients with the formula on random input; None if they agree."""
    device = x_BCHW.device
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        module = _random_module(x_BCHW.shape[1]).to(device)
        shape = (3, 2 * x_BCHW.shape[1], *x_BCHW.shape[2:])
        x, grad = (_noise(shape, seed).to(device, x_BCHW.dtype) for seed in (1, 2))
        expected = _output_and_gradients(module, module.formula, x.double(), grad.double())
        try:
            rounded = module.to(x_BCHW.dtype)
            function = kernel(name)

            def fast(x: Tensor) -> Tensor:
                maps = x.reshape(3 * rounded.groups, -1, *shape[2:])
                return function(maps, _weights(rounded), _eps(rounded)).reshape(shape)

            actual = _output_and_gradients(rounded, fast, x, grad)
        except Exception as error:  # a compiler of kernels raises anything
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    for part, value in expected.items():
        allowed = TOLERANCES[x_BCHW.dtype] * (value.abs().max().item() + FLOOR)
        difference = (actual[part].double() - value).abs().max().item()
        if not difference <= allowed:  # NaN is a difference, too
            return f"{part} differs from the formula by {difference:.1e}, at most {allowed:.1e} is allowed"
    return None


def _random_module(width: int) -> "EMA":
    """Return a module of two groups with random float64 weights; torch's generators keep their state."""
    from ema_lab.attention.ema import EMA

    with torch.device("meta"):
        module = EMA(2 * width, groups=2)
    module = module.double().to_empty(device="cpu")
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters(), start=3):
            # Rounded to bf16, so that a kernel and the formula in float64 see the same numbers.
            parameter.copy_((_noise(parameter.shape, seed) / parameter[0].numel() ** 0.5).bfloat16())
    return module


def _noise(shape: tuple[int, ...] | torch.Size, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _output_and_gradients(
    module: "EMA", function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor
) -> dict[str, Tensor]:
    x = x.detach().requires_grad_()
    output = function(x)
    named = {"the input": x, **dict(module.named_parameters())}
    gradients = torch.autograd.grad(output, list(named.values()), grad)
    return {
        "the output": output.detach(),
        **{f"the gradient of {name}": gradient for name, gradient in zip(named, gradients, strict=True)},
    }
