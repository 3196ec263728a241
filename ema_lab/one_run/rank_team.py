"""Training of one run by several processes, each on a device of its own.

This process holds the run's lock and does not train. It starts the ranks of this machine, has other machines
start theirs, hands on what rank 0 reports, and ends all ranks when one of them fails or hangs, or when the
run is stopped.
"""

import math
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ema_lab.data.share import Share
from ema_lab.one_run.meeting import LOOPBACK, Link, gathered
from ema_lab.one_run.other_node import OtherNode
from ema_lab.one_run.rank_members import Inquest, Member
from ema_lab.one_run.rank_process import HANDLED_SIGNALS, Message, Origin, Work, run_rank, work_of
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import Report, RunJob, RunOutcome, must_end
from ema_lab.store.source import loaded_sources
from ema_lab.training.machine import Machine, check_devices, choose_device
from ema_lab.training.ranks import Rank, served_meeting

TICK_SECONDS = 0.5
GRACE_SECONDS = 3.0  # after a rank's failure, for the others to tell what they know
END_SECONDS = 30.0  # after the outcome, for the ranks to end by themselves
_SOURCES = loaded_sources()  # as of the start of this process


def train_on_ranks(spec: RunSpec, job: RunJob, machine: Machine, report: Report) -> RunOutcome:
    """Train a run by `machine.devices` processes on each of `machine.nodes` machines.

    Args:
        spec: The run.
        job: Its folder, and the file at which the machines meet.
        machine: How each process trains.
        report: Receives each epoch's row once the checkpoint is written; what it raises ends the run.

    Raises:
        SpecError: If the devices cannot share the run's batches.
        RankDiedError: If a process was killed, or a machine is lost.
        RankHungError: If a process took no part for `machine.rank_timeout` seconds.
        RankError: If a machine does not come.
        Exception: What a process raised.
    """
    check_devices(spec, machine.devices, machine.nodes)
    if machine.nodes > 1:  # another machine must not choose another kind
        machine = replace(machine, device=choose_device(machine.device).type)
    team = Team(work_of(spec, job, machine, _SOURCES.of(spec)))
    with _met(job, machine) as (links, meeting, port):
        try:
            here = links[0].here if links else ""
            team.admit(links, port)
            team.start(
                [
                    Rank(Share(number, machine.world), meeting, machine.rank_timeout, machine.nodes, here)
                    for number in range(machine.devices)
                ]
            )
            return team.follow(report)
        finally:
            team.end()


@contextmanager
def _met(job: RunJob, machine: Machine) -> Iterator[tuple[list[Link], str, int]]:
    """Yield the other machines, the URL where this machine's ranks meet, and the port of that URL."""
    if machine.nodes == 1:
        with tempfile.TemporaryDirectory(prefix="ema-lab-ranks-") as folder:
            yield [], Path(folder, "meeting").as_uri(), 0
        return
    assert job.meeting is not None
    with gathered(job.meeting, machine.nodes - 1, machine.rank_timeout) as links:
        store = served_meeting()
        yield links, f"tcp://{LOOPBACK}:{store.port}", store.port
        del store


@dataclass
class Team:
    """Ranks of a run that this process has started here and on other machines, the ones here first.

    `first`: number of the first rank here.
    """

    work: Work
    members: list[Member] = field(default_factory=list)
    first: int = 0
    nodes: list[OtherNode] = field(default_factory=list)
    _lifelines: list[Any] = field(default_factory=list)  # the end of this process closes them

    def admit(self, links: Sequence[Link], port: int) -> None:
        """Have other machines start their ranks.

        Args:
            links: Connections to them.
            port: Where the ranks meet on this machine.
        """
        self.nodes = [OtherNode(number, link) for number, link in enumerate(links, start=1)]
        for node in self.nodes:
            node.begin(self.work, port)

    def start(self, ranks: Sequence[Rank]) -> None:
        """Start a process for each rank; the first one leads the process group of all."""
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([run_rank.__module__])  # imported once for all runs
        multiprocessing.resource_tracker.ensure_running()  # whose start ends the block below
        # The server of ranks has these signals blocked: a cluster sends them to all processes of a job.
        with _blocked(*HANDLED_SIGNALS), _variable("TORCH_CPP_LOG_LEVEL", "ERROR"):
            multiprocessing.forkserver.ensure_running()
        signals = tuple(
            number
            for number in HANDLED_SIGNALS
            if number != signal.SIGINT and callable(signal.getsignal(number))
        )
        host = socket.gethostname() if self.work.machine.nodes > 1 else ""
        for rank in ranks:
            leader = self.members[0].process.pid if self.members else None
            watched, lifeline = context.Pipe(duplex=False)
            self._lifelines.append(lifeline)
            origin = Origin(watched, os.getpid(), signals, leader)
            ours, theirs = context.Pipe()
            arguments = (self.work, rank, theirs, origin)
            process = context.Process(target=run_rank, args=arguments, daemon=False)
            process.start()
            watched.close()
            theirs.close()
            self.members.append(Member(process, ours, host=host))
            self._wait_until_ready(self.members[-1])

    def _wait_until_ready(self, member: Member) -> None:
        multiprocessing.connection.wait([member.channel, member.process.sentinel])
        message = self.received(member)
        if message is None:
            member.process.join()
            raise self.inquest().cause()

    def follow(self, report: Report) -> RunOutcome:
        """Hand on each row until the outcome is there.

        Raises:
            Exception: The cause, if a rank has failed.
            KeyboardInterrupt: If the engine must end the run, and the checkpoint is saved.
        """
        outcome: RunOutcome | None = None
        until, is_told = math.inf, False
        while not self._has_failed():
            everyone = [*self.members, *(member for node in self.nodes for member in node.members)]
            is_over = all(member.process.exitcode == 0 for member in everyone)
            if outcome is not None and (is_over or time.monotonic() >= until):
                return outcome
            if must_end.is_set() and not is_told:
                self._lifelines[0].send_bytes(b"end")  # rank 0 saves the checkpoint first
                is_told = True
            for message in self._heard(TICK_SECONDS):
                if message.kind == "row":
                    report(message.value)
                    self.members[0].channel.send(None)
                elif message.kind == "outcome":
                    outcome, until = message.value, time.monotonic() + END_SECONDS
        if outcome is not None:
            return outcome
        self._listen_on()
        raise self.inquest().cause()

    def _has_failed(self) -> bool:
        return any(member.has_failed for member in self.members) or any(n.has_failed for n in self.nodes)

    def _heard(self, seconds: float) -> list[Message]:
        """Wait some seconds at most; return messages of ranks here, and note what other machines say."""
        spoken = self.spoken(seconds, [node for node in self.nodes if not node.lost])
        for node in self.nodes:
            if node in spoken:
                node.listen()
        received = [self.received(each) for each in spoken if isinstance(each, Member)]
        return [message for message in received if message is not None]

    def spoken(self, seconds: float | None, others: Sequence[Any] = ()) -> list[Any]:
        """Return the ranks here, and the other files, that have something to read or have ended."""
        waited = [each for each in self.members if each.process.exitcode is None]
        by_handle = {each.channel: each for each in waited} | {each.process.sentinel: each for each in waited}
        handles = multiprocessing.connection.wait([*by_handle, *others], seconds)
        found = [by_handle.get(handle, handle) for handle in handles]
        return list({id(each): each for each in found}.values())

    def received(self, member: Member) -> Message | None:
        """Return the next message of a rank here; keep an error."""
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
        for member in self.members:
            if member.process.exitcode is not None and member.error is None:
                self.received(member)  # what it said just before it ended
        while time.monotonic() < until:
            inquest = self.inquest()
            if inquest.lost or inquest.causes() or all(member.is_over for member in inquest.members):
                return
            self._heard(max(0.0, until - time.monotonic()))

    def inquest(self) -> Inquest:
        """Return the search for the cause of a failure."""
        machine = self.work.machine
        members = [*self.members, *(member for node in self.nodes for member in node.members)]
        lost = [node.lost for node in self.nodes if node.lost]
        return Inquest(members, self.first, machine.world, machine.rank_timeout, lost)

    def end(self) -> None:
        """Kill the ranks here that are left, with their loader processes, and wait for their end."""
        if self.members and any(each.process.exitcode is None for each in self.members):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.members[0].process.pid, signal.SIGKILL)
        for member in self.members:
            if member.process.exitcode is None:
                member.process.kill()
            member.process.join()
            member.channel.close()
        for lifeline in self._lifelines:
            lifeline.close()


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
