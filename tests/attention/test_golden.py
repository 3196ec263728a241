"""Agreement with the authors' own modules, in float64 (tests/data/golden/index.json says which).

`python -m pytest tests/attention/test_golden.py -s` prints the largest error of each module.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ema_lab.attention import build_attention, load_reference_state
from ema_lab.attention.kernels.choice import chosen_kernel

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = json.loads((GOLDEN / "index.json").read_text())["cases"]
TOLERANCE = 1e-10

BUILD: Mapping[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "SE": lambda h: build_attention("se", h["channel"], reduction=h["reduction"]),
    "CBAM": lambda h: build_attention("cbam", h["gate_channels"], reduction=h["reduction_ratio"]),
    "CA": lambda h: build_attention("ca", h["inp"], reduction=h["reduction"]),
    "EMA": lambda h: build_attention("ema", h["channels"], groups=h["factor"]),
    "ECA": lambda h: build_attention("eca", h["channel"], kernel_size=h["k_size"]),
    "SA": lambda h: build_attention("sa", h["channel"], groups=h["groups"]),
    "NAM": lambda h: build_attention("nam", h["channels"]),
    "SimAM": lambda h: build_attention("simam", h["channels"], regularisation=h["e_lambda"]),
    "Triplet": lambda h: build_attention("triplet", 64, kernel_size=h["kernel_size"]),
}

WITH_KERNEL = {"CBAM", "CA", "EMA", "SA", "Triplet"}


def largest_errors(case: Mapping[str, Any]) -> dict[str, float]:
    """Return the largest absolute difference to the authors' values, by what is compared."""
    data = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN / case["file"]).items()}
    module = BUILD[case["module"]](case["hyperparameters"]).double().train(case["mode"] == "train")
    load_reference_state(module, _part(data, "param.") | _part(data, "buffer."))
    x = data["input"].double().requires_grad_()
    output = module(x)
    loss = (output * data["rand"].double()).sum()
    loss.backward()
    return {
        "output": _error(output, data["output"]),
        "loss": _error(loss, data["loss"]),
        "input gradient": _error(x.grad, data["grad_input"]),
        **_state_errors(module, data),
    }


def _state_errors(module: nn.Module, data: Mapping[str, Tensor]) -> dict[str, float]:
    """Compare each parameter's gradient and each buffer under the authors' names."""
    back = {ours: theirs for theirs, ours in module.reference_keys.items()}
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    errors = {}
    for kind, own in (("grad.", gradients), ("buffer_after.", dict(module.named_buffers()))):
        theirs = _part(data, kind)
        for name, value in own.items():
            prefix = max((ours for ours in back if f"{name}.".startswith(f"{ours}.")), key=len)
            key = back[prefix] + name[len(prefix) :]
            errors[kind + key] = _error(value, theirs.pop(key))
        assert not theirs, f"{kind} of {sorted(theirs)} not compared"
    return errors


def _part(data: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in data.items() if key.startswith(prefix)}


def _error(ours: Tensor | None, theirs: Tensor) -> float:
    assert ours is not None
    return (ours.detach().double().reshape(theirs.shape) - theirs.double()).abs().max().item()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['file'].removesuffix('.npz')} agrees")
def test_values_gradients_and_statistics_agree(case: Mapping[str, Any]) -> None:
    errors = largest_errors(case)
    worst = max(errors, key=lambda part: errors[part])
    print(f"\n{case['file']}: {errors[worst]:.1e} ({worst}, of {len(errors)} compared)")
    assert errors[worst] < TOLERANCE


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case["module"] in WITH_KERNEL],
    ids=lambda case: f"{case['file'].removesuffix('.npz')} agrees under a kernel",
)
def test_the_kernels_agree_with_the_authors(case: Mapping[str, Any]) -> None:
    with chosen_kernel("exact") as ran:
        errors = largest_errors(case)
    assert "exact" in ran
    assert max(errors.values()) < TOLERANCE


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['file'].removesuffix('.npz')} normalises")
def test_normalisations_have_the_authors_eps_momentum_and_groups(case: Mapping[str, Any]) -> None:
    module = BUILD[case["module"]](case["hyperparameters"])
    for theirs, facts in case["norms"].items():
        name = max((key for key in module.reference_keys if theirs.startswith(key)), key=len)
        norm = module.get_submodule(module.reference_keys[name])
        assert type(norm).__name__ == facts["type"]
        assert norm.eps == facts["eps"]
        assert getattr(norm, "momentum", None) == facts["momentum"]
        assert getattr(norm, "num_groups", None) == facts["num_groups"]


def test_every_golden_file_is_listed() -> None:
    assert {case["file"] for case in CASES} == {path.name for path in GOLDEN.glob("*.npz")}
