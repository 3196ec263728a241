"""Ranks as the process that holds the run's lock sees them, and which of them is to blame for a failure."""

import pickle
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ema_lab.errors import RankDiedError, RankHungError
from ema_lab.one_run.rank_process import Message

# What torch raises in the ranks that wait for one that has failed: never the cause.
_WAITED = re.compile(
    r"gloo|NCCL|ProcessGroup|DistBackendError|DistStore|pair closure|[Tt]imed out waiting"
    r"|[Cc]onnection (closed|reset) by peer"
)
_COLLECTIVES = ("/torch/distributed/", "/torch/nn/parallel/")


@dataclass
class FarProcess:
    """Process of a rank on another machine: its id, and its exit code once that machine has told it."""

    pid: int = 0
    exitcode: int | None = None


@dataclass
class Member:
    """A rank's process, its channel if it runs here, its error if it has sent one, and the machine's name."""

    process: Any
    channel: Any
    error: Message | None = None
    host: str = ""

    @property
    def is_over(self) -> bool:
        return self.error is not None or self.process.exitcode is not None

    @property
    def has_failed(self) -> bool:
        return self.error is not None or self.process.exitcode not in (None, 0)


@dataclass(frozen=True)
class Inquest:
    """Search for the cause of a failure among ranks.

    Attributes:
        members: The ranks.
        first: Number of the first one.
        world: Number of all ranks of the run.
        patience: Seconds that a rank waits for the others.
        lost: What is known of machines that have gone.
    """

    members: Sequence[Member]
    first: int
    world: int
    patience: float
    lost: Sequence[str] = ()

    def causes(self) -> list[tuple[int, Message]]:
        """Return the ranks with errors that no other rank's failure explains, the earliest first."""
        errors = [(number, each.error) for number, each in enumerate(self.members) if each.error is not None]
        return sorted((pair for pair in errors if not _is_of_waiting(pair[1])), key=lambda pair: pair[1].time)

    def cause(self) -> BaseException:
        """Return why the run failed: a killed rank, a lost machine, a rank's first error, or silence."""
        for number, member in enumerate(self.members):
            code = member.process.exitcode
            if member.error is None and code is not None and code < 0 and code != -signal.SIGABRT:
                return RankDiedError(f"{self._name(number)} was killed: {signal.Signals(-code).name}")
        if self.lost:
            return RankDiedError(self.lost[0])
        if causes := self.causes():
            return self._raised(*causes[0])
        silent = [number for number, each in enumerate(self.members) if not each.is_over]
        if silent:
            names = " and ".join(map(self._name, silent))
            return RankHungError(f"{names} hung: the others waited {self.patience:g} s (--rank-timeout)")
        if errors := [(number, each.error) for number, each in enumerate(self.members) if each.error]:
            return self._raised(*errors[0])
        number, code = next(
            (n, each.process.exitcode) for n, each in enumerate(self.members) if each.has_failed
        )
        return RankDiedError(f"rank {self.first + number} of {self.world} ended with exit code {code}")

    def _name(self, number: int) -> str:
        member = self.members[number]
        on = f" on {member.host}" if member.host else ""
        what = f"process {member.process.pid}" if member.process.pid else "not started"
        return f"rank {self.first + number} of {self.world} ({what}{on})"

    def _raised(self, number: int, error: Message) -> BaseException:
        """Return the error that a rank raised, with the rank's traceback as a note."""
        sent = (
            None if error.value is None else pickle.loads(error.value)
        )  # of a process that was started here
        last = error.text.splitlines()[-1]
        if self.members[number].channel is None:
            last = f"{self._name(number)}: {last}"
        raised = sent if isinstance(sent, Exception | KeyboardInterrupt) else RankDiedError(last)
        raised.add_note(error.text)
        return raised


def _is_of_waiting(error: Message) -> bool:
    """Return whether torch raised an error while the rank waited for another one."""
    *frames, last = error.text.splitlines()
    innermost = next((line for line in reversed(frames) if line.startswith('  File "')), "")
    return bool(_WAITED.search(last)) or any(part in innermost for part in _COLLECTIVES)
