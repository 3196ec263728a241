"""Output of pushes to a tracker, shared by `push` and `sweep export`."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

from rich.console import Console
from rich.progress import Progress, TaskID

from ema_lab.cli.output import say
from ema_lab.workflow.events import Event, RunMirrored
from ema_lab.workflow.mirror import Mirrored


class MirrorDisplay(ExitStack):
    """Observer of a push: a bar on a terminal, else a line per run that was sent."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._line: TaskID | None = None

    def __call__(self, event: Event) -> None:
        """Show the progress of a push; ignore other events."""
        if not isinstance(event, RunMirrored):
            return
        if self._console.is_terminal:
            self._advance(event)
        elif event.action != "unchanged":
            run = event.run
            say(f"[{event.number}/{event.total}] {event.action}: {run.name} ({run.run_id})")

    def _advance(self, event: RunMirrored) -> None:
        if self._bar is None:
            self._bar = self.enter_context(Progress(console=self._console, transient=True))
            self._line = self._bar.add_task("pushing", total=event.total)
        assert self._line is not None
        self._bar.update(self._line, completed=event.number, description=event.run.name)


def action_counts(mirrored: Mirrored) -> str:
    """Return the number of runs per action, as text."""
    counts = Counter(mirrored.actions.values())
    return ", ".join(f"{counts[action]} {action}" for action in ("sent", "replaced", "unchanged"))


def orphan_lines(mirrored: Mirrored, kind: str) -> Iterator[str]:
    """Yield a line per mirrored run without a counterpart. `kind`: such as "cell of quickstart"."""
    for mirror_id, name in mirrored.orphans.items():
        if mirrored.pruned:
            yield f"removed, no {kind} any more: {name} ({mirror_id})"
        else:
            yield f"no {kind} any more: {name} ({mirror_id}); --prune removes it"
