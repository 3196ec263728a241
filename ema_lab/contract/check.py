"""What a contract is made of: named checks, and their outcome as one line each.

A check returns what it found ("largest difference 3e-7", or nothing worth saying), raises `RuleError`
with the rule that does not hold, or `NotApplicableError`. Whatever else the code under check raises is a
failure too, told with its type and its place in that code.
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
    """There is nothing to check; the message says why."""


class Subject(Protocol):
    """What checks are run on."""

    @property
    def source(self) -> Path:
        """The file that its code is in."""

    @property
    def definition(self) -> str:
        """Where its parameters are, "file:line"."""


S_contra = TypeVar("S_contra", bound=Subject, contravariant=True)


@dataclass(frozen=True)
class Check(Generic[S_contra]):
    """One rule.

    Attributes:
        name: The rule in words.
        look: Looks whether it holds, and returns what is worth saying about it.
        essential: Whether nothing else can be looked at where it does not hold.
    """

    name: str
    look: Callable[[S_contra], str]
    essential: bool = False


@dataclass(frozen=True)
class Result:
    """The outcome of one check; `detail` is one line, and may be empty."""

    name: str
    outcome: Outcome
    detail: str


def run_checks(checks: Sequence[Check[S_contra]], subject: S_contra) -> Iterator[Result]:
    """Yield the result of each check, in order; after an essential one that fails, none is run."""
    failed = ""
    for check in checks:
        if failed:
            yield Result(check.name, "does not apply", f"not looked at, as {failed!r} failed")
            continue
        result = run_check(check, subject)
        if check.essential and result.outcome == "failed":
            failed = check.name
        yield result


def run_check(check: Check[S_contra], subject: S_contra) -> Result:
    """Run one check; torch's random state is as it was afterwards."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Result(check.name, "passed", one_line(check.look(subject)))
    except NotApplicableError as error:
        return Result(check.name, "does not apply", one_line(str(error)))
    except RuleError as error:
        return Result(check.name, "failed", one_line(str(error)))
    except (Exception, SystemExit) as error:  # code under check may raise anything
        return Result(check.name, "failed", told(error, subject))


def require(condition: object, rule: str) -> None:
    """Raise `RuleError` with the rule if the condition does not hold."""
    if not condition:
        raise RuleError(rule)


def largest_difference(actual: Tensor, expected: Tensor, *, rtol: float, atol: float) -> str:
    """Return "largest difference 3e-7" of two tensors of one shape.

    Raises:
        RuleError: If |actual - expected| <= atol + rtol |expected| does not hold everywhere.
    """
    require(
        actual.shape == expected.shape, f"the shape is {tuple(actual.shape)}, not {tuple(expected.shape)}"
    )
    actual, expected = actual.detach().double(), expected.detach().double()
    difference = (actual - expected).abs()
    words = f"largest difference {float(difference.max()):.1g}"
    require(bool((difference <= atol + rtol * expected.abs()).all()), words)
    return words


def told(error: BaseException, subject: Subject) -> str:
    """Return an error as one line: its type, its message, and its place in the code of the subject."""
    place = error_place(error, subject.source)
    if not place and _is_of_the_call(error):
        place = subject.definition  # its parameters are not those of the call
    message = one_line(str(error))
    return f"{type(error).__name__}{': ' if message else ''}{message}" + (f" ({place})" if place else "")


def error_place(error: BaseException, source: Path) -> str:
    """Return "file:line" of the innermost frame that is code of `source` or of its folder, or ""."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    # torch.compile runs no frame of the code that it reads, but names its lines in the message
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


def _is_of_the_call(error: BaseException) -> bool:
    """Whether calling the code failed before any of it ran."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, TypeError) and Path(frames[-1].filename).parent == _PACKAGE / "registry"


def one_line(text: str) -> str:
    """Return the first line that says something, not too long for a table."""
    line = next((" ".join(line.split()) for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= MAX_DETAIL else line[: MAX_DETAIL - 3] + "..."
