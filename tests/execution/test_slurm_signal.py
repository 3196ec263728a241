"""Signal of Slurm's time limit before the job can handle the signal."""

import os
import signal
import subprocess
import sys
import threading
import types
from dataclasses import dataclass, field
from functools import partial

import pytest

from ema_lab.execution.engines import slurm
from ema_lab.execution.engines.slurm import Job, launcher
from ema_lab.store.job import must_end

PROGRAM = """
import signal, sys
print("starting", flush=True)
sys.stdin.readline()
signal.signal(signal.SIGUSR2, lambda number, frame: print("told", flush=True))
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
print("ended", flush=True)
"""


def test_a_warning_while_python_still_imports_waits_until_the_job_can_answer(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = f"exec {launcher('SIGUSR2')} -u {path}"  # as submitit writes it into the job's script
    with subprocess.Popen(["sh", "-c", command], **pipes) as process:
        assert process.stdout.readline() == "starting\n"
        process.send_signal(signal.SIGUSR2)
        out, _ = process.communicate("go on\n")
    assert (process.returncode, out) == (0, "told\nended\n")


def test_other_signals_are_not_held_back():
    with subprocess.Popen(
        ["sh", "-c", f"exec {launcher('SIGUSR2')} -c 'print(1, flush=True); input()'"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"1\n"
        process.terminate()
        assert process.wait() == -signal.SIGTERM


def test_python_is_the_same_one_with_its_packages():
    program = "import sys, yaml; print(sys.executable)"
    done = subprocess.run(
        ["sh", "-c", f'{launcher("SIGUSR2")} -c "{program}"'], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{sys.executable}\n"


@dataclass
class Session:
    """Fake session that records the tasks of a job."""

    worked: list[object] = field(default_factory=list)

    def work(self, claim: object, task: object) -> None:
        self.worked.append(task)


@pytest.fixture
def requeued(monkeypatch):
    """Put submitit's handler in place, as its job does; return the signals on which it was called."""
    module = types.ModuleType("submitit.slurm.slurm")
    module.SlurmJobEnvironment = types.SimpleNamespace(USR_SIG="USR2")
    for name in ("submitit", "submitit.slurm"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "submitit.slurm.slurm", module)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    seen: list[signal.Signals] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGALRM)}
    signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(number))
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, before)


def test_a_job_that_was_warned_before_it_began_is_requeued_and_begins_no_run(requeued):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)  # other threads do not block it
    session = Session()
    Job(None, ["task"], session)()
    assert (requeued, session.worked) == ([signal.SIGUSR2], [])


def test_a_job_that_was_not_warned_works(requeued):
    session = Session()
    Job(None, ["one", "two"], session)()
    assert (requeued, session.worked) == ([], ["one", "two"])


class Working(Session):
    """Fake session whose tasks are functions."""

    def work(self, claim: object, task: object) -> None:
        super().work(claim, task)
        task()


def warn() -> None:
    os.kill(os.getpid(), signal.SIGUSR2)


def train() -> None:
    """Train as a run does: save the checkpoint at the end of a step, if that is asked for."""
    while not must_end.is_set():
        pass
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("patience", "second", "handled"),
    [
        pytest.param(30.0, train, [signal.SIGUSR2], id="the checkpoint is saved"),
        pytest.param(0.2, signal.pause, [signal.SIGUSR2], id="the checkpoint takes too long"),
        pytest.param(
            30.0, partial(os.kill, os.getpid(), signal.SIGTERM), [signal.SIGTERM], id="Slurm ends the job"
        ),
        pytest.param(30.0, lambda: None, [], id="the last run is done in time"),
        pytest.param(30.0, lambda: (warn(), warn()), [], id="ranks pass the warning on, and the run is done"),
    ],
)
def test_a_warned_job_waits_for_the_checkpoint_of_its_run(requeued, monkeypatch, patience, second, handled):
    monkeypatch.setattr(slurm, "_is_running", lambda job_id: True)
    Job(None, [lambda: (warn(), second())], Working(), patience)()
    assert requeued == handled
    assert not must_end.is_set()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_warned_job_begins_no_further_run(requeued):
    session = Working()
    Job(None, [warn, warn], session, 30.0)()
    assert (requeued, session.worked) == ([signal.SIGUSR2], [warn])


def test_a_second_signal_to_all_processes_of_a_job_does_not_keep_it_from_being_requeued(
    requeued, monkeypatch, tmp_path
):
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\nkill -USR2 $$\nkill -TERM $$\necho RUNNING\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    end = partial(os.kill, os.getpid(), signal.SIGTERM)
    Job(None, [end], Working())()
    assert requeued == [signal.SIGTERM]
    assert {signal.SIGTERM, signal.SIGUSR2} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())  # scontrol's, too
