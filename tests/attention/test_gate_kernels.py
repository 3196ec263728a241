"""The kernels of CBAM, Triplet and SA: equal to the formula within rounding, and never trusted unseen."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ema_lab.attention import build_attention
from ema_lab.attention.kernels import cbam, sa, triplet
from ema_lab.attention.kernels.channel_maximum import channel_maximum
from ema_lab.attention.kernels.choice import chosen_kernel
from ema_lab.attention.kernels.row_convolution import row_convolution
from ema_lab.attention.kernels.trust import WithFormula

SIZES = [(5, 7), (1, 6), (6, 1), (1, 1), (2, 2), (8, 8), (9, 3)]
KERNELS = {"cbam": cbam, "triplet": triplet, "sa": sa}
NEEDED = {"cbam": {"reduction": 2}, "triplet": {}, "sa": {"groups": 3}}  # options for 6 channels
OWN_OPTIONS = [
    ("cbam", {"kernel_size": 3}),
    ("cbam", {"norm": False}),
    ("cbam", {"bias": False}),
    ("cbam", {"kernel_size": 1, "norm": False}),
    ("triplet", {"kernel_size": 3}),
    ("sa", {"groups": 1}),
]
SMALL_IMAGE = sa.SMALL_IMAGE
EACH = pytest.mark.parametrize("name", KERNELS)


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    """Have SA's kernel take images of any size."""
    monkeypatch.setattr(sa, "SMALL_IMAGE", 0)


def random_module(name: str, dtype: torch.dtype = torch.float64, **options: object) -> WithFormula:
    torch.manual_seed(6)
    module = build_attention(name, 6, **{**NEEDED[name], **options}).to(dtype)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    assert isinstance(module, WithFormula)
    return module


def image(size: tuple[int, int], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 6, *size, generator=torch.Generator().manual_seed(1)).to(dtype)


def results(module: nn.Module, x: Tensor, choice: str | None) -> tuple[list[Tensor], set[str]]:
    """Return output and gradients with a kernel, and the kernels that ran."""
    x = x.detach().requires_grad_()
    with chosen_kernel(choice) as ran:
        output = module(x)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(2)).to(output.dtype)
    gradients = torch.autograd.grad((output * weight).sum(), [x, *module.parameters()])
    return [output.detach(), *gradients], ran


def assert_equal_to_the_formula(module: nn.Module, x: Tensor) -> None:
    expected, formula = results(module, x, None)
    actual, ran = results(module, x, "exact")
    assert (formula, ran) == ({"formula"}, {"exact"})
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@EACH
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("training", [True, False])
def test_output_and_all_gradients_equal_the_formula(name, size, training):
    assert_equal_to_the_formula(random_module(name).train(training), image(size))


@pytest.mark.parametrize(("name", "options"), OWN_OPTIONS, ids=str)
def test_every_option_in_reach_equals_the_formula(name, options):
    assert_equal_to_the_formula(random_module(name, **options), image((5, 4)))


@EACH
def test_equal_values_give_the_gradient_to_the_same_pixel_and_channel(name):
    for x in (torch.zeros(3, 6, 4, 5), image((4, 5)).relu(), image((4, 5)).clamp(-0.5, 0.5)):
        assert_equal_to_the_formula(random_module(name), x.double())


@pytest.mark.parametrize("name", ["cbam", "triplet"])
def test_running_statistics_are_the_formulas(name):
    modules = [random_module(name), random_module(name)]
    before = [buffer.clone() for buffer in modules[0].buffers()]
    for module, choice in zip(modules, (None, "exact"), strict=True):
        results(module.train(), image((4, 5)), choice)
    for old, one, other in zip(before, *(module.buffers() for module in modules), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        assert not torch.equal(old, other)


@EACH
def test_the_gradient_is_that_of_the_output(name):
    module = random_module(name).eval()
    inputs = [image((3, 4)).requires_grad_(), *module.parameters()]

    def function(x: Tensor, *_: Tensor) -> Tensor:
        return KERNELS[name].KERNEL.exact(module, x)

    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("size", [(3, 4), (4, 3)])
def test_the_gradient_of_the_convolution_is_that_of_its_output(size):
    inputs = (image(size)[:, :2], torch.randn(1, 2, 5, 5, dtype=torch.float64))
    assert torch.autograd.gradcheck(row_convolution, [each.clone().requires_grad_() for each in inputs])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [1, 3, 7])
def test_the_convolution_is_torchs(size, side):
    pair, weight = image(size)[:, :2], torch.randn(1, 2, side, side, dtype=torch.float64)
    expected = nn.functional.conv2d(pair, weight, padding=side // 2)
    torch.testing.assert_close(row_convolution(pair, weight), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 2, 17, 300])
def test_the_maximum_over_channels_is_the_first_as_torchs(channels):
    x = torch.randn(3, channels, 37, generator=torch.Generator().manual_seed(channels)).round()
    value, channel = channel_maximum(x)
    expected = x.max(1)
    assert torch.equal(value, expected.values)
    assert torch.equal(channel, expected.indices)


@EACH
def test_two_backward_passes_give_the_same_gradient(name):
    module, x = random_module(name), image((4, 5)).requires_grad_()
    output = KERNELS[name].KERNEL.exact(module, x)
    first, second = (
        torch.autograd.grad(output, x, torch.ones_like(output), retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(first, second)


@EACH
def test_a_second_derivative_is_refused(name):
    x = image((4, 5)).requires_grad_()
    output = KERNELS[name].KERNEL.exact(random_module(name), x)
    (gradient,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@EACH
def test_a_gradient_in_another_order_of_values_is_the_same(name):
    module, x = random_module(name), image((4, 5))
    grad = torch.randn(3, 4, 5, 6, dtype=torch.float64).permute(0, 3, 1, 2)
    gradients = []
    for each in (grad, grad.contiguous()):
        leaf = x.clone().requires_grad_()
        gradients.append(torch.autograd.grad(KERNELS[name].KERNEL.exact(module, leaf), leaf, each)[0])
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@EACH
def test_input_and_gradient_stay_as_they_are(name):
    module, x, grad = random_module(name), image((4, 5)), image((4, 5)) + 1
    before, leaf = (x.clone(), grad.clone()), x.requires_grad_()
    torch.autograd.grad(KERNELS[name].KERNEL.exact(module, leaf), leaf, grad)
    assert torch.equal(x, before[0])
    assert torch.equal(grad, before[1])


@EACH
@pytest.mark.parametrize(
    "call",
    [
        lambda module: module(image((4, 4)).to(memory_format=torch.channels_last)),
        lambda module: module.half()(image((4, 4), torch.float16)),
        lambda module: torch.func.vmap(module)(image((4, 4))[None]),
    ],
    ids=["another order of values", "half precision", "a transform of functions"],
)
def test_out_of_reach_the_formula_runs(name, call):
    with chosen_kernel("exact") as ran:
        call(random_module(name).eval())
    assert ran == {"formula"}


def test_without_a_spatial_gate_the_formula_runs():
    with chosen_kernel("exact") as ran:
        random_module("cbam", spatial=False)(image((4, 4)))
    assert ran == {"formula"}


@EACH
def test_mixed_precision_runs_the_formula(name):
    with chosen_kernel("exact") as ran, torch.autocast("cpu", torch.bfloat16):
        random_module(name, torch.float32)(image((4, 4), torch.float32))
    assert ran == {"formula"}


@EACH
def test_without_a_choice_the_bits_are_the_formulas(name):
    module, x = random_module(name, torch.float32).eval(), image((4, 4), torch.float32)
    with chosen_kernel(None) as ran:
        assert torch.equal(module(x), module.formula(x))
    assert ran == {"formula"}


@EACH
def test_a_wrong_kernel_is_noticed_before_its_first_use(name, monkeypatch):
    right = KERNELS[name].KERNEL
    wrong = replace(right, exact=lambda module, x: right.exact(module, x) * 1.01, trusted={})
    monkeypatch.setattr(KERNELS[name], "KERNEL", wrong)
    module, x = random_module(name, torch.float32), image((4, 4), torch.float32)
    state = torch.get_rng_state()
    with pytest.warns(
        RuntimeWarning, match=rf"exact of {right.owner}, maps 4 x 4 of torch\.float32: the output"
    ):
        actual, ran = results(module, x, "exact")
    assert ran == {"formula"}
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(actual[0], results(module, x, None)[0][0])


@EACH
def test_an_error_of_a_kernel_falls_back(name, monkeypatch):
    def fails(*_):
        raise RuntimeError("no such instruction\nand more")

    monkeypatch.setattr(KERNELS[name], "KERNEL", replace(KERNELS[name].KERNEL, exact=fails, trusted={}))
    module, x = random_module(name, torch.float32), image((4, 4), torch.float32)
    with pytest.warns(RuntimeWarning, match="RuntimeError: no such instruction; the formula is used"):
        assert results(module, x, "exact")[1] == {"formula"}


@EACH
def test_hooks_see_the_calls_of_their_modules(name):
    calls = {"cbam": {"squeeze": 2, "spatial_gate.norm": 1}, "triplet": {"cw.norm": 1}, "sa": {}}[name]
    hidden = {
        "cbam": ["spatial_gate", "spatial_gate.conv"],
        "triplet": ["hc", "hw.conv"],
        "sa": ["norm"],
    }[name]
    for part in (*calls, *hidden):
        module, seen = random_module(name, torch.float32).eval(), []
        module.get_submodule(part).register_forward_hook(lambda *_, seen=seen: seen.append(1))
        with chosen_kernel("exact") as ran:
            module(image((4, 4), torch.float32))
        assert (len(seen), ran) == (calls.get(part, 1), {"exact" if part in calls else "formula"})


@pytest.mark.parametrize("size", [(5, 7), (1, 1)])
@pytest.mark.parametrize("blocks", [2, 3])  # of three images: two and one, or one each
def test_blocks_of_images_are_together_the_batch(size, blocks, monkeypatch):
    monkeypatch.setattr(sa, "BLOCK", image(size).numel() // blocks)
    assert_equal_to_the_formula(random_module("sa"), image(size))


@pytest.mark.parametrize(("size", "is_small"), [((13, 13), True), ((19, 9), False)])
def test_small_images_keep_the_bits_of_the_formula_of_sa(size, is_small, monkeypatch):
    monkeypatch.setattr(sa, "SMALL_IMAGE", SMALL_IMAGE)
    module, x = random_module("sa"), image(size)
    with chosen_kernel("exact") as ran:
        output = module(x)
    assert ran == {"exact"}
    assert (output.grad_fn.name() != "_GatedBackward") is is_small
    if is_small:
        assert torch.equal(output, module.formula(x))


def test_another_number_of_channels_is_the_error_of_the_formula():
    for choice in (None, "exact"):
        with chosen_kernel(choice), pytest.raises(RuntimeError, match="must match the size of tensor"):
            random_module("sa", groups=1)(torch.zeros(2, 12, 5, 5, dtype=torch.float64))
