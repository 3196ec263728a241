"""Push to a mirror: send each run that is missing or has changed, and skip the others."""

import re
from collections.abc import Callable, Sequence, Set
from typing import Literal, Protocol

from ema_lab.errors import SpecError
from ema_lab.tracking.mirror.content import MirrorRun

MirrorState = Literal["no", "other", "same"]  # absent, different or incomplete, up to date
Sent = Literal["sent", "replaced", "unchanged"]
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


class Target(Protocol):
    """Destination of one ablation's mirror, in one project."""

    def state_of(self, run: MirrorRun) -> MirrorState:
        """Compare the mirror's copy of a run with the run."""
        ...

    def send(self, run: MirrorRun) -> None:
        """Send a run, replacing any earlier copy.

        Raises:
            MirrorError: If the run has not arrived completely.
        """
        ...

    def orphans(self, known: Set[str]) -> dict[str, str]:
        """Return the mirror's runs of the ablation whose run id is not in `known`: mirror id -> name."""
        ...

    def remove(self, mirror_id: str) -> None:
        """Delete a run from the mirror."""
        ...


def push(
    runs: Sequence[MirrorRun], target: Target, report: Callable[[MirrorRun, Sent], None]
) -> dict[str, Sent]:
    """Send each run that the mirror lacks or holds in another form; return the action per run id.

    After an interruption, every reported run is complete in the mirror, and the next push continues.

    Args:
        runs: Content of the mirror.
        target: The mirror.
        report: Receives each run and its action, once the run is complete.

    Raises:
        MirrorError: If the mirror cannot be reached, or a run has not arrived.
    """
    done: dict[str, Sent] = {}
    for run in runs:
        state = target.state_of(run)
        if state != "same":
            target.send(run)
        done[run.run_id] = "unchanged" if state == "same" else "replaced" if state == "other" else "sent"
        report(run, done[run.run_id])
    return done


def check_project(name: str) -> str:
    """Return a project's name if every mirror accepts the name.

    Raises:
        SpecError: If the name is too long, or has characters that W&B refuses and Trackio drops.
    """
    if not _PROJECT.fullmatch(name):
        rule = "letters, digits, - and _, beginning with a letter or digit, 100 at most"
        raise SpecError(f"--project takes {rule}, got {name!r}")
    return name
