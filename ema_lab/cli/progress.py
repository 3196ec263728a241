"""Progress display of a running grid: a live bar on a terminal, one line per finished run otherwise."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ema_lab.cli.output import say
from ema_lab.execution.claim import Task
from ema_lab.execution.engines.engine import Progress as Counts
from ema_lab.store.curve import read_curve
from ema_lab.store.store import RunStore
from ema_lab.workflow.events import RunEnded

PLAIN_SECONDS = 30.0


class LiveDisplay:
    """Context with a progress bar on a terminal, and without one elsewhere."""

    def __init__(self, total: float | None, last_columns: Sequence[ProgressColumn], console: Console) -> None:
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Progress(*columns, *last_columns, console=console)
            self._line = self._bar.add_task("starting", total=total, left="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class RunDisplay(LiveDisplay):
    """Display of done, running and failed runs and of the time left; its progress is counted in epochs."""

    def __init__(self, tasks: Sequence[Task], store: RunStore, console: Console | None = None) -> None:
        self._tasks: Mapping[str, Task] = {task.spec.run_id: task for task in tasks}
        self._store = store
        self._last_line = time.monotonic()
        total = sum(task.spec.recipe.epochs for task in tasks)
        columns = (TextColumn("ETA"), TimeRemainingColumn())
        super().__init__(total, columns, console or Console(stderr=True))

    def end(self, ended: RunEnded) -> None:
        """Print a line for a run that is over; the live bar has its own counts."""
        if self._bar is None:
            state = "FAILED" if ended.state == "failed" else "done"
            task = ended.task
            name = f"{task.variant} seed {task.spec.seed} ({task.spec.run_id})"
            self._print(f"[{ended.number}/{ended.total}] {state}: {name}")

    def update(self, counts: Counts) -> None:
        """Move the bar; without one, print the counts after a long silence."""
        if self._bar is not None:
            self._bar.update(self._line, completed=self._epochs(counts), description=_counts_text(counts))
        elif time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._print(f"[{len(_ended(counts))}/{counts.total}] {_counts_text(counts)}")

    def _print(self, line: str) -> None:
        self._last_line = time.monotonic()
        say(line)

    def _epochs(self, counts: Counts) -> int:
        ended = sum(self._tasks[run_id].spec.recipe.epochs for run_id in _ended(counts))
        return ended + sum(finished_epochs(self._store, run_id) for run_id in counts.running)


def _ended(counts: Counts) -> list[str]:
    return [*counts.done, *counts.elsewhere, *counts.failed]


def _counts_text(counts: Counts) -> str:
    done = len(counts.done) + len(counts.elsewhere)
    text = f"{done}/{counts.total} done, {len(counts.running)} running, {len(counts.failed)} failed"
    return text + (f", {len(counts.busy)} elsewhere" if counts.busy else "")


def finished_epochs(store: RunStore, run_id: str) -> int:
    """Return the number of epochs in a run's curve."""
    return len(read_curve(store.folder(run_id)))
