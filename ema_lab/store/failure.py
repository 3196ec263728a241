"""Failures told apart: what went wrong, where, how often, and what helps.

A signature names equal failures: the cause, the exception's class, and the innermost line of the
user's or our own code, such as `error:RuntimeError:attention/ema.py:57`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Literal

from ema_lab.store.killed import KILLED, OOM_KILLED
from ema_lab.store.layout import LOG, RECORD
from ema_lab.store.record import Attempt, ErrorRecord
from ema_lab.store.store import RunFacts

Cause = Literal[
    "out of memory",
    "diverged",
    "data missing",
    "data damaged",
    "import error",
    "disk full",
    "killed",
    "timeout",
    "error",
]
REMEDIES: dict[Cause, str] = {
    "out of memory": "run fewer workers at once, or set a smaller recipe.batch_size",
    "diverged": "lower recipe.optimizer.lr or lengthen its warm-up",
    "data missing": "name the folder of the data sets with --data or EMA_LAB_DATA",
    "data damaged": "replace the file that is named by a whole one, or take it out of the data set",
    "import error": "install what is named, or start from the folder that your module lies in",
    "disk full": "free some space (ema-lab store gc shows what can go)",
    "killed": "see the system's log; a run goes on from its last epoch",
    "timeout": f"allow more time with --timeout, or find what hangs in {LOG}",
    "error": f"read the traceback in {RECORD} and mend what raised it",
}
_KINDS: dict[str, Cause] = {
    "OutOfMemoryError": "out of memory",
    "MemoryError": "out of memory",
    "_ArrayMemoryError": "out of memory",
    "DivergedError": "diverged",
    "FloatingPointError": "diverged",
    "DataError": "data missing",
    "DamagedDataError": "data damaged",
    "ImportError": "import error",
    "ModuleNotFoundError": "import error",
    "RunTimeoutError": "timeout",
}
_MARKS: tuple[tuple[Cause, str], ...] = (
    ("disk full", r"\[Errno (28|122)\]|No space left on device|Disk quota exceeded"),
    ("disk full", r"PytorchStreamWriter failed|inline_container\.cc.*(unexpected pos|file write)"),
    ("out of memory", r"out of memory|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED"),
    ("out of memory", r"insufficient shared memory|Cannot allocate memory|\[Errno 12\]"),
    ("killed", r"is killed by signal: Killed"),
)
_NO_PLACE: frozenset[Cause] = frozenset({"killed", "timeout"})  # they strike anywhere
_FRAME = re.compile(r'^ *File "(?P<file>[^"]+)", line (?P<line>\d+)', re.MULTILINE)
_LIBRARY = re.compile(r"[\\/](site-packages|dist-packages|lib[\\/]python3[.\d]*)[\\/]|^<")
_OURS = re.compile(r".*[\\/]ema_lab[\\/](?P<rest>.+)")


@dataclass(frozen=True)
class Failure:
    """Why a run has no result."""

    cause: Cause
    message: str
    signature: str

    @property
    def remedy(self) -> str:
        """What helps, in one line."""
        return REMEDIES[self.cause]


def failure_of(facts: RunFacts) -> Failure | None:
    """Return why the last attempt that counts gave no result; None if none has failed."""
    counted = [attempt for attempt in facts.attempts if attempt.counts]
    if facts.done or not counted:
        return None
    last = counted[-1]
    if last.outcome is None and last.reason in {None, KILLED, OOM_KILLED}:
        return _killed(last)
    record = facts.record
    if record is not None and record.error is not None and record.attempt == last.number:
        return failure(record.error)
    kind, _, message = (last.reason or "error: the record of this attempt is not there").partition(": ")
    return failure(ErrorRecord(kind=kind, message=message, traceback=""))


def failure(error: ErrorRecord) -> Failure:
    """Return what kind of failure an error is."""
    cause = _cause(error)
    place = "" if cause in _NO_PLACE else _place(error.traceback)
    kind = re.sub(r"\W", "", error.kind)
    signature = ":".join(part for part in (cause.replace(" ", "-"), kind, place) if part)
    return Failure(cause, f"{error.kind}: {error.message}", signature)


def _killed(attempt: Attempt) -> Failure:
    if attempt.reason == OOM_KILLED:
        return Failure("out of memory", OOM_KILLED, "out-of-memory:killed")
    return Failure("killed", KILLED, "killed")


def _cause(error: ErrorRecord) -> Cause:
    if error.kind in _KINDS:
        return _KINDS[error.kind]
    # Lines of code are indented, so what is not is what the exceptions said.
    said = "\n".join(line for line in error.traceback.splitlines() if not line.startswith(" "))
    said += f"\n{error.kind}: {error.message}"
    for cause, mark in _MARKS:
        if re.search(mark, said):
            return cause
    for kind in re.findall(r"^(?:[\w.]+\.)?(\w+)(?=:|$)", said, re.MULTILINE):
        if kind in _KINDS:  # what a loader's worker raised, or what the error was raised from
            return _KINDS[kind]
    return "error"


def _place(traceback: str) -> str:
    """Return "file:line" of the innermost frame that is no library's, without the folders of a machine."""
    places = []
    for frame in _FRAME.finditer(traceback):
        file, line = frame["file"], frame["line"]
        if ours := _OURS.fullmatch(file):
            places.append(f"{ours['rest']}:{line}")
        elif not _LIBRARY.search(file):
            places.append(f"{PureWindowsPath(file).name}:{line}")  # which splits at / too
    return re.sub(r"[^\w./:-]", "_", places[-1]) if places else ""


@dataclass(frozen=True)
class FailedRun:
    """A run that failed, as a grid calls it. `given_up`: it has hit the limit of attempts."""

    run_id: str
    name: str
    failure: Failure
    given_up: bool


@dataclass(frozen=True)
class FailureGroup:
    """Runs that failed alike, in the order of the grid."""

    failure: Failure
    runs: tuple[FailedRun, ...]


def grouped(runs: Iterable[FailedRun]) -> Sequence[FailureGroup]:
    """Group failed runs by signature, the most frequent first."""
    groups: dict[str, list[FailedRun]] = {}
    for run in runs:
        groups.setdefault(run.failure.signature, []).append(run)
    found = [FailureGroup(items[0].failure, tuple(items)) for items in groups.values()]
    return sorted(found, key=lambda group: -len(group.runs))
