"""Contract of data sets: shipped ones keep every rule, and each check fails on one that breaks its rule."""

from pathlib import Path

import pytest

from ema_lab.contract.check import Result, run_check, run_checks
from ema_lab.contract.dataset import CHECKS, DatasetCase

BY_NAME = {check.name: check for check in CHECKS}
WRONG = [
    ("is loaded", "build", "absent", "FileNotFoundError: data/images.bin is not there (wrong_dataset.py:"),
    ("is loaded", "build", "nothing", "what it returns has no tensor `train.labels`"),
    ("images are bytes", "build", "floats", "train images are torch.float32, not torch.uint8"),
    (
        "images are bytes",
        "build",
        "float crops",
        "train: a random crop is torch.float32 (1, 2, 4, 4), not torch",
    ),
    ("sizes are as known", "build", "one more", "train has 31 labels, but 30 are known"),
    ("labels are classes", "build", "high label", "train has the label 3, but 3 classes are known"),
    ("labels are classes", "build", "negative label", "train has the label -1"),
    ("labels are classes", "build", "small labels", "train labels are torch.int32, not torch.int64"),
    ("every class is in both parts", "build", "class absent", "train has no image of class 1"),
    ("is the same every time", "build", "other images", "loading it twice gives other images or labels"),
    ("options are explained", "mute", "", "'flaw' has no line"),
]


def result(check: str, function: str, flaw: str) -> Result:
    return run_check(BY_NAME[check], DatasetCase(f"wrong_dataset:{function}", options={"flaw": flaw}))


def others(case: DatasetCase) -> list[tuple[str, str]]:
    """Run every check; return the name and the outcome of each that does not pass."""
    found = list(run_checks(CHECKS, case))
    assert [one.name for one in found] == list(BY_NAME)
    return [(one.name, one.outcome) for one in found if one.outcome != "passed"]


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_a_shipped_data_set_keeps_the_contract(name: str, tmp_path: Path) -> None:
    mute = [("options are explained", "does not apply")] if name == "digits" else []
    assert others(DatasetCase(name, tmp_path)) == mute


@pytest.mark.parametrize(
    ("check", "function", "flaw", "detail"), WRONG, ids=[f"{row[0]}: {row[2]}" for row in WRONG]
)
def test_a_broken_rule_fails_its_check(check: str, function: str, flaw: str, detail: str) -> None:
    found = result(check, function, flaw)
    assert found.outcome == "failed"
    assert detail in found.detail


def test_every_check_that_can_fail_has_a_data_set_that_fails_it() -> None:
    notes = {"test images are not trained on", "statistics are as known"}
    assert {row[0] for row in WRONG} | notes == BY_NAME.keys()


@pytest.mark.parametrize(("module", "outcome"), [("wrong", "passed"), ("unknown", "does not apply")])
def test_a_good_data_set_keeps_every_rule(module: str, outcome: str) -> None:
    found = {one.name: one for one in run_checks(CHECKS, DatasetCase(f"{module}_dataset:build"))}
    explained = found.pop("options are explained").outcome
    assert explained == outcome
    assert found.pop("sizes are as known").outcome == outcome
    assert {one.outcome for one in found.values()} == {"passed"}


def test_duplicates_are_counted() -> None:
    found = result("test images are not trained on", "build", "duplicates")
    note = "note: 2 test images are among the training images too (the first: 3, 4)"
    assert (found.outcome, found.detail) == ("passed", note)


def test_statistics_that_differ_from_the_known_ones_are_noted() -> None:
    unknown = run_check(BY_NAME["statistics are as known"], DatasetCase("unknown_dataset:build"))
    assert unknown.detail.startswith("mean (")
    found = result("statistics are as known", "build", "")
    assert found.outcome == "passed"
    assert found.detail.startswith("note: mean (")
    assert found.detail.endswith("but known are (0.5000, 0.5000), (0.2500, 0.2500)")


def test_images_in_files_are_held_to_the_same_rules() -> None:
    case = DatasetCase("wrong_dataset:build", options={"flaw": "in files"})
    assert others(case) == [("test images are not trained on", "does not apply")]
