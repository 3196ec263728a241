"""Run EMA's Triton kernels by Triton's interpreter on the CPU; print what they do as JSON.

A process of its own, because TRITON_INTERPRET holds for a process: `python interpreted_triton.py CASES`.
CASES are keyword arguments of `measured` as a JSON list; an empty one stands for `dispatched`.
"""

import json
import sys
from math import prod

import torch
from torch import Tensor, nn

from ema_lab.attention import build_attention
from ema_lab.attention.ema import EMA
from ema_lab.attention.kernels import ema as dispatch
from ema_lab.attention.kernels import triton_ema
from ema_lab.attention.kernels.agreement import output_and_gradients
from ema_lab.attention.kernels.choice import chosen_kernel

Gradients = dict[str, Tensor]


def measured(
    shape: list[int], groups: int, dtype: str, *, layout: str = "contiguous_format", limits: dict[str, int]
) -> dict[str, object]:
    """Return the largest error beside the formula in float64, and the kept input sizes.

    An error is a share of the largest value. `limits` are constants of `triton_ema` for this case.
    """
    before = {name: getattr(triton_ema, name) for name in limits}
    for name, value in limits.items():
        setattr(triton_ema, name, value)
    noise = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(shape, generator=noise).to(getattr(torch, dtype)) for _ in range(2))
    x = x.to(memory_format=getattr(torch, layout))
    module = random_module(shape[1], groups).to(x.dtype)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        if all(tensor is not parameter for parameter in module.parameters()):
            kept.append(tensor.numel() * tensor.element_size())
        return tensor

    def fast(x: Tensor) -> Tensor:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            return triton_ema.triton_ema(x, dispatch._weights(module), groups, dispatch._eps(module))

    actual = output_and_gradients(module, fast, x, grad)
    module.double()
    expected = output_and_gradients(module, module.formula, x.double(), grad.double())
    for name, value in before.items():
        setattr(triton_ema, name, value)
    errors = {
        name: (actual[name].double() - value).abs().max() / (value.abs().max() + 0.1)
        for name, value in expected.items()
    }
    return {
        "error": max(error.item() for error in errors.values()),
        "types": sorted({str(value.dtype) for value in actual.values()}),
        "keeps_layout": actual["the output"].stride()
        == x.stride()
        == actual["the gradient of the input"].stride(),
        "input_sizes": sum(kept) / (prod(shape) * x.element_size()),
    }


def dispatched() -> dict[str, object]:
    """Return which kernels run where a user has chosen Triton."""
    dispatch.kernel_on = lambda device_type: "triton"
    module, x = random_module(4, 2), torch.randn(2, 4, 3, 2)
    with chosen_kernel(None) as mixed, torch.autocast("cpu", torch.bfloat16):
        module(x.bfloat16())
    with chosen_kernel(None) as double:
        module.double()(x.double())
    return {"mixed precision": sorted(mixed), "float64": sorted(double)}


def random_module(channels: int, groups: int) -> EMA:
    torch.manual_seed(0)
    module = build_attention("ema", channels, groups=groups)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    assert isinstance(module, EMA)
    return module


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps([measured(**case) if case else dispatched() for case in json.loads(sys.argv[1])]))
