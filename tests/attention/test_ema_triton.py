"""EMA's Triton kernels, run by Triton's interpreter: the formula within rounding, and little memory."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ema_lab.attention import build_attention
from ema_lab.attention.kernels import ema as dispatch
from ema_lab.attention.kernels.choice import chosen_kernel
from ema_lab.attention.kernels.triton_ema import LARGEST_CHANNEL, takes_size

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton comes with torch on Linux alone"
)
ERRORS = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 1.6e-2}
SMALL = {"BLOCK": 64, "PROGRAMS": 1}  # several blocks of channels, and several maps of a program
CASES = [
    {"shape": [2, 3, 5, 3], "groups": 1, "dtype": "float32", "limits": SMALL},
    {"shape": [1, 6, 3, 4], "groups": 2, "dtype": "float16", "layout": "channels_last", "limits": {}},
]
MORE_CASES = [
    {"shape": [*shape], "groups": groups, "dtype": dtype, "layout": layout, "limits": limits}
    for shape, groups, dtype, layout, limits in [
        ((3, 6, 5, 7), 2, "bfloat16", "contiguous_format", {**SMALL, "PROGRAMS": 3}),
        ((2, 4, 1, 6), 2, "float32", "contiguous_format", SMALL),
        ((1, 4, 2, 2), 4, "bfloat16", "contiguous_format", {}),
        ((3, 5, 7, 7), 5, "bfloat16", "contiguous_format", {"PROGRAMS": 4}),
        ((1, 20, 4, 4), 1, "float16", "contiguous_format", {}),
        ((1, 9, 2, 3), 3, "float32", "channels_last", SMALL),
        ((1, 4, 9, 33), 2, "float16", "channels_last", {}),
    ]
]


def interpreted(cases: list[dict]) -> list[dict]:
    script = Path(__file__).with_name("interpreted_triton.py")
    result = subprocess.run(
        [sys.executable, str(script), json.dumps(cases)],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def check(case: dict, answer: dict) -> None:
    assert answer["error"] <= ERRORS[case["dtype"]], case
    assert answer["types"] == [f"torch.{case['dtype']}"]
    assert answer["keeps_layout"]
    assert answer["input_sizes"] <= 2


def test_kernels_equal_the_formula_and_are_chosen():
    *answers, dispatched = interpreted([*CASES, {}])
    for case, answer in zip(CASES, answers, strict=True):
        check(case, answer)
    assert dispatched == {"mixed precision": ["triton"], "float64": ["formula"]}


@pytest.mark.slow
def test_kernels_equal_the_formula_for_more_sizes():
    for case, answer in zip(MORE_CASES, interpreted(MORE_CASES), strict=True):
        check(case, answer)


@pytest.mark.slow
def test_a_compiler_for_gpus_takes_the_kernels(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from triton_code import KERNELS, compiled

    x = torch.empty(2, 8, 6, 5, dtype=torch.bfloat16, device="meta")
    assert [compiled(name, x, 2, target=90)[1] for name in KERNELS] == [0, 0, 0, 0]  # bytes spilled


def test_where_the_kernels_do_not_run_the_formula_does(monkeypatch):
    monkeypatch.setattr(dispatch, "kernel_on", lambda device_type: "triton")
    monkeypatch.setattr(dispatch, "_trusted", {})
    module, x = build_attention("ema", 4, groups=2), torch.randn(2, 4, 3, 2)
    words = "attention kernel triton on cpu, maps 2 x 3 x 2 of torch.float32: .*; the formula is used"
    with pytest.warns(RuntimeWarning, match=words), chosen_kernel(None) as ran:
        assert torch.equal(module(x), module.formula(x))
    assert ran == {"formula"}


def test_a_channel_that_does_not_fit_into_a_program_is_out_of_reach():
    assert takes_size(128, 128)
    assert not takes_size(129, 128)
    assert takes_size(1, LARGEST_CHANNEL)
