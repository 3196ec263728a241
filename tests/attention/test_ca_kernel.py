"""The kernel of CA: equal to the formula within rounding, chosen by the user, and never trusted unseen."""

import pytest
import torch
from torch import Tensor, nn

from ema_lab.attention import build_attention
from ema_lab.attention.ca import CA
from ema_lab.attention.kernels import ca as dispatch
from ema_lab.attention.kernels.choice import chosen_kernel
from ema_lab.attention.kernels.trust import Kernel

SIZES = [(5, 7), (1, 6), (6, 1), (1, 1), (2, 2), (8, 8), (9, 3)]


def random_module(dtype: torch.dtype = torch.float64, channels: int = 6, **options: int) -> CA:
    torch.manual_seed(channels)
    module = build_attention("ca", channels, **options).to(dtype)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    assert isinstance(module, CA)
    return module


def image(size: tuple[int, int], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 6, *size, generator=torch.Generator().manual_seed(1)).to(dtype)


def results(module: CA, x: Tensor, choice: str | None) -> tuple[list[Tensor], set[str]]:
    """Return output and gradients with a kernel, and the kernels that ran."""
    x = x.detach().requires_grad_()
    with chosen_kernel(choice) as ran:
        output = module(x)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(output.dtype)
    return [
        output.detach(),
        *torch.autograd.grad((output * weight).sum(), [x, *module.parameters()]),
    ], ran


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("training", [True, False])
def test_output_and_all_gradients_equal_the_formula(size, training):
    module = random_module(reduction=2, min_width=4).train(training)
    expected, formula = results(module, image(size), None)
    statistics = module.norm.running_mean.clone()
    actual, ran = results(module, image(size), "exact")
    assert (formula, ran) == ({"formula"}, {"exact"})
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert torch.equal(statistics, module.norm.running_mean) is not training


def test_the_gradient_is_that_of_the_output():
    module = random_module().eval()
    inputs = [image((3, 4)).requires_grad_(), *module.parameters()]

    def function(x: Tensor, *_: Tensor) -> Tensor:
        return dispatch.exact_ca(module, x)

    assert torch.autograd.gradcheck(function, inputs)


def test_a_gradient_in_another_order_of_values_is_the_same():
    module, x = random_module(), image((4, 5))
    grad = torch.randn(3, 4, 5, 6, dtype=torch.float64).permute(0, 3, 1, 2)
    gradients = []
    for each in (grad, grad.contiguous()):
        leaf = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(dispatch.exact_ca(module, leaf), leaf, each)[0])
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    "call",
    [
        lambda module: module(image((4, 4)).to(memory_format=torch.channels_last)),
        lambda module: module.half()(image((4, 4), torch.float16)),
        lambda module: torch.func.vmap(module)(image((4, 4))[None]),
    ],
    ids=["another order of values", "half precision", "a transform of functions"],
)
def test_out_of_reach_the_formula_runs(call):
    with chosen_kernel("exact") as ran:
        call(random_module().eval())
    assert ran == {"formula"}


def test_mixed_precision_runs_the_formula():
    with chosen_kernel("exact") as ran, torch.autocast("cpu", torch.bfloat16):
        random_module(torch.float32)(image((4, 4), torch.float32))
    assert ran == {"formula"}


def test_without_a_choice_the_bits_are_the_formulas():
    module, x = random_module(torch.float32).eval(), image((4, 4), torch.float32)
    with chosen_kernel(None) as ran:
        assert torch.equal(module(x), module.formula(x))
    assert ran == {"formula"}


def test_a_wrong_kernel_is_noticed_before_its_first_use(monkeypatch):
    wrong = Kernel("CA", lambda module, x: dispatch.exact_ca(module, x) * 1.01)
    monkeypatch.setattr(dispatch, "KERNEL", wrong)
    module, x = random_module(torch.float32), image((4, 4), torch.float32)
    state = torch.get_rng_state()
    with pytest.warns(RuntimeWarning, match=r"kernel exact of CA, maps 4 x 4 of torch\.float32: the output"):
        actual, ran = results(module, x, "exact")
    assert ran == {"formula"}
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(actual[0], module.formula(x))


def test_hooks_and_reloaded_modules_work_with_the_kernel():
    module, seen = random_module(torch.float32).eval(), []
    module.squeeze.register_forward_hook(lambda *_: seen.append(1))
    with chosen_kernel("exact") as ran:
        module(image((4, 4), torch.float32))
    assert (len(seen), ran) == (1, {"exact"})
