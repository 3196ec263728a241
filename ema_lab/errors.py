"""Errors that a user can cause. The command line prints each as one line and exits with code 2.

`WorkersDiedError` alone exits with code 1, because the request itself is valid.
"""

import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class EmaLabError(Exception):
    """Base class of errors caused by the request or its environment, not by this package."""


class SpecError(EmaLabError, ValueError):
    """Invalid definition, option or argument."""


class UnknownNameError(SpecError):
    """Unknown name. The message lists the known names."""


class StoreError(EmaLabError):
    """Run store that cannot serve the request."""


class DamagedFileError(StoreError):
    """Truncated or overwritten file of the run store."""


class StrangerError(DamagedFileError):
    """Record whose curve or predictions belong to another run, so that its numbers may, too."""


class DataError(EmaLabError):
    """Missing or damaged data set."""


class AbsentDataError(DataError):
    """Data set whose files are not on this machine: the folder that should hold them is missing."""


class DamagedDataError(DataError):
    """Data set file with unexpected content. The message names the file."""


class UnreadableDataError(DataError):
    """Listed data set file that cannot be opened, such as a removed one. The message names the file."""


def missing_data_error(folder: Path) -> type[DataError]:
    """Return the class of the error that a folder lacks files of a data set: absent if the folder is, too."""
    return DataError if folder.is_dir() else AbsentDataError


class CostError(EmaLabError):
    """Model whose cost cannot be counted, or whose two counters disagree."""


class CompileError(EmaLabError):
    """Model that torch.compile cannot compile, or compiles to one that computes something else."""


class EngineError(EmaLabError):
    """Engine that cannot start on this machine, or whose cluster does not answer."""


class WorkersDiedError(EngineError):
    """Killed training processes. Calling the command again resumes their runs."""


class RankError(EmaLabError):
    """Process (rank) of a run on several devices that failed. The attempt counts; the next one goes on."""


class RankDiedError(RankError):
    """Rank that was killed."""


class RankHungError(RankError):
    """Rank that took no part while the others waited for it."""


class MirrorError(EmaLabError):
    """Mirror that cannot be reached, or that lacks data sent to it."""


@dataclass(frozen=True)
class Problem:
    """One problem of a file and its location ("file:line")."""

    where: str
    message: str

    def __str__(self) -> str:
        _, _, key = self.where.rpartition(" ")  # of "--set recipe.epochs", which messages name as well
        return f"{self.where}: {self.message.removeprefix(f'{key}: ')}"


class DefinitionError(SpecError):
    """All problems of one definition file. The message has one line per problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


class RunTimeoutError(EmaLabError):
    """Run that exceeded its time limit."""


class Terminated(KeyboardInterrupt):
    """SIGTERM from a batch system, handled like Ctrl-C from a person."""


_PACKAGE = f"{Path(__file__).resolve().parent}{os.sep}"
_LIBRARIES = ("site-packages", "<frozen", "importlib")


def error_summary(error: BaseException) -> str:
    """Return an error's type, first line and source location ("file:line"), skipping library frames."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(part in frame.filename for part in _LIBRARIES)]
    location = user_location(error) or _file_line((own or frames)[-1])
    message = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {message} ({location})"


def user_location(error: BaseException) -> str:
    """Return "file:line" of the innermost frame outside this package and its libraries, or ""."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(part in frame.filename for part in (*_LIBRARIES, _PACKAGE)):
            return _file_line(frame)
    return ""


def _file_line(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}:{frame.lineno}"
