"""Parameter counts against the formulas that each module's docstring states."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ema_lab.attention import attentions, build_attention

FORMULAS: Mapping[str, Callable[[int], int]] = {
    "bam": lambda c: 3 * c * (c // 16) + 18 * (c // 16) ** 2 + 13 * (c // 16) + c + 1,
    "ca": lambda c: 3 * c * max(8, c // 32) + 3 * max(8, c // 32) + 2 * c,
    "cbam": lambda c: 2 * c * (c // 16) + c // 16 + c + 2 * 49 + 2,
    "eca": lambda c: {128: 5, 256: 5, 512: 5}[c],
    "ema": lambda c: 10 * (c // 32) ** 2 + 4 * (c // 32),
    "frozen": lambda c: 2 * c * (c // 16),
    "gam": lambda c: 25 * c**2 + 5 * c,
    "gc": lambda c: 2 * c * (c // 16) + 2 * c + 3 * (c // 16) + 1,
    "ge": lambda c: 0,
    "identity": lambda c: 0,
    "matched": lambda c: 2 * c * (c // 16),
    "nam": lambda c: 2 * c,
    "none": lambda c: 0,
    "random_gate": lambda c: 0,
    "sa": lambda c: 3 * c // 64,
    "se": lambda c: 2 * c * (c // 16),
    "simam": lambda c: 0,
    "triplet": lambda c: 3 * (2 * 49 + 2),
    "zero_start": lambda c: 2 * c * (c // 16) + c,
}
WITH_OPTIONS: list[tuple[str, int, Mapping[str, Any], int]] = [
    ("cbam", 64, {"spatial": False}, 2 * 64 * 4 + 4 + 64),
    ("cbam", 64, {"kernel_size": 3}, 2 * 64 * 4 + 4 + 64 + 2 * 9 + 2),
    ("ema", 256, {"groups": 8}, 10 * 32**2 + 4 * 32),
    ("ema", 256, {"kernel_size": 5}, (1 + 25) * 64 + 4 * 8),
    ("ema", 256, {"norm": "group"}, 10 * 64 + 4 * 8),
    ("ema", 256, {"norm": "none"}, 10 * 64 + 2 * 8),
    ("ema", 256, {"local_branch": False}, 64 + 3 * 8),
    ("ema", 256, {"pointwise_branch": False}, 9 * 64 + 8),
    ("ge", 64, {"extent": 8}, 0),
    ("ge", 64, {"extent": 8, "learned": True}, 11 * 64 * 3),
    ("se", 64, {"bias": True}, 2 * 64 * 4 + 64 + 4),
]


def count_parameters(name: str, channels: int, **options: object) -> int:
    return sum(parameter.numel() for parameter in build_attention(name, channels, **options).parameters())


def test_every_module_has_as_many_parameters_as_its_formula() -> None:
    wrong = {}
    for name, channels in itertools.product(attentions(), (128, 256, 512)):
        of = {"of": {"name": "se"}} if name in {"frozen", "matched", "zero_start"} else {}
        counted, expected = count_parameters(name, channels, **of), FORMULAS[name](channels)
        if counted != expected:
            wrong[name, channels] = f"{counted}, not {expected}"
    assert wrong == {}


@pytest.mark.parametrize(
    ("name", "channels", "options", "count"),
    WITH_OPTIONS,
    ids=[f"{case[0]} with {dict(case[2])}" for case in WITH_OPTIONS],
)
def test_options_change_the_number_of_parameters_as_stated(
    name: str, channels: int, options: Mapping[str, Any], count: int
) -> None:
    assert count_parameters(name, channels, **options) == count
