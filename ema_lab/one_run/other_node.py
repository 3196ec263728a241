"""Another machine of a run, as the first one sees it, and the JSON in which it gets its work."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ema_lab.one_run.meeting import Link
from ema_lab.one_run.rank_members import FarProcess, Member
from ema_lab.one_run.rank_process import Message, Work
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob
from ema_lab.training.machine import Machine


@dataclass(eq=False)
class OtherNode:
    """Another machine of a run and its ranks, as far as it has told.

    Attributes:
        number: Number of the machine; the first one is 0.
        link: Connection to it.
        members: Its ranks.
        lost: Why it takes no part any more.
    """

    number: int
    link: Link
    members: list[Member] = field(default_factory=list)
    lost: str = ""

    @property
    def has_failed(self) -> bool:
        return bool(self.lost) or any(member.has_failed for member in self.members)

    def fileno(self) -> int:
        """Return the descriptor on which to wait for messages."""
        return self.link.fileno()

    def begin(self, work: Work, port: int) -> None:
        """Have the machine start its ranks.

        Args:
            work: The run.
            port: Where the ranks meet on this machine.
        """
        host = self.link.there
        self.members = [Member(FarProcess(), None, host=host) for _ in range(work.machine.devices)]
        self.link.send({"number": self.number, "port": port, "work": to_json(work)})

    def listen(self) -> None:
        """Note what the machine says."""
        messages = self.link.receive()
        if messages is None:
            host = self.members[0].host
            self.lost = (
                self.lost or f"machine {self.number} of the run ({host}) is lost: its connection ended"
            )
        for message in messages or ():
            self._note(message)

    def _note(self, message: Mapping[str, Any]) -> None:
        kind, host = message["kind"], str(message["host"])
        if kind == "failed":
            self.lost = f"machine {self.number} of the run ({host}) cannot train: {message['text']}"
        elif kind == "started":
            for member, pid in zip(self.members, message["pids"], strict=True):
                member.host, member.process.pid = host, int(pid)
        else:
            member = self.members[int(message["rank"])]
            if kind == "error":
                member.error = Message("error", None, str(message["text"]), time.time())
            else:
                member.process.exitcode = int(message["code"])


def to_json(work: Work) -> dict[str, Any]:
    """Return the work of ranks as JSON."""
    job, machine = work.job, asdict(work.machine)
    return {
        "spec": json.dumps(work.spec.resolved()),
        "job": [str(job.folder), job.ablation, job.variant, None if job.cache is None else str(job.cache)],
        "machine": {**machine, "data_root": str(work.machine.data_root)},
        "source": dict(work.source),
    }


def from_json(value: Mapping[str, Any]) -> Work:
    """Return the work of ranks that `to_json` has written."""
    folder, ablation, variant, cache = value["job"]
    machine = value["machine"]
    return Work(
        RunSpec.model_validate_json(value["spec"]),
        RunJob(Path(folder), ablation, variant, cache=None if cache is None else Path(cache)),
        Machine(**{**machine, "data_root": Path(machine["data_root"])}),
        value["source"],
    )
