"""Errors that a user can cause; the command line prints them as one line each and exits with 2.

Only `WorkersDiedError` makes it exit with 1: nothing is wrong with the request.
"""

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class EmaLabError(Exception):
    """What went wrong is in the request or its surroundings, not in this package."""


class SpecError(EmaLabError, ValueError):
    """A definition, an option or an argument is wrong."""


class UnknownNameError(SpecError):
    """A name that stands for nothing; the message lists what exists."""


class StoreError(EmaLabError):
    """The run store cannot be used as asked."""


class DamagedFileError(StoreError):
    """A file of the store is not what was written: cut off, or overwritten."""


class DataError(EmaLabError):
    """A data set is absent or damaged."""


class DamagedDataError(DataError):
    """A file of a data set is there, but not what it should be; the message names it."""


class CostError(EmaLabError):
    """A model's cost cannot be counted, or two ways to count it disagree."""


class EngineError(EmaLabError):
    """An engine cannot start here, or its cluster does not answer."""


class WorkersDiedError(EngineError):
    """The processes that train were killed; the next call goes on."""


class MirrorError(EmaLabError):
    """A mirror cannot be reached, or does not hold what was sent."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one place of a file."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class DefinitionError(SpecError):
    """All problems of one definition file, one line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


class RunTimeoutError(EmaLabError):
    """A run took longer than it was given."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: what Ctrl-C is to a person, to a batch system."""


_PACKAGE = f"{Path(__file__).resolve().parent}{os.sep}"
_LIBRARIES = ("site-packages", "<frozen", "importlib")


def located(error: BaseException) -> str:
    """Return an error's kind, first line, and the place of the code, not a library's, that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(part in frame.filename for part in _LIBRARIES)]
    place = user_place(error) or _place((own or frames)[-1])
    words = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {words} ({place})"


def user_place(error: BaseException) -> str:
    """Return "file:line" of the innermost frame outside of this package and of libraries, or ""."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(part in frame.filename for part in (*_LIBRARIES, _PACKAGE)):
            return _place(frame)
    return ""


def _place(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}:{frame.lineno}"
