"""Classification of failures: cause, signature and remedy."""

import errno
import re
import traceback

import pytest

from ema_lab.errors import DamagedDataError, DataError, RankError, RunTimeoutError, UnreadableDataError
from ema_lab.store.failure import REMEDIES, FailedRun, ended_failure, failure, failure_of, grouped
from ema_lab.store.killed import KILLED, OOM_KILLED
from ema_lab.store.record import Attempt, ErrorRecord, RunRecord
from ema_lab.store.store import RunFacts
from ema_lab.training.module import DivergedError

FRAMES = """\
Traceback (most recent call last):
  File "/home/someone/ema-lab/ema_lab/experiments/claim.py", line 60, in _attempt
    record = self.train(task.spec, job)
  File "/venv/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1776, in _call_impl
    return forward_call(*args, **kwargs)
  File "{file}", line {line}, in forward
    return x.view(3)  # out of memory, says this comment
  File "/venv/lib/python3.11/site-packages/torch/functional.py", line 5, in view
    raise
{kind}: {message}
"""


def raised(error: BaseException) -> ErrorRecord:
    try:
        raise error
    except BaseException as caught:
        text = "".join(traceback.format_exception(caught))
        first = str(caught).splitlines()
        return ErrorRecord(kind=type(caught).__name__, message=first[0] if first else "", traceback=text)


def of_kind(name: str, message: str) -> ErrorRecord:
    return raised(type(name, (RuntimeError,), {})(message))


def chained(error: Exception, cause: Exception) -> ErrorRecord:
    error.__cause__ = cause
    return raised(error)


ERRORS = [
    (of_kind("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB."), "out of memory"),
    (raised(RuntimeError("alloc_cpu.cpp: DefaultCPUAllocator: can't allocate memory")), "out of memory"),
    (raised(MemoryError()), "out of memory"),
    (raised(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")), "out of memory"),
    (raised(OSError(errno.ENOMEM, "Cannot allocate memory")), "out of memory"),
    (chained(RuntimeError("a worker failed"), MemoryError("no room")), "out of memory"),
    (raised(DivergedError("the training loss is nan in epoch 1")), "diverged"),
    (raised(FloatingPointError("a metric must be a finite number, got {'loss': nan}")), "diverged"),
    (raised(DataError("cifar10 is not in data")), "data missing"),
    (raised(DamagedDataError("crow/2.JPEG cannot be decoded")), "data damaged"),
    (chained(RuntimeError("a worker failed"), DamagedDataError("x cannot be decoded")), "data damaged"),
    (raised(UnreadableDataError("crow/2.JPEG is not there, although it is listed")), "data unreadable"),
    (raised(ImportError("cannot import name 'x'")), "import error"),
    (raised(ModuleNotFoundError("No module named 'gates'")), "import error"),
    (raised(OSError(errno.ENOSPC, "No space left on device")), "disk full"),
    (raised(RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")), "disk full"),
    (chained(RuntimeError("saving failed"), OSError(errno.ENOSPC, "No space left on device")), "disk full"),
    (raised(RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. ")), "killed"),
    (raised(RunTimeoutError("stopped after 60 s")), "timeout"),
    (raised(RankError("0 of 1 other machines came within 12 s")), "timeout"),
    (raised(ValueError("shapes differ")), "error"),
    (raised(SystemExit(3)), "error"),
]  # fmt: skip


def test_the_cause_of_an_error_is_known_by_its_kind_or_its_words():
    for error, cause in ERRORS:
        found = failure(error)
        assert found.cause == cause
        assert found.signature.startswith(cause.replace(" ", "-"))
        assert found.remedy == REMEDIES[cause]
        assert found.message == f"{error.kind}: {error.message}"


def test_no_remedy_says_which_command_comes_next():
    """`status` and `run` know whether a run is tried again or needs `retry`; a cause does not."""
    assert [text for text in REMEDIES.values() if "retry" in text or "run again" in text] == []


def test_every_remedy_is_one_line_and_every_signature_needs_no_quotes():
    assert all(text and "\n" not in text for text in REMEDIES.values())
    for error, _ in ERRORS:
        assert re.fullmatch(r"[\w./:-]+", failure(error).signature)


class TestSignature:
    def error(self, file="/home/someone/study/my_gate.py", line=12, kind="RuntimeError", message="no"):
        text = FRAMES.format(file=file, line=line, kind=kind, message=message)
        return ErrorRecord(kind=kind, message=message, traceback=text)

    def test_names_the_innermost_line_of_the_users_code(self):
        assert failure(self.error()).signature == "error:RuntimeError:my_gate.py:12"

    def test_names_a_line_of_ours_below_the_package(self):
        found = failure(self.error("/venv/lib/python3.11/site-packages/ema_lab/attention/ema.py", 57))
        assert found.signature == "error:RuntimeError:attention/ema.py:57"

    def test_does_not_depend_on_folders_or_on_what_the_message_says(self):
        one = failure(self.error(message="got 3"))
        other = failure(self.error("C:\\study\\my_gate.py", message="got 4"))
        assert one.signature == other.signature

    @pytest.mark.parametrize("change", [{"line": 13}, {"kind": "ValueError"}, {"file": "/x/other.py"}])
    def test_tells_places_and_kinds_apart(self, change):
        assert failure(self.error(**change)).signature != failure(self.error()).signature

    def test_takes_a_line_of_code_for_no_message(self):
        assert failure(self.error()).cause == "error"  # a comment in the traceback says out of memory

    def test_a_timeout_has_no_place(self):
        assert failure(self.error(kind="RunTimeoutError")).signature == "timeout:RunTimeoutError"


def attempt(number, outcome="failed", **more):
    return Attempt(
        number=number, host="h", pid=1, started="2026-01-01T00:00:00+00:00", outcome=outcome, **more
    )


def failed(number, error=None):
    error = error or ErrorRecord(kind="ValueError", message="no", traceback="")
    return RunRecord(run_id="x", status="failed", attempt=number, error=error)


class TestFailureOf:
    def test_a_run_that_is_done_or_has_no_attempt_has_none(self):
        done = RunRecord(run_id="x", status="done", attempt=1)
        assert failure_of(RunFacts(done)) is None
        assert failure_of(RunFacts()) is None

    def test_the_record_describes_the_last_attempt(self):
        found = failure_of(RunFacts(failed(2), (attempt(1), attempt(2))))
        assert (found.cause, found.message) == ("error", "ValueError: no")

    def test_a_killed_attempt_after_a_failed_one_was_killed(self):
        found = failure_of(RunFacts(failed(1), (attempt(1), attempt(2, None))))
        assert (found.cause, found.signature, found.message) == ("killed", "killed", KILLED)

    def test_a_killed_attempt_says_what_is_known(self):
        found = failure_of(RunFacts(None, (attempt(1, None, reason=OOM_KILLED),)))
        assert (found.cause, found.signature) == ("out of memory", "out-of-memory:killed")
        full = "OSError: [Errno 28] No space left on device"
        assert failure_of(RunFacts(None, (attempt(1, None, reason=full),))).cause == "disk full"

    def test_a_running_attempt_was_not_killed(self):
        facts = RunFacts(failed(1), (attempt(1), attempt(2, None)))
        assert ended_failure(facts, "running").message == "ValueError: no"
        assert ended_failure(RunFacts(None, (attempt(1, None),)), "running") is None
        assert ended_failure(facts, "pending").cause == "killed"

    def test_without_a_record_the_attempt_s_reason_tells(self):
        found = failure_of(RunFacts(None, (attempt(1, reason="DivergedError: the loss is nan"),)))
        assert (found.cause, found.message) == ("diverged", "DivergedError: the loss is nan")

    def test_what_is_forgiven_or_interrupted_is_no_failure(self):
        facts = RunFacts(failed(1), (attempt(1, forgiven=True), attempt(2, "interrupted")))
        assert failure_of(facts) is None


def test_runs_that_failed_alike_are_one_group_the_largest_first():
    one, other = (failure(ErrorRecord(kind=kind, message="", traceback="")) for kind in ("A", "B"))
    runs = [FailedRun(str(i), str(i), item, given_up=False) for i, item in enumerate([one, other, other])]
    assert [[run.run_id for run in group.runs] for group in grouped(runs)] == [["1", "2"], ["0"]]
