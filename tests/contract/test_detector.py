"""Contract of detectors: shipped ones keep every rule, and each check fails on one that breaks its rule."""

import pytest

from ema_lab.contract.check import run_check, run_checks
from ema_lab.contract.detector import CHECKS, DetectorCase
from ema_lab.registry.catalogue import DETECTOR_HEADS

BY_NAME = {check.name: check for check in CHECKS}
WRONG = [
    ("is built", "raises", "KeyError: 'absent'"),
    ("outputs fit the task", "rows", "detections() must return (M, 6)"),
    ("learns from boxes", "empty", "the loss of no box at all is"),
    ("gives gradients", "unused", "no gradient reaches unused"),
    ("finds boxes", "rows", "detections() must return (M, 6)"),
    ("treats images of a batch apart", "batch", "the output of an image depends on the others"),
    ("leaves its input alone", "input", "changes its input in place in training"),
    ("draws no random numbers", "random", "draws random numbers in evaluation"),
    ("is repeatable", "state", "the same input gives another output the second time"),
    ("starts from its seed", "anywhere", "one seed gives different initial values of detector.head.bias"),
    ("is paired with and without attention", "anywhere", "head.bias starts from other values"),
    ("survives a deep copy", "copy", "TypeError: one of its kind (wrong_detector.py:"),
    ("survives pickling", "lambda", "<lambda>"),
    ("survives a state file", "hidden", "is not in the state dict"),
    ("builds without weights", "values", "meta"),
    ("cost is counted", "trace", "RuntimeError: cannot be traced (wrong_detector.py:"),
]
QUICK = 4  # of WRONG; the others take as long each
ESSENTIAL = {"has its named places"}  # the places are the backbone's, which has a contract of its own


def case(flaw: str = "", function: str = "build", *, on_backbone: bool = True) -> DetectorCase:
    options = {"flaw": flaw} if flaw else {}
    return DetectorCase(f"wrong_detector:{function}", on_backbone, options)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTOR_HEADS)
def test_a_shipped_detector_keeps_the_contract(name: str) -> None:
    options = {"neck": 64}
    results = list(run_checks(CHECKS, DetectorCase(name, options=options)))
    assert {one.name: one.detail for one in results if one.outcome != "passed"} == {}


@pytest.mark.slow
def test_yolov5_keeps_the_contract() -> None:
    results = list(run_checks(CHECKS, DetectorCase("yolov5n", on_backbone=False)))
    assert {one.name: one.detail for one in results if one.outcome != "passed"} == {}


@pytest.mark.parametrize(
    ("check", "flaw", "detail"),
    [
        pytest.param(*one, id=one[0], marks=[pytest.mark.slow] * (number >= QUICK))
        for number, one in enumerate(WRONG)
    ],
)
def test_a_broken_rule_fails_its_check(check: str, flaw: str, detail: str) -> None:
    found = run_check(BY_NAME[check], case(flaw))
    assert found.outcome == "failed"
    assert detail in found.detail


@pytest.mark.parametrize(
    ("flaw", "detail"),
    [
        ("width", "must give raw heads (2, anchors, rows, columns, 7) of each head, got (2, 2, 8, 8, 6)"),
        ("anchors", "has 1 anchor in `anchors`, and 2 in its heads"),
    ],
)
def test_raw_heads_that_do_not_fit_fail(flaw: str, detail: str) -> None:
    found = run_check(BY_NAME["outputs fit the task"], case(flaw, "Raw", on_backbone=False))
    assert (found.outcome, detail in found.detail) == ("failed", True), found.detail


def test_an_option_without_an_explanation_fails() -> None:
    found = run_check(BY_NAME["options are explained"], case("x", "mute"))
    assert (found.outcome, "'flaw' has no line" in found.detail) == ("failed", True)


def test_every_check_has_a_detector_that_fails_it() -> None:
    assert {check for check, _, _ in WRONG} | {"options are explained"} | ESSENTIAL == BY_NAME.keys()


@pytest.mark.parametrize(
    ("function", "on_backbone"), [pytest.param("build", True, marks=pytest.mark.slow), ("Raw", False)]
)
def test_a_good_detector_keeps_every_rule(function: str, on_backbone: bool) -> None:
    found = {one.name: one for one in run_checks(CHECKS, case("", function, on_backbone=on_backbone))}
    bad = {name: one.detail for name, one in found.items() if one.outcome == "failed"}
    assert bad == {}
    assert found["finds boxes"].outcome == "passed"
