"""Modules without published reference values, against a literal reading of their equations in numpy."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ema_lab.attention import build_attention

Array = np.ndarray
State = Mapping[str, Array]


def build(name: str, channels: int, **options: Any) -> nn.Module:
    """Build a module in float64 evaluation mode with every weight and statistic random."""
    module = build_attention(name, channels, **options).double().eval()
    generator = torch.Generator().manual_seed(5)
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator, dtype=torch.float64) - 0.4)
    for key, value in module.state_dict().items():
        if key.endswith("running_var"):
            value.copy_(value.abs() + 0.5)
    return module


def image(channels: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.randn(2, channels, height, width, generator=generator, dtype=torch.float64)


def sigmoid(value: Array) -> Array:
    return 1 / (1 + np.exp(-value))


def linear(x: Array, state: State, name: str) -> Array:
    """Apply a linear map, or a 1x1 convolution, to the last axis."""
    weight = state[f"{name}.weight"]
    return x @ weight.reshape(weight.shape[:2]).T + state[f"{name}.bias"]


def batch_norm(x: Array, state: State, name: str) -> Array:
    """Apply a batch normalisation in evaluation mode to the first axis."""
    shape = (-1,) + (1,) * (x.ndim - 1)
    mean, variance = (state[f"{name}.running_{part}"].reshape(shape) for part in ("mean", "var"))
    weight, bias = (state[f"{name}.{part}"].reshape(shape) for part in ("weight", "bias"))
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def convolve(x: Array, weight: Array, *, stride: int = 1, dilation: int = 1, nearest: bool = False) -> Array:
    """Convolve (C, H, W) without bias so that stride 1 keeps the size; a group per channel if K is 1."""
    height, width = x.shape[1:]
    size = weight.shape[2]
    reach = dilation * (size // 2)
    depthwise = weight.shape[1] == 1 and len(weight) == len(x)
    result = np.zeros((len(weight), -(-height // stride), -(-width // stride)))
    for i, j, di, dj in itertools.product(*map(range, (*result.shape[1:], size, size))):
        row, column = stride * i + dilation * di - reach, stride * j + dilation * dj - reach
        if nearest:
            row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
        if 0 <= row < height and 0 <= column < width:
            pixel, kernel = x[:, row, column], weight[:, :, di, dj]
            result[:, i, j] += kernel[:, 0] * pixel if depthwise else kernel @ pixel
    return result


def bias(state: State, name: str) -> Array:
    return state[f"{name}.bias"].reshape(-1, 1, 1)


def gc(x: Array, state: State, *, fusion: str = "add") -> Array:
    pixels = x.reshape(len(x), -1).T
    scores = np.exp(linear(pixels, state, "score"))
    context = (scores / scores.sum() * pixels).sum(0)
    hidden = linear(context, state, "squeeze")
    hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
    hidden = hidden * state["norm.weight"].ravel() + state["norm.bias"].ravel()
    change = linear(np.maximum(hidden, 0), state, "excite").reshape(-1, 1, 1)
    return x + change if fusion == "add" else x * sigmoid(change)


def bam(x: Array, state: State, *, dilation: int = 4) -> Array:
    squeezed = batch_norm(linear(x.mean((1, 2)), state, "squeeze"), state, "squeeze_norm")
    channel = linear(np.maximum(squeezed, 0), state, "excite").reshape(-1, 1, 1)
    y = x
    for number, step in enumerate((1, dilation, dilation)):
        name = f"spatial_convs.{number}"
        y = convolve(y, state[f"{name}.weight"], dilation=step) + bias(state, name)
        y = np.maximum(batch_norm(y, state, f"spatial_norms.{number}"), 0)
    spatial = convolve(y, state["project.weight"]) + bias(state, "project")
    return x * (1 + sigmoid(channel * spatial))


def gam(x: Array, state: State) -> Array:
    factor = linear(np.maximum(linear(x.transpose(1, 2, 0), state, "squeeze"), 0), state, "excite")
    y = x * factor.transpose(2, 0, 1)
    z = convolve(y, state["reduce.weight"], nearest=True) + bias(state, "reduce")
    z = np.maximum(batch_norm(z, state, "reduce_norm"), 0)
    z = convolve(z, state["restore.weight"], nearest=True) + bias(state, "restore")
    return y * sigmoid(batch_norm(z, state, "restore_norm"))


def ge(x: Array, state: State, *, extent: int | None = None, learned: bool = False) -> Array:
    height, width = x.shape[1:]
    if extent is None:
        return x * sigmoid(x.mean((1, 2), keepdims=True))
    gathered = x
    for step in range(extent.bit_length() - 1 if learned else 0):
        gathered = np.maximum(gathered, 0) if step else gathered
        gathered = convolve(gathered, state[f"convs.{step}.weight"], stride=2)
        gathered = batch_norm(gathered, state, f"norms.{step}")
    if not learned:
        gathered = means_around(x, extent)
    rows = [i * gathered.shape[1] // height for i in range(height)]
    columns = [j * gathered.shape[2] // width for j in range(width)]
    return x * sigmoid(gathered[:, rows][:, :, columns])


def means_around(x: Array, extent: int) -> Array:
    """Return the mean over the (2 extent - 1)^2 positions around every `extent`-th one, cut at borders."""
    height, width = x.shape[1:]
    result = np.empty((len(x), -(-height // extent), -(-width // extent)))
    for i, j in itertools.product(*map(range, result.shape[1:])):
        rows = slice(max(extent * i - extent + 1, 0), extent * i + extent)
        columns = slice(max(extent * j - extent + 1, 0), extent * j + extent)
        result[:, i, j] = x[:, rows, columns].mean((1, 2))
    return result


CASES: list[tuple[str, Any, int, dict[str, Any], dict[str, Any]]] = [
    ("bam", bam, 8, {"reduction": 2}, {}),
    ("bam", bam, 8, {"reduction": 4}, {"dilation": 2}),
    ("gam", gam, 8, {"reduction": 2}, {}),
    ("gc", gc, 8, {"reduction": 2}, {}),
    ("gc", gc, 8, {"reduction": 2}, {"fusion": "multiply"}),
    ("ge", ge, 3, {}, {}),
    ("ge", ge, 3, {}, {"extent": 2}),
    ("ge", ge, 3, {}, {"extent": 3}),
    ("ge", ge, 3, {}, {"extent": 16}),
    ("ge", ge, 3, {}, {"extent": 2, "learned": True}),
    ("ge", ge, 3, {}, {"extent": 8, "learned": True}),
]


@pytest.mark.parametrize("size", [(7, 6), (1, 1)], ids=lambda size: f"on {size[0]}x{size[1]} pixels")
@pytest.mark.parametrize(
    ("name", "equation", "channels", "sizes", "options"), CASES, ids=[f"{c[0]} with {c[4]}" for c in CASES]
)
def test_a_module_computes_its_equation(
    name: str,
    equation: Any,
    channels: int,
    sizes: dict[str, Any],
    options: dict[str, Any],
    size: tuple[int, int],
) -> None:
    module, x = build(name, channels, **sizes, **options), image(channels, *size)
    state = {key: value.numpy() for key, value in module.state_dict().items()}
    expected = np.stack([equation(one, state, **options) for one in x.numpy()])
    np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_the_controls_do_what_they_say() -> None:
    x = image(4, 3, 2)
    for name in ("none", "identity"):
        assert torch.equal(build_attention(name, 4)(x), x)
    torch.manual_seed(0)
    first, second = build_attention("random_gate", 4), build_attention("random_gate", 4)
    assert not torch.equal(first.gate, second.gate)
    assert ((first.gate >= 0) & (first.gate < 1)).all()
    torch.testing.assert_close(first(x)[1, 2], x[1, 2] * first.gate[2].double())
    assert list(first.state_dict()) == ["gate"]


def test_gc_starts_as_the_identity_or_as_a_gate_of_one_half() -> None:
    x = image(16, 3, 2).float()
    assert torch.equal(build_attention("gc", 16)(x), x)
    torch.testing.assert_close(build_attention("gc", 16, fusion="multiply")(x), x / 2)


def test_nam_lets_a_gradient_through_its_shares_only_when_asked() -> None:
    gradients = []
    for differentiable in (False, True):
        module = build("nam", 6, differentiable=differentiable)
        x = image(6, 3, 4)
        module(x).sum().backward()
        gradients.append(module.norm.weight.grad)
        scale = module.norm.weight.detach().clone().requires_grad_()
        share = (scale if differentiable else scale.detach()).abs()
        unit = (x - module.norm.running_mean.view(-1, 1, 1)) / (
            module.norm.running_var.view(-1, 1, 1) + 1e-5
        ).sqrt()
        normal = unit * scale.view(-1, 1, 1) + module.norm.bias.detach().view(-1, 1, 1)
        (x * (normal * (share / share.sum()).view(-1, 1, 1)).sigmoid()).sum().backward()
        torch.testing.assert_close(gradients[-1], scale.grad)
    assert not torch.allclose(*gradients)
