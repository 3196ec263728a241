"""Contract of attention modules: each check fails on a module that breaks its rule, in one line."""

import re

import pytest

from ema_lab.contract.attention import CHECKS, AttentionCase
from ema_lab.contract.check import Result, run_check, run_checks

BY_NAME = {check.name: check for check in CHECKS}
WRONG = [
    ("is built", "CannotBeBuilt", "KeyError: 'absent' (wrong_attention.py:"),
    ("is built", "NoModule", "is a NoModule, not an nn.Module"),
    ("keeps shape and type", "ChangesShape", "returns (2, 8, 1, 1) in training on (2, 8, 1, 6)"),
    ("takes a lone value or refuses it", "RefusesSmall", "ValueError: too small (wrong_attention.py:"),
    (
        "treats images of a batch apart",
        "UsesTheBatch",
        "the output of an image depends on the others: largest",
    ),
    ("gives gradients", "UnusedParameter", "no gradient reaches unused"),
    ("gives gradients", "ZeroGradient", "the gradient of shift is zero everywhere"),
    ("leaves its input alone", "ChangesItsInput", "changes its input in place in training"),
    ("draws no random numbers", "DrawsInEvaluation", "draws random numbers in evaluation"),
    ("draws no random numbers", "DrawsFromPython", "draws from Python's random state, which no run seeds"),
    ("draws no random numbers", "DrawsFromNumpy", "draws from NumPy's random state, which no run seeds"),
    ("is repeatable", "CountsItsCalls", "the same input gives another output the second time"),
    ("is repeatable", "LearnsInEvaluation", "evaluation changes seen"),
    ("starts from its seed", "StartsAnywhere", "one seed gives different initial values of mix.bias"),
    ("survives a deep copy", "CannotBeCopied", "TypeError: one of its kind (wrong_attention.py:"),
    ("survives pickling", "HasALambda", "<lambda>"),
    ("survives a state file", "HidesState", "is not in the state dict"),
    ("computes in float64", "SinglePrecision", "returns torch.float32 for torch.float64"),
    ("computes under autocast", "ReturnsHalf", "returns torch.float16 for torch.float32 under bfloat16"),
    ("computes under autocast", "MixesTypes", "RuntimeError: mat1 and mat2 must have the same dtype"),
    ("trains under autocast", "MixesTypes", "(wrong_attention.py:"),
    ("takes channels_last", "NeedsContiguous", "RuntimeError: view size is not compatible"),
    ("compiles into one graph", "DependsOnValues", "(wrong_attention.py:"),
    ("is compiled as the second variant", "DiffersWhenCompiled", "largest difference"),
    ("builds without weights", "FixedDevice", "table is not on the device that it was built on"),
    ("cost is counted", "ForksATrace", "RuntimeError: cannot be traced (wrong_attention.py:"),
    ("options are explained", "Unexplained", "option 'scale' has no line under `Args:` of the docstring"),
    ("options are explained", "Untyped", "option 'scale' has no type"),
    ("options have an effect", "IgnoresAnOption", "'bias' changes nothing: tried False in place of True"),
    (
        "options have an effect",
        "IgnoresANumber",
        "'groups' changes nothing: tried 16, 4, 10, 2, 1 in place of 8",
    ),
    ("options have an effect", "FailsAtOtherValues", "KeyError: 2 (wrong_attention.py:"),
]


def result(check: str, module: str) -> Result:
    return run_check(BY_NAME[check], AttentionCase(f"wrong_attention:{module}", 8))


@pytest.mark.parametrize("check", ["compiles into one graph", "is compiled as the second variant"])
def test_a_failure_to_compile_is_one_line_without_the_log_of_torch(check, capfd):
    assert "(wrong_attention.py:" in result(check, "AddsTooFew").detail
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("check", "module", "detail"), WRONG, ids=[f"{c}: {m}" for c, m, _ in WRONG])
def test_a_broken_rule_is_reported(check: str, module: str, detail: str) -> None:
    found = result(check, module)
    assert found.outcome == "failed"
    assert detail in found.detail
    assert "\n" not in found.detail


def test_every_check_has_a_module_that_fails_it() -> None:
    assert {check for check, _, _ in WRONG} == BY_NAME.keys()


def test_a_good_module_keeps_every_rule() -> None:
    found = list(run_checks(CHECKS, AttentionCase("wrong_attention:Good", 8, {"scale": 2.0})))
    assert [(one.name, one.detail) for one in found if one.outcome != "passed"] == []
    assert [one.name for one in found] == list(BY_NAME)


def test_after_a_module_that_cannot_be_built_nothing_else_is_looked_at() -> None:
    first, *others = run_checks(CHECKS, AttentionCase("wrong_attention:CannotBeBuilt", 8))
    assert first.outcome == "failed"
    assert {(one.outcome, one.detail) for one in others} == {
        ("does not apply", "not checked, because 'is built' failed")
    }


@pytest.mark.parametrize(
    ("check", "module", "outcome", "detail"),
    [
        ("computes under autocast", "EndsInAConvolution", "passed", "largest difference"),
        ("draws no random numbers", "DropsOut", "passed", "draws from torch's random state in training"),
        ("options have an effect", "RefusesOtherValues", "passed", "groups refuses 2, 3"),
        ("options have an effect", "TakesAWord", "does not apply", "no other value is known to try: mode"),
        ("options have an effect", "Plain", "does not apply", "no options"),
        ("options are explained", "Plain", "does not apply", "no options"),
    ],
)
def test_what_breaks_no_rule_is_reported_as_it_is(check: str, module: str, outcome: str, detail: str) -> None:
    found = result(check, module)
    assert found.outcome == outcome
    assert found.detail.startswith(detail)


def test_costs_name_operators_that_are_not_counted() -> None:
    found = result("cost is counted", "Plain")
    assert found.detail == "72 parameters, 64 MACs at 56x56"
    found = result("cost is counted", "Unruled")
    assert found.detail == "0 parameters, 0 MACs at 56x56; no rule counts special_i0e"


def test_a_call_that_does_not_fit_points_at_the_constructor() -> None:
    found = result("is built", "TakesMore")
    assert re.fullmatch(r"TypeError: .*missing 1 required .*'more' \(wrong_attention\.py:\d+\)", found.detail)
