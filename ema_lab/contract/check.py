"""Checks of a contract, each with a one-line result.

A check returns a detail such as "largest difference 3e-7" (or an empty string), raises `RuleError` with the
broken rule, or raises `NotApplicableError`. Any other exception of the code under check also fails the check;
the result then gives the exception's type and its line in that code.
"""

import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

Outcome = Literal["passed", "failed", "does not apply"]
MAX_DETAIL = 240
_PACKAGE = Path(__file__).resolve().parent.parent


class RuleError(AssertionError):
    """The code under check breaks a rule; the message is one line."""


class NotApplicableError(Exception):
    """The check does not apply to the code; the message says why."""


class Subject(Protocol):
    """Code under check."""

    @property
    def source(self) -> Path:
        """The file that holds the code."""

    @property
    def definition(self) -> str:
        """The line that declares the code's parameters, as "file:line"."""


S_contra = TypeVar("S_contra", bound=Subject, contravariant=True)


@dataclass(frozen=True)
class Check(Generic[S_contra]):
    """Check of one rule.

    Attributes:
        name: The rule as text.
        verify: Checks the rule and returns a detail for the result.
        essential: Whether a failure makes all later checks meaningless.
    """

    name: str
    verify: Callable[[S_contra], str]
    essential: bool = False


@dataclass(frozen=True)
class Result:
    """Result of one check; `detail` is one line or empty."""

    name: str
    outcome: Outcome
    detail: str


def run_checks(checks: Sequence[Check[S_contra]], subject: S_contra) -> Iterator[Result]:
    """Run checks in order and yield their results; none runs after a failed essential check."""
    failed = ""
    for check in checks:
        if failed:
            yield Result(check.name, "does not apply", f"not checked, because {failed!r} failed")
            continue
        result = run_check(check, subject)
        if check.essential and result.outcome == "failed":
            failed = check.name
        yield result


def run_check(check: Check[S_contra], subject: S_contra) -> Result:
    """Run one check from a fixed random state, and restore torch's random state afterwards."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Result(check.name, "passed", one_line(check.verify(subject)))
    except NotApplicableError as error:
        return Result(check.name, "does not apply", one_line(str(error)))
    except RuleError as error:
        return Result(check.name, "failed", one_line(str(error)))
    except (Exception, SystemExit) as error:  # code under check may raise anything
        return Result(check.name, "failed", error_line(error, subject))


def require(condition: object, rule: str) -> None:
    """Raise `RuleError` with the rule if the condition does not hold."""
    if not condition:
        raise RuleError(rule)


def largest_difference(actual: Tensor, expected: Tensor, *, rtol: float, atol: float) -> str:
    """Compare two tensors and return their largest difference, such as "largest difference 3e-7".

    Args:
        actual: The computed values.
        expected: The reference values.
        rtol: Allowed difference relative to |expected|.
        atol: Allowed absolute difference.

    Raises:
        RuleError: If the shapes differ, or |actual - expected| > atol + rtol |expected| anywhere.
    """
    require(
        actual.shape == expected.shape, f"the shape is {tuple(actual.shape)}, not {tuple(expected.shape)}"
    )
    actual, expected = actual.detach().double(), expected.detach().double()
    difference = (actual - expected).abs()
    detail = f"largest difference {float(difference.max()):.1g}"
    require(bool((difference <= atol + rtol * expected.abs()).all()), detail)
    return detail


def error_line(error: BaseException, subject: Subject) -> str:
    """Format an error as one line: type, message, and location in the code under check."""
    location = error_location(error, subject.source)
    if not location and _is_call_error(error):
        location = subject.definition  # the declared parameters do not match the call
    message = one_line(str(error))
    return f"{type(error).__name__}{': ' if message else ''}{message}" + (
        f" ({location})" if location else ""
    )


def error_location(error: BaseException, source: Path) -> str:
    """Return "file:line" of the innermost frame in the folder of `source`; empty without one."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    # torch.compile reads code without running it: its lines appear only in the message
    frames += [(file, int(line)) for file, line in re.findall(r'File "(.+?)", line (\d+)', str(error))]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    folder = source.resolve().parent
    for file, line in reversed(frames):
        path = Path(file).resolve()
        ours = path.is_relative_to(_PACKAGE) and not folder.is_relative_to(_PACKAGE)
        inside = path.is_relative_to(folder) and "site-packages" not in path.parts
        if inside and not ours and not path.is_relative_to(_PACKAGE / "contract"):
            return f"{path.name}:{line}"
    return ""


def _is_call_error(error: BaseException) -> bool:
    """Return whether the call failed because of its arguments, before any code under check ran."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, TypeError) and Path(frames[-1].filename).parent == _PACKAGE / "registry"


def one_line(text: str) -> str:
    """Return the first line that is not blank, cut to `MAX_DETAIL` characters."""
    line = next((" ".join(line.split()) for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= MAX_DETAIL else line[: MAX_DETAIL - 3] + "..."
