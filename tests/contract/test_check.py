"""Checks and their one-line results, independent of the code under check."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from ema_lab.contract.check import (
    MAX_DETAIL,
    Check,
    NotApplicableError,
    RuleError,
    largest_difference,
    one_line,
    run_check,
    run_checks,
)
from ema_lab.contract.option import alternatives
from ema_lab.registry.signature import REQUIRED, Option


@dataclass
class Case:
    source: Path = Path(__file__)
    definition: str = "mine.py:3"


def raises(error: BaseException) -> Check[Case]:
    def verify(_case: Case) -> str:
        raise error

    return Check("raises", verify)


@pytest.mark.parametrize(
    ("error", "outcome", "detail"),
    [
        (RuleError("not kept"), "failed", "not kept"),
        (NotApplicableError("nothing there"), "does not apply", "nothing there"),
        (KeyError("a"), "failed", "KeyError: 'a' (test_check.py:"),
        (SystemExit(), "failed", "SystemExit (test_check.py:"),
        (RuntimeError("\n\n  first\nsecond"), "failed", "RuntimeError: first (test_check.py:"),
        (RuntimeError('x\n  File "other.py", line 1'), "failed", "RuntimeError: x (test_check.py:"),
        (RuntimeError(f'x\n  File "{__file__}", line 7'), "failed", "RuntimeError: x (test_check.py:7)"),
    ],
)
def test_whatever_is_raised_is_one_line(error, outcome, detail):
    found = run_check(raises(error), Case())
    assert found.outcome == outcome
    assert found.detail.startswith(detail)
    assert "\n" not in found.detail


def test_an_error_from_elsewhere_has_no_place():
    found = run_check(raises(KeyError("a")), Case(Path("/elsewhere/mine.py")))
    assert found.detail == "KeyError: 'a'"


def test_an_interruption_is_no_result():
    with pytest.raises(KeyboardInterrupt):
        run_check(raises(KeyboardInterrupt()), Case())


def test_random_state_is_the_same_for_every_check_and_left_alone():
    before = torch.get_rng_state()
    check = Check("draws", lambda _case: str(float(torch.rand(1))))
    assert run_check(check, Case()) == run_check(check, Case())
    assert torch.equal(torch.get_rng_state(), before)


def test_checks_are_run_in_order_up_to_an_essential_one_that_fails():
    good = Check("good", lambda _case: "found")
    bad = Check("bad", raises(RuleError("no")).verify, essential=True)
    found = run_checks([good, raises(RuleError("no")), good, bad, good], Case())
    assert [one.outcome for one in found] == ["passed", "failed", "passed", "failed", "does not apply"]


def test_differences_are_reported_and_bounded():
    a = torch.tensor([1.0, 2.0])
    assert largest_difference(a, a + 1e-3, rtol=0, atol=1e-2) == "largest difference 0.001"
    with pytest.raises(RuleError, match=r"largest difference 0\.001"):
        largest_difference(a, a + 1e-3, rtol=0, atol=1e-4)
    with pytest.raises(RuleError, match=r"the shape is \(2,\), not \(1, 2\)"):
        largest_difference(a, a[None], rtol=0, atol=1e-2)
    with pytest.raises(RuleError, match="nan"):
        largest_difference(a, a / 0 * 0, rtol=0, atol=1e-2)


def test_a_long_line_is_cut():
    assert len(one_line("x" * 1000)) == MAX_DETAIL


@pytest.mark.parametrize(
    ("kind", "current", "expected"),
    [
        (bool, True, [False]),
        (int, 8, [16, 4, 10, 2, 1]),
        (int, 1, [2, 3]),
        (int, 0, [2, 1]),
        (float, 0.5, [1.0, 0.25, 50.0, 0.005]),
        (float, 0.0, [1.0, 0.5]),
        (int | None, None, [2, 3, 4, 5, 7, 8, 1]),
        (float, REQUIRED, [0.5, 1.0, 2.0, 4.0, 8.0]),
        (str, "a", []),
    ],
)
def test_other_values_of_an_option_follow_from_its_type(kind, current, expected):
    assert alternatives(Option("x", kind, "", current, ""), current) == expected
