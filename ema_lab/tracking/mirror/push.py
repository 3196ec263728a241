"""Bring a mirror up to the store: send what is missing or has changed, and nothing twice."""

import re
from collections.abc import Callable, Sequence, Set
from typing import Literal, Protocol

from ema_lab.errors import SpecError
from ema_lab.tracking.mirror.content import MirrorRun

Held = Literal["no", "other", "same"]
Sent = Literal["sent", "replaced", "unchanged"]
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class Target(Protocol):
    """Where one ablation is mirrored to, in one project."""

    def held(self, run: MirrorRun) -> Held:
        """Say whether the mirror has the run whole and as it is, or otherwise, or not at all."""
        ...

    def send(self, run: MirrorRun) -> None:
        """Put a run in the place of what the mirror has of it; raise MirrorError unless it has arrived."""
        ...

    def strangers(self, known: Set[str]) -> dict[str, str]:
        """Return the ablation's runs in the mirror whose run id is none of these: id there -> name."""
        ...

    def remove(self, mirror_id: str) -> None:
        """Take a run out of the mirror."""
        ...


def push(
    runs: Sequence[MirrorRun], target: Target, tell: Callable[[MirrorRun, Sent], None]
) -> dict[str, Sent]:
    """Send each run that the mirror does not have as it is; return what was done, by run id.

    Whatever stops it, the runs told of so far are whole, and the next push goes on after them.

    Raises:
        MirrorError: If the mirror cannot be reached or has not got what was sent.
    """
    done: dict[str, Sent] = {}
    for run in runs:
        held = target.held(run)
        if held != "same":
            target.send(run)
        done[run.run_id] = "unchanged" if held == "same" else "replaced" if held == "other" else "sent"
        tell(run, done[run.run_id])
    return done


def check_project(name: str) -> str:
    """Return a project's name if every mirror takes it.

    Raises:
        SpecError: If it has other characters, which W&B refuses and trackio drops, or is too long.
    """
    if not _PROJECT.fullmatch(name):
        rule = "letters, digits, - and _, beginning with a letter or digit, 100 at most"
        raise SpecError(f"--project takes {rule}, got {name!r}")
    return name
