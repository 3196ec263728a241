"""What the other layers rely on, for each registered attention module and for those yet to come."""

import copy
import io
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ema_lab.attention import attentions, build_attention

CHANNELS = 128
SIZES = [(1, 1), (1, 6), (5, 1), (7, 7), (8, 13)]
Setting = tuple[str, Mapping[str, Any]]
SETTINGS: list[Setting] = [
    *((name, {}) for name in attentions() if name not in {"frozen", "matched"}),
    ("matched", {"of": {"name": "se"}}),
    ("cbam", {"spatial": False}),
    ("ema", {"groups": 128}),
    ("ema", {"norm": "none", "cross_spatial": "none"}),
    ("ema", {"norm": "group", "cross_spatial": "self", "kernel_size": 5}),
    ("ema", {"pointwise_branch": False}),
    ("ema", {"local_branch": False}),
    ("gc", {"fusion": "multiply"}),
    ("ge", {"extent": 3}),
    ("ge", {"extent": 4, "learned": True}),
    ("nam", {"differentiable": True}),
]
ZERO_GRADIENTS = {"gc": {"score.bias"}}  # a softmax over positions cancels one bias for all of them

LONE_VALUES = {"bam", "cbam", "gam", "ge", "nam", "triplet"}  # `ca` normalises at least a row and a column


@pytest.fixture(params=SETTINGS, ids=lambda setting: " ".join(map(str, [setting[0], setting[1] or "-"])))
def setting(request: pytest.FixtureRequest) -> Setting:
    return request.param


@pytest.fixture
def attention(setting: Setting) -> nn.Module:
    """Build the module in evaluation mode, moved off the special values that it may start at."""
    torch.manual_seed(0)
    module = build_attention(setting[0], CHANNELS, **setting[1]).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = parameter.numel() / parameter.shape[0]
            parameter.add_(torch.randn_like(parameter), alpha=0.2 / fan_in**0.5)
    return module


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, CHANNELS, 6, 5, generator=torch.Generator().manual_seed(1))


class TestEveryAttention:
    @pytest.mark.parametrize("size", SIZES, ids=lambda size: f"on {size[0]}x{size[1]} pixels")
    @pytest.mark.parametrize("training", [True, False], ids=["in training", "in evaluation"])
    def test_keeps_the_shape(self, attention: nn.Module, size: tuple[int, int], training: bool) -> None:
        x = torch.randn(2, CHANNELS, *size)
        output = attention.train(training)(x)
        assert output.shape == x.shape
        assert output.dtype == x.dtype
        assert output.isfinite().all()

    def test_takes_one_pixel_of_one_image_or_refuses_it_in_one_line(
        self, setting: Setting, attention: nn.Module
    ) -> None:
        x = torch.randn(1, CHANNELS, 1, 1)
        assert attention(x).isfinite().all()
        attention.train()
        if setting[0] in LONE_VALUES and any(isinstance(part, _BatchNorm) for part in attention.modules()):
            rule = r"^BatchNorm[12]d needs more than one value per channel in training, got \(1, [^\n]*$"
            with pytest.raises(ValueError, match=rule):
                attention(x)
        else:
            assert attention(x).isfinite().all()

    def test_treats_images_of_a_batch_apart_in_evaluation(self, attention: nn.Module, x: Tensor) -> None:
        torch.testing.assert_close(attention(x)[1:2], attention(x[1:2]))

    def test_gives_every_parameter_and_the_input_a_gradient(
        self, setting: Setting, attention: nn.Module, x: Tensor
    ) -> None:
        x.requires_grad_()
        attention(x).square().sum().backward()
        gradients = {key: parameter.grad for key, parameter in attention.named_parameters()}
        gradients["input"] = x.grad
        assert [key for key, value in gradients.items() if value is None or not value.isfinite().all()] == []
        zero = {key for key, value in gradients.items() if value is not None and not value.any()}
        assert zero <= ZERO_GRADIENTS.get(setting[0], set())

    def test_leaves_its_input_and_the_global_random_state_alone(
        self, attention: nn.Module, x: Tensor
    ) -> None:
        before, state = x.clone(), torch.get_rng_state()
        attention.train()(x)
        assert torch.equal(x, before)
        assert torch.equal(torch.get_rng_state(), state)

    def test_is_the_same_after_a_deep_copy(self, attention: nn.Module, x: Tensor) -> None:
        assert torch.equal(copy.deepcopy(attention)(x), attention(x))

    def test_is_the_same_after_pickling(self, attention: nn.Module, x: Tensor) -> None:
        assert torch.equal(pickle.loads(pickle.dumps(attention))(x), attention(x))

    def test_is_the_same_after_its_state_went_through_a_file(
        self, setting: Setting, attention: nn.Module, x: Tensor
    ) -> None:
        attention.train()(x)
        file = io.BytesIO()
        torch.save(attention.state_dict(), file)
        file.seek(0)
        other = build_attention(setting[0], CHANNELS, **setting[1])
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other.eval()(x), attention.eval()(x))

    def test_computes_in_float64(self, attention: nn.Module, x: Tensor) -> None:
        single = attention(x)
        double = attention.double()(x.double())
        assert double.dtype == torch.float64
        torch.testing.assert_close(single, double.float(), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=lambda dtype: f"for {dtype}")
    def test_keeps_the_type_of_its_input_under_bfloat16_autocast(
        self, attention: nn.Module, x: Tensor, dtype: torch.dtype
    ) -> None:
        exact = attention(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = attention(x.to(dtype))
        assert output.dtype == dtype
        torch.testing.assert_close(output.float(), exact, rtol=0.1, atol=0.1)

    def test_trains_under_bfloat16_autocast(self, attention: nn.Module, x: Tensor) -> None:
        x = x.bfloat16().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = attention.train()(x)
        output.float().square().sum().backward()
        gradients = [x.grad, *(parameter.grad for parameter in attention.parameters())]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)

    def test_does_not_depend_on_the_memory_format(self, attention: nn.Module, x: Tensor) -> None:
        last = attention.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, attention(x))

    def test_compiles_into_one_graph(self, attention: nn.Module, x: Tensor) -> None:
        torch.compiler.reset()
        compiled = torch.compile(attention, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), attention(x))

    def test_builds_and_runs_without_weights(self, setting: Setting) -> None:
        with torch.device("meta"):
            module = build_attention(setting[0], CHANNELS, **setting[1])
            assert module(torch.empty(2, CHANNELS, 4, 4)).shape == (2, CHANNELS, 4, 4)
        assert all(value.is_meta for value in module.state_dict().values())
