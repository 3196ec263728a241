"""Options of the attention modules: none is ignored, wrong ones are refused, all are explained."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from ema_lab.attention import attentions, build_attention
from ema_lab.errors import SpecError, UnknownNameError
from ema_lab.registry.catalogue import ATTENTIONS

Options = Mapping[str, Any]

# By option: another value, and the options that it needs beside it.
CHANGES: Mapping[str, Mapping[str, tuple[Any, Options]]] = {
    "bam": {"reduction": (8, {}), "dilation": (2, {})},
    "ca": {"reduction": (4, {}), "min_width": (16, {})},
    "cbam": {
        "reduction": (8, {}),
        "spatial": (False, {}),
        "kernel_size": (3, {}),
        "bias": (False, {}),
        "norm": (False, {}),
    },
    "eca": {"kernel_size": (3, {}), "gamma": (1.0, {}), "beta": (7.0, {})},
    "ema": {
        "groups": (16, {}),
        "pointwise_branch": (False, {}),
        "local_branch": (False, {}),
        "kernel_size": (5, {}),
        "norm": ("group", {}),
        "cross_spatial": ("self", {}),
    },
    "gam": {"reduction": (8, {})},
    "gc": {"reduction": (8, {}), "fusion": ("multiply", {})},
    "ge": {"extent": (2, {}), "learned": (True, {"extent": 4})},
    "nam": {"differentiable": (True, {})},
    "sa": {"groups": (32, {})},
    "frozen": {"of": ({"name": "ca"}, {"of": {"name": "se"}})},
    "matched": {"of": ({"name": "gam"}, {"of": {"name": "se"}})},
    "zero_start": {"of": ({"name": "gam"}, {"of": {"name": "se"}})},
    "se": {"reduction": (8, {}), "bias": (True, {})},
    "simam": {"regularisation": (1e-2, {})},
    "triplet": {"kernel_size": (3, {})},
}
# What it is matched by changes a model, not one module: tests/models/test_matched.py.
ELSEWHERE = {("matched", "by")}
OPTIONS = [
    (name, option)
    for name in attentions()
    for option in ATTENTIONS.options(name)
    if (name, option) not in ELSEWHERE
]

REFUSED: list[tuple[str, int, Options, str]] = [
    ("bam", 8, {}, "BAM needs 1 <= reduction <= channels, got channels=8, reduction=16."),
    ("bam", 64, {"dilation": 0}, "BAM needs dilation >= 1, got dilation=0."),
    ("ca", 64, {"reduction": 0}, "CA needs reduction >= 1 and min_width >= 1, got reduction=0, min_width=8."),
    (
        "ca",
        64,
        {"min_width": 0},
        "CA needs reduction >= 1 and min_width >= 1, got reduction=32, min_width=0.",
    ),
    ("cbam", 8, {}, "CBAM needs 1 <= reduction <= channels, got channels=8, reduction=16."),
    ("cbam", 64, {"kernel_size": 4}, "CBAM needs an odd, positive kernel_size, got kernel_size=4."),
    (
        "cbam",
        64,
        {"spatial": False, "kernel_size": 7},
        "CBAM needs spatial=True to use kernel_size, got spatial=False, kernel_size=7.",
    ),
    (
        "cbam",
        64,
        {"spatial": False, "norm": True},
        "CBAM needs spatial=True to use norm, got spatial=False, norm=True.",
    ),
    ("eca", 64, {"kernel_size": 2}, "ECA needs an odd, positive kernel_size, got kernel_size=2."),
    ("eca", 64, {"gamma": 0.0}, "ECA needs channels >= 1 and gamma > 0, got channels=64, gamma=0.0."),
    (
        "eca",
        64,
        {"kernel_size": 3, "beta": 1.0},
        "ECA needs kernel_size=None to use gamma or beta, got kernel_size=3, gamma=None, beta=1.0.",
    ),
    ("ema", 48, {}, "EMA needs channels % groups == 0, got channels=48, groups=32."),
    ("ema", 64, {"groups": 0}, "EMA needs channels % groups == 0, got channels=64, groups=0."),
    (
        "ema",
        64,
        {"pointwise_branch": False, "local_branch": False},
        "EMA needs at least one branch, got pointwise_branch=False, local_branch=False.",
    ),
    ("ema", 64, {"kernel_size": 4}, "EMA needs an odd, positive kernel_size, got kernel_size=4."),
    (
        "ema",
        64,
        {"kernel_size": 3, "local_branch": False},
        "EMA needs local_branch=True to use kernel_size, got kernel_size=3.",
    ),
    (
        "ema",
        64,
        {"norm": "none", "pointwise_branch": False},
        "EMA needs pointwise_branch=True to use norm, got norm='none'.",
    ),
    ("ema", 64, {"norm": "batch"}, "EMA needs norm to be one of instance, group, none, got norm='batch'."),
    (
        "ema",
        64,
        {"cross_spatial": "both"},
        "EMA needs cross_spatial to be one of cross, self, none, got cross_spatial='both'.",
    ),
    (
        "ema",
        64,
        {"cross_spatial": "cross", "local_branch": False},
        "EMA needs both branches for cross_spatial='cross', got one branch.",
    ),
    ("gam", 2, {}, "GAM needs 1 <= reduction <= channels, got channels=2, reduction=4."),
    ("gc", 8, {}, "GC needs 1 <= reduction <= channels, got channels=8, reduction=16."),
    ("gc", 64, {"fusion": "sum"}, "GC needs fusion to be one of add, multiply, got fusion='sum'."),
    ("ge", 64, {"extent": 1}, "GE needs extent >= 2, or None for the whole map, got extent=1."),
    (
        "ge",
        64,
        {"learned": True},
        "GE needs an extent if learned: a kernel as large as the whole map"
        " would fit one image size only, got extent=None, learned=True.",
    ),
    (
        "ge",
        64,
        {"learned": True, "extent": 6},
        "GE needs a power of two as extent if learned, got extent=6, learned=True.",
    ),
    ("sa", 64, {}, "SA needs channels % (2 * groups) == 0, got channels=64, groups=64."),
    ("se", 8, {}, "SE needs 1 <= reduction <= channels, got channels=8, reduction=16."),
    ("se", 64, {"reduction": 0}, "SE needs 1 <= reduction <= channels, got channels=64, reduction=0."),
    ("simam", 64, {"regularisation": 0.0}, "SimAM needs regularisation > 0, got regularisation=0.0."),
    ("triplet", 64, {"kernel_size": 0}, "Triplet needs an odd, positive kernel_size, got kernel_size=0."),
]


def traits(module: nn.Module) -> list[Any]:
    """Return what an option may change: parameters, output and gradients of a fixed computation."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.requires_grad_().add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    x = torch.randn(2, 128, 6, 6, generator=generator).requires_grad_()
    output = module(x)
    output.square().sum().backward()
    gradients = [x.grad, *(parameter.grad for parameter in module.parameters())]
    return [[gradient.shape for gradient in gradients], output, *gradients]


def same(first: list[Any], second: list[Any]) -> bool:
    if first[0] != second[0]:
        return False
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(first[1:], second[1:], strict=True))


def test_every_option_of_every_module_has_a_change_in_the_table() -> None:
    assert {(name, option) for name, options in CHANGES.items() for option in options} == set(OPTIONS)


def test_changing_an_option_changes_something() -> None:
    for name, option in OPTIONS:
        value, beside = CHANGES[name][option]
        torch.manual_seed(0)
        base = traits(build_attention(name, 128, **beside))
        torch.manual_seed(0)
        again = traits(build_attention(name, 128, **beside))
        torch.manual_seed(0)
        changed = traits(build_attention(name, 128, **{**beside, option: value}))
        assert same(base, again)
        assert not same(base, changed)


def test_a_wrong_option_is_refused_with_the_rule_and_the_values() -> None:
    for name, channels, options, message in REFUSED:
        with pytest.raises(ValueError, match="needs") as caught:
            build_attention(name, channels, **options)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "channels", "options"),
    [
        ("ca", 8, {"reduction": 100}),
        ("cbam", 16, {"spatial": False}),
        ("ema", 64, {"groups": 64}),
        ("ema", 64, {"local_branch": False, "cross_spatial": "self"}),
        ("ema", 64, {"local_branch": False, "cross_spatial": "none"}),
        ("ge", 3, {"extent": 3}),
        ("se", 16, {"reduction": 16}),
    ],
)
def test_values_at_the_edge_of_a_rule_are_taken(name: str, channels: int, options: Options) -> None:
    x = torch.randn(2, channels, 5, 4)
    assert build_attention(name, channels, **options)(x).shape == x.shape


def test_an_unknown_option_or_name_lists_what_exists() -> None:
    with pytest.raises(SpecError, match=r"no option of attention 'se' is named 'ratio'; .*reduction, bias"):
        build_attention("se", 64, ratio=4)
    with pytest.raises(UnknownNameError, match="no attention is named 'emma'; did you mean 'ema'"):
        build_attention("emma", 64)


def test_show_explains_every_module_and_every_option() -> None:
    signatures = {name: ATTENTIONS.signature(name) for name in attentions()}
    assert [name for name, one in signatures.items() if "Parameters: " not in one.doc] == []
    mute = [
        f"{name}: {option.name}"
        for name, one in signatures.items()
        for option in one.options.values()
        if not option.meaning
    ]
    assert mute == []


def test_eca_derives_its_kernel_from_the_channels() -> None:
    for channels, size in [(8, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)]:
        assert build_attention("eca", channels).conv.kernel_size == (size,)
