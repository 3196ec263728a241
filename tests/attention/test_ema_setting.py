"""Every setting of EMA against a literal reading of its equations in loops, and where settings meet."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ema_lab.attention import build_attention

CHANNELS, GROUPS = 8, 2
SETTINGS: list[dict[str, Any]] = [
    *(
        {"kernel_size": size, "norm": norm, "cross_spatial": cross_spatial}
        for size, norm, cross_spatial in itertools.product(
            [None, 1, 5], [None, "instance", "group", "none"], [None, "cross", "self", "none"]
        )
    ),
    *(
        {"local_branch": False, "norm": norm, "cross_spatial": cross_spatial}
        for norm, cross_spatial in itertools.product(
            [None, "instance", "group", "none"], [None, "self", "none"]
        )
    ),
    *(
        {"pointwise_branch": False, "kernel_size": size, "cross_spatial": cross_spatial}
        for size, cross_spatial in itertools.product([None, 1, 5], [None, "self", "none"])
    ),
]


def build(groups: int = GROUPS, **options: Any) -> nn.Module:
    """Build EMA in float64 with every weight random, the norm's included."""
    module = build_attention("ema", CHANNELS, groups=groups, **options).double()
    generator = torch.Generator().manual_seed(3)
    for _name, parameter in sorted(module.named_parameters()):
        nn.init.normal_(parameter, generator=generator)
    return module


def image(height: int = 4, width: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(2, CHANNELS, height, width, generator=generator, dtype=torch.float64)


def sigmoid(value: Any) -> Any:
    return 1 / (1 + np.exp(-value))


def ema_by_loops(x: np.ndarray, state: Mapping[str, np.ndarray], **options: Any) -> np.ndarray:
    """Compute EMA group by group, channel by channel, pixel by pixel."""
    output = np.empty_like(x)
    width = CHANNELS // GROUPS
    for b in range(x.shape[0]):
        for g in range(GROUPS):
            channels = slice(g * width, (g + 1) * width)
            output[b, channels] = group_by_loops(x[b, channels], state, **options)
    return output


def group_by_loops(
    x: np.ndarray,
    state: Mapping[str, np.ndarray],
    *,
    pointwise_branch: bool = True,
    local_branch: bool = True,
    kernel_size: int | None = None,
    norm: str | None = None,
    cross_spatial: str | None = None,
) -> np.ndarray:
    maps = []
    if pointwise_branch:
        maps.append(normalised(gated(x, state), state, norm or "instance"))
    if local_branch:
        maps.append(convolved(x, state, kernel_size or 3))
    queries = maps
    if len(maps) == 2 and cross_spatial in (None, "cross"):
        queries = [maps[1], maps[0]]
    total = np.zeros(x.shape[1:])
    for query, value in zip(queries, maps, strict=True):
        exponentials = [np.exp(channel.mean()) for channel in query]
        for c in range(len(x)):
            weight = 1 / len(x) if cross_spatial == "none" else exponentials[c] / sum(exponentials)
            total += weight * value[c]
    return np.stack([channel * sigmoid(total) for channel in x])


def gated(x: np.ndarray, state: Mapping[str, np.ndarray]) -> np.ndarray:
    n, height, width = x.shape
    result = np.empty_like(x)
    for c, i, j in itertools.product(range(n), range(height), range(width)):
        row = column = state["mix.bias"][c]
        for k in range(n):
            row = row + state["mix.weight"][c, k, 0, 0] * x[k, i, :].mean()
            column = column + state["mix.weight"][c, k, 0, 0] * x[k, :, j].mean()
        result[c, i, j] = x[c, i, j] * sigmoid(row) * sigmoid(column)
    return result


def normalised(x: np.ndarray, state: Mapping[str, np.ndarray], norm: str) -> np.ndarray:
    if norm == "none":
        return x
    result = np.empty_like(x)
    for c in range(len(x)):
        pool = x[c] if norm == "instance" else x
        unit = (x[c] - pool.mean()) / np.sqrt(pool.var() + 1e-5)
        result[c] = unit * state["norm.weight"][c] + state["norm.bias"][c]
    return result


def convolved(x: np.ndarray, state: Mapping[str, np.ndarray], size: int) -> np.ndarray:
    n, height, width = x.shape
    result = np.empty_like(x)
    for c, i, j in itertools.product(range(n), range(height), range(width)):
        result[c, i, j] = state["local.bias"][c]
        for k, di, dj in itertools.product(range(n), range(size), range(size)):
            row, column = i + di - size // 2, j + dj - size // 2
            if 0 <= row < height and 0 <= column < width:
                result[c, i, j] += state["local.weight"][c, k, di, dj] * x[k, row, column]
    return result


def test_a_setting_computes_its_equations() -> None:
    for options in SETTINGS:
        module, x = build(**options), image()
        state = {key: value.numpy() for key, value in module.state_dict().items()}
        np.testing.assert_allclose(
            module(x).detach().numpy(), ema_by_loops(x.numpy(), state, **options), rtol=0, atol=1e-12
        )


def shapes(**options: Any) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in build(**options).named_parameters()}


def shapes_in_full(options: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes in the full module of the parts that a setting keeps."""
    parts = {"mix", "local", "norm"}
    parts -= set() if options.get("pointwise_branch", True) else {"mix", "norm"}
    parts -= set() if options.get("local_branch", True) else {"local"}
    parts -= {"norm"} if options.get("norm") == "none" else set()
    full = shapes(kernel_size=options.get("kernel_size"))
    return {key: shape for key, shape in full.items() if key.split(".")[0] in parts}


def test_every_shared_part_has_the_name_and_shape_that_it_has_in_full() -> None:
    found = {str(options): (shapes(**options), shapes_in_full(options)) for options in SETTINGS}
    assert {name: pair for name, pair in found.items() if pair[0] != pair[1]} == {}


def test_settings_that_should_differ_differ() -> None:
    outputs = [
        build(norm=norm, cross_spatial=cross_spatial)(image())
        for norm, cross_spatial in itertools.product(["instance", "group", "none"], ["cross", "self", "none"])
    ]
    for first, second in itertools.combinations(outputs, 2):
        assert (first - second).abs().max() > 1e-3


def test_with_one_channel_per_group_the_cross_spatial_settings_coincide() -> None:
    cross, own, none = (build(CHANNELS, cross_spatial=s)(image()) for s in ("cross", "self", "none"))
    torch.testing.assert_close(cross, own)
    torch.testing.assert_close(cross, none)


def test_with_one_channel_per_group_the_two_norms_coincide() -> None:
    instance, group = (build(CHANNELS, norm=norm)(image()) for norm in ("instance", "group"))
    torch.testing.assert_close(instance, group)


def first_descriptor(module: nn.Module, x: Tensor) -> Tensor:
    """Return the spatial means of the pointwise branch as (images x groups, channels of a group)."""
    outputs: list[Tensor] = []
    module.norm.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    module(x)
    return outputs[0].mean((2, 3))


def test_with_instance_norm_the_first_descriptor_is_the_bias_of_the_norm() -> None:
    module = build(norm="instance")
    means = first_descriptor(module, image())
    torch.testing.assert_close(means, module.norm.bias.expand_as(means), rtol=0, atol=1e-14)


def test_with_group_norm_the_first_descriptor_depends_on_the_input() -> None:
    means = first_descriptor(build(norm="group"), image())
    assert (means - means[:1]).abs().max() > 1e-2


def test_at_the_start_cross_equals_none_in_the_term_of_the_local_branch() -> None:
    torch.manual_seed(0)
    module = build_attention("ema", CHANNELS, groups=GROUPS).double()
    assert (module.norm.bias == 0).all()
    outputs: dict[str, Tensor] = {}
    for part in ("norm", "local"):
        hook = lambda module, inputs, output, part=part: outputs.update({part: output})  # noqa: E731
        getattr(module, part).register_forward_hook(hook)
    x = image()
    output = module(x)
    weights = outputs["local"].mean((2, 3)).softmax(1)[:, :, None, None]
    total = (weights * outputs["norm"]).sum(1) + outputs["local"].mean(1)
    expected = x.reshape(-1, CHANNELS // GROUPS, 4, 3) * total.sigmoid().unsqueeze(1)
    torch.testing.assert_close(output, expected.reshape(x.shape))


@pytest.mark.parametrize("norm", ["instance", "group", "none"])
def test_one_pixel_of_one_image_in_one_group_works_or_is_refused_in_one_line(norm: str) -> None:
    module = build_attention("ema", 1, groups=1, norm=norm)
    x = torch.randn(1, 1, 1, 1)
    if norm == "none":
        assert module(x).shape == x.shape
    else:
        with pytest.raises(
            ValueError, match=r"^GroupNorm needs more than one value per group, got \(1, 1, 1, 1\)"
        ):
            module(x)
