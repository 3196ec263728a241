"""Comparison of a kernel with its module's formula, which each process makes before the first use."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

# Largest difference to the formula in float64, per tensor: a share of the tensor's largest value plus FLOOR.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 5e-3, torch.bfloat16: 2e-2}
FLOOR = 0.1
Module = TypeVar("Module", bound=nn.Module)


def is_watched() -> bool:
    """Whether something sees each operator of the formula: a counter of FLOPs, or a functorch transform."""
    return torch._C._len_torch_dispatch_stack() > 0 or torch._C._are_functorch_transforms_active()


def noise(shape: tuple[int, ...] | torch.Size, seed: int) -> Tensor:
    """Return normal numbers on the CPU; torch's generators keep their state."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomised(module: Module) -> Module:
    """Return a module without values (on the meta device) as a float64 module with random parameters."""
    module = module.double().to_empty(device="cpu")
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters(), start=3):
            # Rounded to bf16, so that a kernel and the formula in float64 see the same numbers.
            parameter.copy_((noise(parameter.shape, seed) / parameter[0].numel() ** 0.5).bfloat16())
    return module


def output_and_gradients(
    module: nn.Module, function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor
) -> dict[str, Tensor]:
    """Return a function's output and the gradients of its input and of a module's parameters, by name."""
    x = x.detach().requires_grad_()
    output = function(x)
    named = {"the input": x, **dict(module.named_parameters())}
    gradients = torch.autograd.grad(output, list(named.values()), grad)
    return {
        "the output": output.detach(),
        **{f"the gradient of {name}": gradient for name, gradient in zip(named, gradients, strict=True)},
    }


def difference(
    expected: Mapping[str, Tensor], actual: Mapping[str, Tensor], dtype: torch.dtype
) -> str | None:
    """Return the first tensor that differs from the formula's by more than rounding; None if none does."""
    for part, value in expected.items():
        allowed = TOLERANCES[dtype] * (value.abs().max().item() + FLOOR)
        off = (actual[part].double() - value).abs().max().item()
        if not off <= allowed:  # NaN is a difference, too
            return f"{part} differs from the formula by {off:.1e}, at most {allowed:.1e} is allowed"
    return None


def is_observed(module: nn.Module) -> bool:
    """Return whether a hook observes the calls of a module, which a kernel does not make."""
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    return any((*hooks, module._backward_hooks, module._backward_pre_hooks))


def disagreement(
    expected: Mapping[str, Tensor],
    module: nn.Module,
    kernel: Callable[[Tensor], Tensor],
    x: Tensor,
    grad: Tensor,
) -> str | None:
    """Return how a kernel differs from the formula, or its error; None if output and gradients agree."""
    try:
        return difference(expected, output_and_gradients(module, kernel, x, grad), x.dtype)
    except Exception as error:  # a compiler of kernels raises anything
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
