"""One rank: a process that trains a run together with others, and ends when the process that started it ends.

The starting process holds the run's lock, and gets every message. Import this module before the start: the
process that forks ranks then has the imports of a run.
"""

import gc
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from ema_lab.attention.kernels.choice import chosen_kernel, fact_of
from ema_lab.errors import SpecError
from ema_lab.one_run.log import logging_to
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, must_end
from ema_lab.store.layout import LOG
from ema_lab.store.source import Sources
from ema_lab.training.machine import Machine
from ema_lab.training.ranks import Rank, joined
from ema_lab.training.run import train

# What the starting process handles for its ranks: a Ctrl-C, and the signals that a cluster sends to a job.
HANDLED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Origin:
    """Process that started a rank, as the rank needs to know it.

    Attributes:
        lifeline: Ends when that process has ended; carries its wish that the run ends.
        pid: Its process id.
        signals: Signals that it handles: a cluster may send them to the ranks alone, which pass them on.
        leader: Process id of the first rank on this machine, whose process group the others join.
    """

    lifeline: Connection
    pid: int
    signals: tuple[signal.Signals, ...] = ()
    leader: int | None = None


@dataclass(frozen=True)
class Message:
    """Message from a rank to the process that started it.

    Attributes:
        kind: `ready` once it can be killed, the `row` of an epoch, the `outcome`, or an `error`.
        value: The row, the outcome, or the pickled error; None if the error cannot be pickled.
        text: Traceback of an error.
        time: Seconds since 1970.
    """

    kind: Literal["ready", "row", "outcome", "error"]
    value: Any = None
    text: str = ""
    time: float = 0.0


@dataclass(frozen=True)
class Work:
    """Run that all ranks train, with the source hashes that each rank compares with its own."""

    spec: RunSpec
    job: RunJob
    machine: Machine
    source: Mapping[str, str]


def run_rank(work: Work, rank: Rank, channel: Connection, origin: Origin) -> None:
    """Train as one rank and end this process; send messages through the channel.

    Args:
        work: The run.
        rank: The rank.
        channel: Takes messages, and answers each row.
        origin: The process that started this one.
    """
    gc.enable()  # this process may be forked from the server of workers, which switched it off
    for number in set(HANDLED_SIGNALS).difference(origin.signals):
        signal.signal(number, signal.SIG_IGN)
    os.setpgid(0, origin.leader or 0)
    threading.Thread(target=_end_with, args=(origin.lifeline,), daemon=True).start()
    if origin.signals:
        signal.pthread_sigmask(signal.SIG_BLOCK, origin.signals)
        threading.Thread(target=_pass_on, args=(origin,), daemon=True).start()
    channel.send(Message("ready"))
    code = 0
    try:
        outcome = _train(work, rank, channel)
        if rank.leads:
            channel.send(Message("outcome", outcome))
    except BaseException as error:  # the starting process raises it again
        channel.send(Message("error", _pickled(error), traceback.format_exc(), time.time()))
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # an ordinary exit may wait for ranks that have died


def _end_with(lifeline: Connection) -> None:
    """Kill all ranks on this machine, also stopped ones, once the process that started them has ended.

    A message before that says that the run must end once its checkpoint is saved.
    """
    with suppress(EOFError, OSError):
        while lifeline.recv_bytes():
            must_end.set()
    os.killpg(0, signal.SIGKILL)


def _pass_on(origin: Origin) -> None:
    """Pass on each signal that the process that started this one handles."""
    while True:
        os.kill(origin.pid, signal.sigwait(origin.signals))


def _train(work: Work, rank: Rank, channel: Connection) -> Any:
    spec, machine = work.spec, work.machine
    if Sources().of(spec) != work.source:
        raise SpecError("the source has changed since this command began: start it again")

    def report(row: Mapping[str, float]) -> None:
        channel.send(Message("row", dict(row)))
        channel.recv()  # the starting process may rather stop the run

    with (
        _log_of(work.job, rank),
        joined(rank, machine.device),
        chosen_kernel(machine.kernel_for(spec)) as ran,
    ):
        return train(spec, work.job, machine, report, lambda: fact_of(ran), rank)


@contextmanager
def _log_of(job: RunJob, rank: Rank) -> Iterator[None]:
    """Log rank 0 to the run's folder; the others would repeat its warnings."""
    if rank.leads:
        with logging_to(job.folder / LOG):
            yield
    else:
        with warnings.catch_warnings():
            warnings.showwarning = lambda *_, **__: None
            yield


def _pickled(error: BaseException) -> bytes | None:
    """Pickle an error, if it can be rebuilt."""
    try:
        text = pickle.dumps(error)
        pickle.loads(text)
    except Exception:  # an error of a user's code may be anything
        return None
    return text


def work_of(spec: RunSpec, job: RunJob, machine: Machine, source: Mapping[str, str]) -> Work:
    """Return the work of ranks, without the observer of epochs, who stays in the starting process."""
    return Work(
        spec, RunJob(job.folder.absolute(), job.ablation, job.variant, cache=job.cache), machine, source
    )
