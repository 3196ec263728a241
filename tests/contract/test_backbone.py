"""Contract of backbones: shipped ones keep every rule, and each check fails on one that breaks its rule."""

import pytest

from ema_lab.contract.backbone import CHECKS, BackboneCase
from ema_lab.contract.check import Result, run_check, run_checks
from ema_lab.registry.catalogue import BACKBONES

BY_NAME = {check.name: check for check in CHECKS}
# One of each function that the catalogue names, small; the sweep of tests/models covers the families.
SHIPPED = [
    BackboneCase("resnet20", image_size=8, in_channels=1, classes=7),
    BackboneCase("resnet18", image_size=17, options={"stem": "cifar"}),
    BackboneCase("shufflenet_v2_x0_5", image_size=64),
    BackboneCase("timm/test_resnet", image_size=32),
]
WRONG = [
    ("is built", "build", "KeyError: 'absent' (wrong_backbone.py:"),
    ("returns one score per class", "classes", "returns (3, 9), not (3, 10), in training on (3, 3, 12, 12)"),
    ("treats images of a batch apart", "batch", "the output of an image depends on the others"),
    ("gives gradients", "unused", "no gradient reaches unused"),
    ("leaves its input alone", "input", "changes its input in place in training"),
    ("draws no random numbers", "random", "draws random numbers in evaluation"),
    ("is repeatable", "state", "the same input gives another output the second time"),
    ("starts from its seed", "anywhere", "one seed gives different initial values of fc.bias"),
    ("is paired with and without attention", "anywhere", "fc.bias starts from other values once attention"),
    ("has its named places", "place", "names 'layer9.0', which is no submodule"),
    ("survives a deep copy", "copy", "TypeError: one of its kind (wrong_backbone.py:"),
    ("survives pickling", "lambda", "<lambda>"),
    ("survives a state file", "hidden", "is not in the state dict"),
    ("builds without weights", "values", "meta"),
    ("cost is counted", "trace", "RuntimeError: cannot be traced (wrong_backbone.py:"),
]


def result(check: str, flaw: str, function: str = "build") -> Result:
    case = BackboneCase(f"wrong_backbone:{function}", image_size=12, options={"flaw": flaw})
    return run_check(BY_NAME[check], case)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] * (case.target in {"resnet18", "shufflenet_v2_x0_5"}))
        for case in SHIPPED
    ],
    ids=lambda case: case.target,
)
def test_a_shipped_backbone_keeps_the_contract(case: BackboneCase) -> None:
    found = list(run_checks(CHECKS, case))
    assert [one.name for one in found] == list(BY_NAME)
    mute = [] if BACKBONES.options(case.target) else [("options are explained", "does not apply")]
    assert [(one.name, one.outcome) for one in found if one.outcome != "passed"] == mute, found


@pytest.mark.parametrize("check", ["builds without weights", "has its named places", "options are explained"])
def test_a_large_backbone_keeps_what_can_be_checked_without_weights(check: str) -> None:
    assert run_check(BY_NAME[check], BackboneCase("resnet50", image_size=33)).outcome == "passed"


@pytest.mark.parametrize(("check", "flaw", "detail"), WRONG, ids=[check for check, _, _ in WRONG])
def test_a_broken_rule_fails_its_check(check: str, flaw: str, detail: str) -> None:
    found = result(check, flaw)
    assert found.outcome == "failed"
    assert detail in found.detail


def test_an_option_without_an_explanation_fails() -> None:
    found = result("options are explained", "", function="mute")
    assert (found.outcome, "'flaw' has no line" in found.detail) == ("failed", True)


def test_every_check_has_a_backbone_that_fails_it() -> None:
    assert {check for check, _, _ in WRONG} | {"options are explained"} == BY_NAME.keys()


def test_a_good_backbone_keeps_every_rule() -> None:
    found = {one.name: one for one in run_checks(CHECKS, BackboneCase("wrong_backbone:build", image_size=12))}
    assert {one.outcome for one in found.values()} == {"passed"}
    assert found["is paired with and without attention"].detail == "9 values shared, 1 added by eca"
    assert found["has its named places"].detail == "block_end: 1 site"
    assert found["gives gradients"].detail == ""


def test_a_frozen_parameter_fails_the_check_of_gradients() -> None:
    found = result("gives gradients", "frozen")
    assert (found.outcome, found.detail) == ("passed", "1 frozen parameter")


@pytest.mark.parametrize("check", ["is paired with and without attention", "has its named places"])
def test_a_backbone_without_places_has_none_to_check(check: str) -> None:
    found = result(check, "none")
    assert (found.outcome, found.detail[:14]) == ("does not apply", "names no place")
