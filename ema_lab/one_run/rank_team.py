"""Training of one run by several processes, each on a device of its own.

This process holds the run's lock and does not train. It starts the ranks, hands on what rank 0 reports, and
ends them all when one of them fails or hangs, or when the run is stopped.
"""

import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import pickle
import re
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ema_lab.data.share import LEAST_IMAGES, Share
from ema_lab.errors import RankDiedError, RankHungError, SpecError
from ema_lab.one_run.rank_process import HANDLED_SIGNALS, Message, Origin, Work, run_rank, work_of
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import Report, RunJob, RunOutcome
from ema_lab.store.source import loaded_sources
from ema_lab.training.ranks import Rank
from ema_lab.training.run import Machine

GRACE_SECONDS = 3.0  # after a rank's failure, for the others to tell what they know
END_SECONDS = 30.0  # after the outcome, for the ranks to end by themselves
# What torch raises in the ranks that wait for one that has failed: never the cause.
_WAITED = re.compile(
    r"gloo|NCCL|ProcessGroup|DistBackendError|DistStore|pair closure|[Tt]imed out waiting"
    r"|[Cc]onnection (closed|reset) by peer"
)
_COLLECTIVES = ("/torch/distributed/", "/torch/nn/parallel/")
_SOURCES = loaded_sources()  # as of the start of this process


def check_devices(spec: RunSpec, devices: int) -> None:
    """Check that a run's batches can be shared by some devices.

    Raises:
        SpecError: If they cannot.
    """
    if devices == 1:
        return
    size = spec.recipe.batch_size
    if size % devices or size < LEAST_IMAGES * devices:
        rule = f"a multiple of it, at least {LEAST_IMAGES * devices}"
        raise SpecError(f"--devices {devices} needs a recipe.batch_size that is {rule}, got {size}")
    if spec.recipe.sync_batch_norm and spec.recipe.compile != "off":
        raise SpecError("recipe.sync_batch_norm is not compiled on several devices: set compile: off")


def train_on_ranks(spec: RunSpec, job: RunJob, machine: Machine, report: Report) -> RunOutcome:
    """Train a run by `machine.devices` processes on this machine.

    Args:
        spec: The run.
        job: Its folder.
        machine: How each process trains.
        report: Receives each epoch's row once the checkpoint is written; what it raises ends the run.

    Raises:
        SpecError: If the devices cannot share the run's batches.
        RankDiedError: If a process was killed.
        RankHungError: If a process took no part for `machine.rank_timeout` seconds.
        Exception: What a process raised.
    """
    check_devices(spec, machine.devices)
    work = work_of(spec, job, machine, _SOURCES.of(spec))
    with tempfile.TemporaryDirectory(prefix="ema-lab-ranks-") as folder:
        meeting = Path(folder, "meeting").as_uri()
        ranks = [
            Rank(Share(number, machine.devices), meeting, machine.rank_timeout)
            for number in range(machine.devices)
        ]
        team = _Team(work)
        try:
            team.start(ranks)
            return team.follow(report)
        finally:
            team.end()


@dataclass
class _Member:
    """A rank's process, its channel, and its error if it has sent one."""

    process: Any
    channel: Any
    error: Message | None = None

    @property
    def is_over(self) -> bool:
        return self.error is not None or self.process.exitcode is not None

    @property
    def has_failed(self) -> bool:
        return self.error is not None or self.process.exitcode not in (None, 0)


@dataclass
class _Team:
    """Ranks of a run on this machine."""

    work: Work
    members: list[_Member] = field(default_factory=list)
    _lifeline: Any = None  # the end of this process closes it

    def start(self, ranks: Sequence[Rank]) -> None:
        """Start a process for each rank; the first one leads the process group of all."""
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([run_rank.__module__])  # imported once for all runs
        # The server of ranks has these signals blocked: a cluster sends them to all processes of a job.
        with _blocked(*HANDLED_SIGNALS), _variable("TORCH_CPP_LOG_LEVEL", "ERROR"):
            multiprocessing.forkserver.ensure_running()
        watched, self._lifeline = context.Pipe(duplex=False)
        signals = tuple(
            number
            for number in HANDLED_SIGNALS
            if number != signal.SIGINT and callable(signal.getsignal(number))
        )
        for rank in ranks:
            leader = self.members[0].process.pid if self.members else None
            origin = Origin(watched, os.getpid(), signals, leader)
            ours, theirs = context.Pipe()
            arguments = (self.work, rank, theirs, origin)
            process = context.Process(target=run_rank, args=arguments, daemon=False)
            process.start()
            theirs.close()
            self.members.append(_Member(process, ours))
            self._wait_until_ready(self.members[-1])
        watched.close()

    def _wait_until_ready(self, member: _Member) -> None:
        multiprocessing.connection.wait([member.channel, member.process.sentinel])
        message = self._received(member)
        if message is None:
            member.process.join()
            raise self._cause()

    def follow(self, report: Report) -> RunOutcome:
        """Hand on each row until the outcome is there.

        Raises:
            Exception: The cause, if a rank has failed.
        """
        outcome: RunOutcome | None = None
        while not any(member.has_failed for member in self.members):
            if outcome is not None and all(member.process.exitcode == 0 for member in self.members):
                return outcome
            for member in self._spoken(END_SECONDS if outcome else None):
                message = self._received(member)
                if message is not None and message.kind == "row":
                    report(message.value)
                    member.channel.send(None)
                elif message is not None and message.kind == "outcome":
                    outcome = message.value
        if outcome is not None:
            return outcome
        self._listen_on()
        raise self._cause()

    def _spoken(self, seconds: float | None) -> list[_Member]:
        """Return the ranks that have sent something or ended, after waiting for the first."""
        waited = [each for each in self.members if each.process.exitcode is None]
        by_handle = {each.channel: each for each in waited} | {each.process.sentinel: each for each in waited}
        handles = multiprocessing.connection.wait(list(by_handle), seconds)
        return list({id(by_handle[handle]): by_handle[handle] for handle in handles}.values())

    def _received(self, member: _Member) -> Message | None:
        """Return the next message of a rank; keep an error."""
        with suppress(EOFError, OSError):
            if member.channel.poll():
                message: Message = member.channel.recv()
                if message.kind == "error":
                    member.error = message
                return message
        member.process.join(0.1)
        return None

    def _listen_on(self) -> None:
        """Wait a moment for the messages of the other ranks, which may hold the cause."""
        until = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < until and not self._causes() and not all(m.is_over for m in self.members):
            for member in self._spoken(max(0.0, until - time.monotonic())):
                self._received(member)

    def _causes(self) -> list[Message]:
        """Return the errors that no other rank's failure explains, the earliest first."""
        errors = [each.error for each in self.members if each.error is not None]
        causes = [error for error in errors if not _is_of_waiting(error)]
        return sorted(causes, key=lambda error: error.time)

    def _cause(self) -> Exception:
        """Return why the run failed: a killed rank, the first error of a rank, or a silent rank."""
        of = f"of {self.work.machine.devices}"
        for number, member in enumerate(self.members):
            code = member.process.exitcode
            if member.error is None and code is not None and code < 0 and code != -signal.SIGABRT:
                name = signal.Signals(-code).name
                return RankDiedError(f"rank {number} {of} (process {member.process.pid}) was killed: {name}")
        if causes := self._causes():
            return _raised(causes[0])
        silent = [number for number, each in enumerate(self.members) if not each.is_over]
        if silent:
            names = " and ".join(
                f"rank {number} {of} (process {self.members[number].process.pid})" for number in silent
            )
            limit = f"{self.work.machine.rank_timeout:g} s (--rank-timeout)"
            return RankHungError(f"{names} hung: the others waited {limit}")
        if errors := [each.error for each in self.members if each.error]:
            return _raised(errors[0])
        codes = {number: each.process.exitcode for number, each in enumerate(self.members)}
        number = next(number for number, code in codes.items() if code)
        return RankDiedError(f"rank {number} {of} ended with exit code {codes[number]}")

    def end(self) -> None:
        """Kill the ranks that are left, with their loader processes, and wait for their end."""
        if self.members and any(each.process.exitcode is None for each in self.members):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.members[0].process.pid, signal.SIGKILL)
        for member in self.members:
            if member.process.exitcode is None:
                member.process.kill()
            member.process.join()
            member.channel.close()
        if self._lifeline is not None:
            self._lifeline.close()


def _is_of_waiting(error: Message) -> bool:
    """Return whether torch raised an error while the rank waited for another one."""
    *frames, last = error.text.splitlines()
    innermost = next((line for line in reversed(frames) if line.startswith('  File "')), "")
    return bool(_WAITED.search(last)) or any(part in innermost for part in _COLLECTIVES)


def _raised(error: Message) -> Exception:
    """Return the error that a rank raised, with the rank's traceback as a note."""
    sent = None if error.value is None else pickle.loads(error.value)
    raised = sent if isinstance(sent, Exception) else RankDiedError(error.text.splitlines()[-1])
    raised.add_note(error.text)
    return raised


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for a block, unless the user has: DDP warns of what `OneWriter` wants."""
    before = os.environ.get(name)
    os.environ.setdefault(name, value)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


@contextmanager
def _blocked(*numbers: signal.Signals) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
