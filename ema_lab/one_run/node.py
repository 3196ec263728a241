"""Part of a run that this machine trains for another one, which holds the run's lock."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from ema_lab.data.share import Share
from ema_lab.errors import SpecError
from ema_lab.one_run.meeting import TICK_SECONDS, Link, Meeting
from ema_lab.one_run.other_node import from_json
from ema_lab.one_run.rank_members import Member
from ema_lab.one_run.rank_process import Work
from ema_lab.one_run.rank_team import Team
from ema_lab.store.document import first_problem
from ema_lab.store.source import Sources
from ema_lab.training.machine import Machine, choose_device
from ema_lab.training.ranks import Rank


def join_run(path: Path, is_over: Callable[[], bool]) -> None:
    """Start this machine's ranks of a run whenever its first machine wants them, until the run is over.

    Args:
        path: The file of the meeting.
        is_over: Returns whether no further attempt will come.
    """
    while not is_over():
        if not join_attempt(path):
            time.sleep(TICK_SECONDS)


def join_attempt(path: Path, tell: Callable[[str], None] = lambda text: None) -> bool:
    """Start this machine's ranks of a run, if its first machine wants them now, and wait for their end.

    Args:
        path: The file of the meeting.
        tell: Receives a sentence for the user at the beginning and at the end.

    Returns:
        Whether the first machine has answered.
    """
    meeting = Meeting.read(path)
    link = meeting.joined() if meeting else None
    if link is None:
        return False
    try:
        if wanted := _first_message(link):
            _take_part(link, wanted, tell)
    finally:
        link.close()
    return True


def _take_part(link: Link, wanted: dict[str, Any], tell: Callable[[str], None]) -> None:
    """Train this machine's part of what the first machine wants, until the connection ends."""
    try:
        work, number = from_json(wanted["work"]), int(wanted["number"])
    except (ValidationError, LookupError, TypeError, ValueError) as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else f"{error!r}"
        _fail(link, f"its folder or its version of ema-lab is another one: {problem}", tell)
        while link.receive() is not None:
            pass
        return
    run_id, devices = work.spec.run_id, work.machine.devices
    numbers = ", ".join(str(rank) for rank in range(number * devices, (number + 1) * devices))
    tell(f"{run_id}: this machine trains as rank {numbers} of {work.machine.world}")
    _serve(link, work, number, int(wanted["port"]), lambda text: tell(f"{run_id}: {text}"))
    tell(f"{run_id}: the attempt has ended")


def _fail(link: Link, text: str, tell: Callable[[str], None]) -> None:
    """Tell the first machine, which ends the attempt, and the user here why this machine cannot train."""
    link.send({"kind": "failed", "host": socket.gethostname(), "text": text})
    tell(f"this machine cannot train: {text}")


def _first_message(link: Link) -> dict[str, Any] | None:
    messages: list[dict[str, Any]] | None = []
    while messages == []:
        messages = link.receive()
    return messages[0] if messages else None


def _serve(link: Link, work: Work, number: int, port: int, tell: Callable[[str], None]) -> None:
    """Start and watch this machine's ranks; end them with the connection to the first machine."""
    machine = work.machine
    team = Team(work, first=number * machine.devices)
    meeting = f"tcp://{link.there}:{port}"
    ranks = [
        Rank(
            Share(team.first + local, machine.world), meeting, machine.rank_timeout, machine.nodes, link.here
        )
        for local in range(machine.devices)
    ]
    try:
        _start(team, work, ranks, link, tell)
        while link not in (spoken := team.spoken(None, [link])) or link.receive() is not None:
            for member in spoken:
                if isinstance(member, Member):
                    _report(team, member, link)
    finally:
        team.end()


def _start(team: Team, work: Work, ranks: list[Rank], link: Link, tell: Callable[[str], None]) -> None:
    """Start this machine's ranks, or say why that is not possible."""
    try:
        if Sources().of(work.spec) != work.source:
            raise SpecError("its source differs from that of the first machine")
        check_gpus(work.machine)
        team.start(ranks)
    except Exception as error:
        _fail(link, f"{type(error).__name__}: {error}", tell)
    else:
        pids = [member.process.pid for member in team.members]
        link.send({"kind": "started", "host": socket.gethostname(), "pids": pids})


def check_gpus(machine: Machine) -> None:
    """Check that each rank of this machine finds a GPU, if it needs one.

    Raises:
        SpecError: If there are too few.
    """
    if choose_device(machine.device).type == "cuda" and torch.cuda.device_count() < machine.devices:
        have = torch.cuda.device_count()
        raise SpecError(f"--devices {machine.devices} needs as many GPUs, and there are {have}")


def _report(team: Team, member: Member, link: Link) -> None:
    """Send on the error of a rank, and its end."""
    about = {"rank": team.members.index(member), "host": socket.gethostname()}
    message = team.received(member)
    if message is not None and message.kind == "error":
        link.send({**about, "kind": "error", "text": message.text})
    if member.process.exitcode is not None:
        link.send({**about, "kind": "ended", "code": member.process.exitcode})
