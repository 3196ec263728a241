"""Each registered attention module, and those yet to come, keep the contract that users' own are held to."""

from collections.abc import Mapping
from typing import Any

import pytest
from torch.nn.modules.batchnorm import _BatchNorm

from ema_lab.attention import attentions
from ema_lab.contract.attention import CHECKS, AttentionCase
from ema_lab.contract.check import Check, run_check
from ema_lab.registry.catalogue import ATTENTIONS

CHANNELS = 128
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

BY_NAME = {check.name: check for check in CHECKS}


@pytest.fixture(params=SETTINGS, ids=lambda setting: " ".join(map(str, [setting[0], setting[1] or "-"])))
def case(request: pytest.FixtureRequest) -> AttentionCase:
    return AttentionCase(request.param[0], CHANNELS, request.param[1])


class TestEveryAttention:
    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
    def test_keeps_the_contract(self, case: AttentionCase, check: Check[AttentionCase]) -> None:
        result = run_check(check, case)
        about_options = check.name.startswith("options ") and not ATTENTIONS.options(case.target)
        assert result.outcome == ("does not apply" if about_options else "passed"), result.detail

    def test_refuses_a_lone_value_only_where_it_normalises_it(self, case: AttentionCase) -> None:
        normalises = any(isinstance(part, _BatchNorm) for part in case.fresh().modules())
        found = run_check(BY_NAME["takes a lone value or refuses it"], case).detail
        if case.target in LONE_VALUES and normalises:
            kind, got = (
                "refused in training: BatchNorm",
                "d needs more than one value per channel in training",
            )
            assert found.startswith(kind)
            assert f"{got}, got (1, " in found
        else:
            assert found == ""

    def test_draws_no_random_numbers_in_training_either(self, case: AttentionCase) -> None:
        assert run_check(BY_NAME["draws no random numbers"], case).detail == ""

    def test_trains_all_of_its_parameters(self, case: AttentionCase) -> None:
        assert run_check(BY_NAME["gives gradients"], case).detail == ""
        assert getattr(case.fresh(), "zero_gradients", set()) == ZERO_GRADIENTS.get(case.target, set())
