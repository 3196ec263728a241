"""Each registered attention module, and those yet to come, keep the contract that users' own are held to."""

from collections.abc import Mapping
from typing import Any

import pytest
from torch.nn.modules.batchnorm import _BatchNorm

from ema_lab.attention import attentions
from ema_lab.contract.attention import CHECKS, AttentionCase
from ema_lab.contract.check import run_checks
from ema_lab.registry.catalogue import ATTENTIONS

CHANNELS = 128
DEFAULT = {"matched": {"of": {"name": "se"}}, "zero_start": {"of": {"name": "se"}}}
SECOND = "is compiled as the second variant"  # compiles two networks to hold a rule of insertion:
SECOND_OF = [("se", {}), ("ema", {}), ("matched", DEFAULT["matched"])]  # these few stand for all
Setting = tuple[str, Mapping[str, Any]]
SETTINGS: list[Setting] = [
    *((name, {}) for name in attentions() if name not in {"frozen", *DEFAULT}),
    *DEFAULT.items(),
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
ZERO_GRADIENTS = {
    "gc": {"score.bias"},  # a softmax over positions cancels one bias for all of them
    "zero_start": {"inner.squeeze.weight", "inner.excite.weight"},  # which its gain of 0 hides
}

LONE_VALUES = {"bam", "cbam", "gam", "ge", "nam", "triplet"}  # `ca` normalises at least a row and a column


@pytest.mark.parametrize(
    ("name", "options"), SETTINGS, ids=[" ".join([name, str(options or "-")]) for name, options in SETTINGS]
)
def test_every_attention_keeps_the_contract(name: str, options: Mapping[str, Any]) -> None:
    case = AttentionCase(name, CHANNELS, options)
    checks = [check for check in CHECKS if check.name != SECOND or (name, options) in SECOND_OF]
    results = {one.name: one for one in run_checks(checks, case)}
    assert results.keys() == {check.name for check in checks}
    mute = set() if ATTENTIONS.options(name) else {one for one in results if one.startswith("options ")}
    if ATTENTIONS.options(name).keys() == {"of"}:  # test_option.py tries another module
        mute = {"options have an effect"}
    others = {one: result for one, result in results.items() if result.outcome != "passed"}
    assert others.keys() == mute
    assert {result.outcome for result in others.values()} <= {"does not apply"}

    lone = results["takes a lone value or refuses it"].detail
    if name in LONE_VALUES and any(isinstance(part, _BatchNorm) for part in case.fresh().modules()):
        assert lone.startswith("refused in training: BatchNorm")
        assert "d needs more than one value per channel in training, got (1, " in lone
    else:
        assert lone == ""
    assert results["draws no random numbers"].detail == ""
    assert results["gives gradients"].detail == ""
    assert getattr(case.fresh(), "zero_gradients", set()) == ZERO_GRADIENTS.get(name, set())
