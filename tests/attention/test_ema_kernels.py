"""Kernels of EMA: equal to the formula within rounding, chosen by the user, and never trusted unseen."""

import copy
import pickle
import warnings

import pytest
import torch
from test_golden import CASES, TOLERANCE, largest_errors
from torch import Tensor, nn

from ema_lab.attention import build_attention
from ema_lab.attention.ema import EMA, attention_map, directional_gate
from ema_lab.attention.kernels import choice as kernels
from ema_lab.attention.kernels import ema as dispatch
from ema_lab.attention.kernels.choice import VARIABLE, chosen_kernel, fact_of, kernel_on
from ema_lab.attention.kernels.linear_maps import SMALL_MAP, SMALL_TAPS
from ema_lab.attention.kernels.many_maps_ema import is_for_many_maps
from ema_lab.errors import SpecError
from ema_lab.profiling.measure import measure_cost

SHAPES = [  # batch, channels, rows, columns, groups
    (2, 6, 5, 7, 3),
    (2, 4, 1, 6, 2),
    (2, 4, 6, 1, 2),
    (2, 4, 2, 2, 4),
    (3, 6, 1, 2, 3),
    (1, 8, 8, 8, 2),
    (2, 12, 6, 6, 1),
    (2, 6, 9, 8, 3),
    (2, 4, 1, 70, 2),
    (2, 4, 70, 1, 2),
    (1, 3, 13, 11, 1),
    (16, 8, 8, 8, 4),
    (22, 9, 3, 5, 3),
    (64, 8, 2, 2, 1),
    (32, 2, 1, 6, 2),
    (65, 3, 7, 1, 1),
]


def random_module(channels: int, groups: int, dtype: torch.dtype = torch.float64, **options: object) -> EMA:
    torch.manual_seed(channels)
    module = build_attention("ema", channels, groups=groups, **options).to(dtype)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    assert isinstance(module, EMA)
    return module


def results(module: EMA, x: Tensor, choice: str | None) -> tuple[list[Tensor], set[str]]:
    """Return output and gradients with a kernel, and the kernels that ran."""
    x = x.detach().requires_grad_()
    with chosen_kernel(choice) as ran:
        output = module(x)
    weight = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output.dtype)
    inputs = [x, *module.parameters()]
    return [output.detach(), *torch.autograd.grad((output * weight).sum(), inputs)], ran


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_equals_the_formula(shape):
    *size, groups = shape
    module = random_module(size[1], groups)
    x = torch.randn(size, dtype=torch.float64)
    (expected, by_formula), (actual, by_exact) = (results(module, x, kind) for kind in ("formula", "exact"))
    assert (by_formula, by_exact) == ({"formula"}, {"exact"})
    for theirs, ours in zip(expected, actual, strict=True):
        assert (ours - theirs).abs().max() <= 1e-12 * (1 + theirs.abs().max())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_many_small_maps_are_one_product(shape):
    *size, groups = shape
    with chosen_kernel("exact"):
        output = random_module(size[1], groups)(torch.randn(size, dtype=torch.float64))
    many = is_for_many_maps((size[0] * groups, size[1] // groups, *size[2:]))
    kind = output.grad_fn.next_functions[0][0].name()
    assert kind == ("ManyMapsEMABackward" if many else "_ExactEMABackward")


def test_the_shapes_reach_every_way_of_summing():
    pixels = [(height * width, channels // groups) for _, channels, height, width, groups in SHAPES]
    assert {size > SMALL_MAP for size, _ in pixels} == {True, False}
    assert {size * width > SMALL_TAPS for size, width in pixels if size <= SMALL_MAP} == {True, False}
    many = {
        is_for_many_maps((batch * groups, channels // groups, *size))
        for batch, channels, *size, groups in SHAPES
    }
    assert many == {True, False}


@pytest.mark.parametrize(
    "shape", [(2, 4, 3, 2, 2), (2, 4, 9, 8, 2), (1, 2, 1, 3, 1), (32, 4, 3, 2, 2)], ids=str
)
def test_the_gradients_of_exact_are_those_of_its_output(shape):
    *size, groups = shape
    module = random_module(size[1], groups)
    x = torch.randn(size, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in module.named_parameters()]

    def output(x: Tensor, *weights: Tensor) -> Tensor:
        with chosen_kernel("exact"):
            return torch.func.functional_call(module, dict(zip(names, weights, strict=True)), x)

    assert torch.autograd.gradcheck(output, (x, *module.parameters()), fast_mode=True)


@pytest.mark.parametrize("case", [case for case in CASES if case["module"] == "EMA"], ids=lambda c: c["file"])
def test_exact_has_the_authors_values(case):
    with chosen_kernel("exact") as ran:
        assert max(largest_errors(case).values()) < TOLERANCE
    assert ran == {"exact"}


def test_the_default_on_a_cpu_keeps_every_bit_of_the_formula():
    module = random_module(16, 4, torch.float32)

    def before_kernels(x: Tensor) -> Tensor:
        x_BCHW = x.reshape(2 * 4, 4, 9, 7)
        gated = x_BCHW * directional_gate(x_BCHW, module.mix)
        map_B1HW = attention_map([module.norm(gated), module.local(x_BCHW)], "cross")
        return (x_BCHW * map_B1HW.sigmoid()).reshape(x.shape)

    x = torch.randn(2, 16, 9, 7, requires_grad=True)
    weight = torch.randn(x.shape)
    inputs = [x, *module.parameters()]
    output = before_kernels(x)
    expected = [output.detach(), *torch.autograd.grad((output * weight).sum(), inputs)]
    with chosen_kernel(None) as ran:
        output = module(x)
    actual = [output.detach(), *torch.autograd.grad((output * weight).sum(), inputs)]
    assert ran == {"formula"}
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(actual, expected, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {"pointwise_branch": False},
        {"local_branch": False},
        {"kernel_size": 5},
        {"norm": "group"},
        {"norm": "none"},
        {"cross_spatial": "self"},
        {"cross_spatial": "none"},
    ],
    ids=str,
)
def test_options_out_of_reach_use_the_formula(options):
    module = random_module(8, 2, **options)
    x = torch.randn(2, 8, 4, 5, dtype=torch.float64)
    (expected, _), (actual, ran) = (results(module, x, kind) for kind in ("formula", "exact"))
    assert ran == {"formula"}
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(actual, expected, strict=True))


def test_observers_of_the_layers_see_them_run():
    module, x, seen = random_module(8, 2), torch.randn(2, 8, 4, 5, dtype=torch.float64), []
    handle = module.local.register_forward_hook(lambda *_: seen.append("local"))
    assert results(module, x, "exact")[1] == {"formula"}
    handle.remove()
    assert results(module, x, "exact")[1] == {"exact"}
    assert seen == ["local"]


def test_a_kernel_keeps_the_errors_of_the_formula():
    with chosen_kernel("exact"), pytest.raises(ValueError, match="more than one value per group"):
        random_module(1, 1)(torch.zeros(1, 1, 1, 1, dtype=torch.float64))


@pytest.mark.parametrize("channels", [12, 9, 1])
@pytest.mark.parametrize("name", ["exact", "triton"])
def test_a_wrong_number_of_channels_has_the_error_of_the_formula(name, channels, monkeypatch):
    """Triton's kernels would leave channels that fill no group unwritten."""
    module, x = random_module(8, 2, torch.float32), torch.zeros(2, channels, 4, 5)
    with pytest.raises(RuntimeError) as expected:
        module.formula(x)
    monkeypatch.setattr(dispatch, "kernel_on", lambda device_type: name)
    monkeypatch.setattr(dispatch, "_is_trusted", lambda case, build: True)
    monkeypatch.setattr(dispatch, "kernel", lambda name: pytest.fail("the kernel got the maps"))
    with pytest.raises(RuntimeError) as error:
        module(x)
    assert str(error.value) == str(expected.value)


def test_mixed_precision_and_meta_tensors_use_the_formula():
    module, x = random_module(8, 2, torch.float32), torch.randn(2, 8, 4, 5)
    with chosen_kernel("exact") as ran, torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(x), module.formula(x))
    assert ran == {"formula"}
    with chosen_kernel("exact") as ran:
        assert module.to("meta")(x.to("meta")).shape == x.shape
    assert ran == set()  # a model's shapes are no result


def test_counts_do_not_depend_on_the_kernel():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), random_module(8, 2, torch.float32))
    expected = measure_cost(model, image_size=9)
    with chosen_kernel("exact"):
        assert measure_cost(model, image_size=9) == expected


def test_exact_takes_copies_channels_last_frozen_weights_and_inference():
    module, x = random_module(8, 2), torch.randn(2, 8, 4, 5, dtype=torch.float64)
    with torch.inference_mode(), chosen_kernel("exact") as ran:
        expected = module(x)
    assert ran == {"exact"}
    (values, _) = results(module, x, "exact")
    copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module)), module.requires_grad_(False)]
    with chosen_kernel("exact") as ran:
        for each in copies:
            assert torch.equal(each(x), expected)
        x = x.to(memory_format=torch.channels_last).requires_grad_()
        module(x).sum().backward()
    assert torch.equal(values[0], expected)
    assert ran == {"exact"}
    assert x.grad is not None


def test_a_compiler_sees_the_formula(monkeypatch):
    module, x = random_module(8, 2), torch.randn(2, 8, 4, 5, dtype=torch.float64)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    with chosen_kernel("exact") as ran:
        assert torch.equal(module(x), module.formula(x))
    assert ran == set()


def test_a_second_derivative_of_exact_is_refused():
    module, x = random_module(8, 2), torch.randn(2, 8, 4, 5, dtype=torch.float64, requires_grad=True)
    with chosen_kernel("exact"):
        [gradient] = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


class TestTrust:
    @pytest.fixture(autouse=True)
    def untried(self, monkeypatch):
        monkeypatch.setattr(dispatch, "_trusted", {})

    @pytest.fixture
    def breaks(self, monkeypatch):
        """Put a function in the place of the exact kernel."""
        return lambda function: monkeypatch.setattr(dispatch, "kernel", lambda name: function)

    def check_falls_back(self, message: str) -> None:
        module, x = random_module(8, 2), torch.randn(2, 8, 4, 5, dtype=torch.float64)
        with pytest.warns(RuntimeWarning, match=message) as caught:
            actual, ran = results(module, x, "exact")
        assert str(caught[0].message).endswith("; the formula is used")
        assert ran == {"formula"}
        assert all(torch.equal(a, b) for a, b in zip(actual, results(module, x, "formula")[0], strict=True))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert results(module, x, "exact")[1] == {"formula"}  # remembered, and said once

    def test_a_wrong_output_falls_back_with_a_warning(self, breaks):
        breaks(lambda *arguments: dispatch.exact_ema(*arguments) * 1.01)
        self.check_falls_back("exact on cpu, maps 4 x 4 x 5 of torch.float64: the output differs from")

    def test_a_wrong_gradient_of_one_weight_falls_back(self, breaks):
        def wrong(x, weights, *others):
            twice = weights.mix_bias * 2 - weights.mix_bias.detach()  # equal, with twice the gradient
            return dispatch.exact_ema(x, weights._replace(mix_bias=twice), *others)

        breaks(wrong)
        self.check_falls_back("the gradient of mix.bias differs from the formula by")

    def test_not_a_number_falls_back(self, breaks):
        breaks(lambda *arguments: dispatch.exact_ema(*arguments) * float("nan"))
        self.check_falls_back("differs from the formula by nan")

    def test_an_error_of_the_kernel_falls_back(self, breaks):
        def fails(*_):
            raise RuntimeError("no such instruction\nand more")

        breaks(fails)
        self.check_falls_back("RuntimeError: no such instruction; the formula is used")

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    def test_the_check_passes_wherever_the_kernel_is_right(self, dtype):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for _, channels, height, width, groups in [*SHAPES, (1, 64, 7, 7, 1), (1, 8, 28, 28, 1)]:
                module = random_module(channels, groups, dtype)
                x = torch.randn(2, channels, height, width, dtype=dtype)
                assert results(module, x, "exact")[1] == {"exact"}

    def test_the_check_draws_no_random_numbers_and_leaves_no_gradients(self):
        module, x = random_module(8, 2, torch.float32), torch.randn(2, 8, 4, 5)
        state = torch.get_rng_state()
        with chosen_kernel("exact"), torch.no_grad():
            module(x)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(parameter.grad is None for parameter in module.parameters())


class TestChoice:
    @pytest.mark.parametrize(
        ("choice", "on_cpu", "on_cuda"),
        [
            (None, "formula", "formula"),
            ("formula", "formula", "formula"),
            ("exact", "exact", "exact"),
            ("triton", "formula", "triton"),
            ("auto", "exact", "triton"),
        ],
    )
    def test_each_device_has_its_kernel(self, choice, on_cpu, on_cuda, monkeypatch):
        monkeypatch.delenv(VARIABLE, raising=False)
        monkeypatch.setattr(kernels, "has_triton", lambda: True)
        assert [kernel_on(device, choice) for device in ("cpu", "cuda", "mps")] == [
            on_cpu,
            on_cuda,
            "formula",
        ]

    def test_auto_is_exact_where_triton_is_missing(self, monkeypatch):
        monkeypatch.setattr(kernels, "has_triton", lambda: False)
        assert kernel_on("cuda", "auto") == "exact"
        assert kernel_on("cuda", "triton") == "triton"  # asked for: the fallback says what is missing

    def test_the_variable_is_the_default_and_a_choice_replaces_it(self, monkeypatch):
        monkeypatch.setenv(VARIABLE, "exact")
        assert kernel_on("cpu") == "exact"
        with chosen_kernel("formula"):
            assert kernel_on("cpu") == "formula"
        assert kernel_on("cpu") == "exact"
        monkeypatch.setenv(VARIABLE, "fastest")
        with pytest.raises(SpecError, match=r"must be one of formula, exact, triton, auto, got 'fastest'"):
            kernel_on("cpu")

    def test_an_inner_block_is_not_counted_in_the_outer_one(self):
        module, x = random_module(8, 2), torch.randn(2, 8, 4, 5, dtype=torch.float64)
        with chosen_kernel("exact") as outer:
            module(x)
            with chosen_kernel("formula") as inner:
                module(x)
        assert (outer, inner) == ({"exact"}, {"formula"})

    def test_a_record_names_the_kernels_that_ran(self):
        assert fact_of({"formula", "exact"}) == {"attention_kernel": "exact, formula"}
        assert fact_of(set()) == {}
