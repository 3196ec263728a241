"""Classification of failures: cause, code line, frequency and remedy.

Equal failures share a signature: the cause, the exception's class, and the innermost line of the user's or
this package's code, such as `error:RuntimeError:attention/ema.py:57`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PureWindowsPath
from typing import Literal

from ema_lab.store.killed import KILLED, OOM_KILLED
from ema_lab.store.layout import LOG
from ema_lab.store.record import Attempt, ErrorRecord
from ema_lab.store.store import RunFacts, State

Cause = Literal[
    "out of memory",
    "diverged",
    "data missing",
    "data damaged",
    "data unreadable",
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
    "data damaged": "replace the damaged file, or remove it from the data set",
    "data unreadable": "put the file back, or make it readable",
    "import error": "install the missing package, or start in the folder of your module",
    "disk full": "free some space (ema-lab store gc shows what can go)",
    "killed": "see the system's log; a killed run resumes from its last checkpoint",
    "timeout": f"allow more time (--timeout, --rank-timeout for ranks), or find what hangs in {LOG}",
    "error": "`ema-lab log RUN` shows the traceback: mend what raised it",
}
_KINDS: dict[str, Cause] = {
    "OutOfMemoryError": "out of memory",
    "MemoryError": "out of memory",
    "_ArrayMemoryError": "out of memory",
    "DivergedError": "diverged",
    "FloatingPointError": "diverged",
    "AbsentDataError": "data missing",
    "DataError": "data missing",
    "DamagedDataError": "data damaged",
    "UnreadableDataError": "data unreadable",
    "ImportError": "import error",
    "ModuleNotFoundError": "import error",
    "RunTimeoutError": "timeout",
    "RankDiedError": "killed",
    "RankError": "timeout",  # a machine that did not come
    "RankHungError": "timeout",
}
_MARKS: tuple[tuple[Cause, str], ...] = (
    ("disk full", r"\[Errno (28|122)\]|No space left on device|Disk quota exceeded"),
    ("disk full", r"PytorchStreamWriter failed|inline_container\.cc.*(unexpected pos|file write)"),
    ("out of memory", r"out of memory|can't allocate memory|CUBLAS_STATUS_ALLOC_FAILED"),
    ("out of memory", r"insufficient shared memory|Cannot allocate memory|\[Errno 12\]"),
    ("killed", r"is killed by signal: Killed"),
)
# A kill or a timeout strikes at any line, which would split equal failures into many signatures.
_WITHOUT_LINE: frozenset[Cause] = frozenset({"killed", "timeout"})
_FRAME = re.compile(
    r'^ *File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?'
    r'(?:\n(?! *File ")(?P<code> +.*))?',
    re.MULTILINE,
)
_LIBRARY = re.compile(r"[\\/](site-packages|dist-packages|lib[\\/]python3[.\d]*)[\\/]|^<")
_OURS = re.compile(r".*[\\/]ema_lab[\\/](?P<rest>.+)")


@dataclass(frozen=True)
class Failure:
    """Classified failure of a run: cause, message, and signature that equal failures share.

    `place`: "file:line" of the innermost frame in the user's own code, else in this package's; may be empty.
    """

    cause: Cause
    message: str
    signature: str
    place: str = ""

    @property
    def sentence(self) -> str:
        """The message and the place, as every command prints them."""
        return f"{self.message} ({self.place})" if self.place else self.message

    @property
    def remedy(self) -> str:
        """Advice for the cause, on one line."""
        return REMEDIES[self.cause]


def shown_state(state: State, failure: Failure | None) -> str:
    """Return a run's state for display: a failed run is called failed, even if it will be tried again."""
    return "failed" if failure is not None and state == "pending" else state


def failure_of(facts: RunFacts) -> Failure | None:
    """Return the failure of the last counted attempt; None for a finished or never failed run."""
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


def ended_failure(facts: RunFacts, state: State) -> Failure | None:
    """Return the failure of the last attempt that has ended: a running one was not killed."""
    ended = replace(facts, attempts=facts.attempts[:-1]) if state == "running" else facts
    return failure_of(ended)


def failure(error: ErrorRecord) -> Failure:
    """Classify an error by cause and signature."""
    cause = _cause(error)
    line = "" if cause in _WITHOUT_LINE else _innermost_line(error.traceback)
    kind = re.sub(r"\W", "", error.kind)
    signature = ":".join(part for part in (cause.replace(" ", "-"), kind, line) if part)
    return Failure(
        cause, f"{error.kind}: {error.message}", signature, _place(error.traceback) if line else ""
    )


def _killed(attempt: Attempt) -> Failure:
    if attempt.reason == OOM_KILLED:
        return Failure("out of memory", OOM_KILLED, "out-of-memory:killed")
    return Failure("killed", KILLED, "killed")


def _cause(error: ErrorRecord) -> Cause:
    if error.kind in _KINDS:
        return _KINDS[error.kind]
    # Tracebacks indent code; a comment there must not count as an exception's message.
    messages = "\n".join(line for line in error.traceback.splitlines() if not line.startswith(" "))
    messages += f"\n{error.kind}: {error.message}"
    for cause, mark in _MARKS:
        if re.search(mark, messages):
            return cause
    for kind in re.findall(r"^(?:[\w.]+\.)?(\w+)(?=:|$)", messages, re.MULTILINE):
        if kind in _KINDS:  # raised in a data loader's worker, or the cause of the last exception
            return _KINDS[kind]
    return "error"


def _innermost_line(traceback: str) -> str:
    """Return "file:line" of the innermost frame outside of libraries, without this machine's folders."""
    lines = []
    for frame in _FRAME.finditer(traceback):
        file, line = frame["file"], frame["line"]
        if ours := _OURS.fullmatch(file):
            lines.append(f"{ours['rest']}:{line}")
        elif not _LIBRARY.search(file):
            lines.append(f"{PureWindowsPath(file).name}:{line}")  # splits at / and at \
    return re.sub(r"[^\w./:-]", "_", lines[-1]) if lines else ""


@dataclass(frozen=True)
class Frame:
    """Frame of a traceback: "file:line", function and code line; `own`: in the user's code."""

    place: str
    function: str
    code: str
    own: bool


def frames_of(traceback: str) -> list[Frame]:
    """Return the frames of a traceback outside of libraries, the innermost first."""
    frames = []
    for found in _FRAME.finditer(traceback):
        ours = _OURS.fullmatch(found["file"])
        if ours or not _LIBRARY.search(found["file"]):
            name = ours["rest"] if ours else PureWindowsPath(found["file"]).name
            code = (found["code"] or "").strip()
            frames.append(Frame(f"{name}:{found['line']}", found["function"] or "", code, own=not ours))
    return frames[::-1]


def _place(traceback: str) -> str:
    """Return "file:line" of the innermost frame in the user's code, else in this package's."""
    frames = frames_of(traceback)
    own = [frame for frame in frames if frame.own]
    return (own or frames)[0].place if frames else ""


@dataclass(frozen=True)
class FailedRun:
    """Failed run with its name in the grid; `given_up` if it has reached the attempt limit."""

    run_id: str
    name: str
    failure: Failure
    given_up: bool


@dataclass(frozen=True)
class FailureGroup:
    """Runs with equal failures, in the order of the grid."""

    failure: Failure
    runs: tuple[FailedRun, ...]


def grouped(runs: Iterable[FailedRun]) -> Sequence[FailureGroup]:
    """Group failed runs by signature, the most frequent first."""
    groups: dict[str, list[FailedRun]] = {}
    for run in runs:
        groups.setdefault(run.failure.signature, []).append(run)
    unsorted = [FailureGroup(items[0].failure, tuple(items)) for items in groups.values()]
    return sorted(unsorted, key=lambda group: -len(group.runs))
