"""What is seen of a running grid: a live line on a terminal, a line per finished run elsewhere."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ema_lab.cli.output import say
from ema_lab.execution.claim import Task
from ema_lab.execution.engines.engine import Progress as Counts
from ema_lab.store.curve import read_curve
from ema_lab.store.store import RunStore

PLAIN_SECONDS = 30.0


class RunDisplay:
    """Shows cells done, running and failed, and the time left; progress is counted in epochs."""

    def __init__(self, tasks: list[Task], store: RunStore, console: Console | None = None) -> None:
        self._tasks: Mapping[str, Task] = {task.spec.run_id: task for task in tasks}
        self._store = store
        self._total = sum(task.spec.recipe.epochs for task in tasks)
        self._told: set[str] = set()
        self._last_line = time.monotonic()
        console = console or Console(stderr=True)
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=console)
            self._line = self._bar.add_task("starting", total=self._total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def watch(self, counts: Counts) -> None:
        """Show the state of the grid."""
        ended = [*counts.done, *counts.elsewhere, *counts.failed]
        if self._bar is not None:
            self._bar.update(self._line, completed=self._epochs(counts), description=self._words(counts))
            return
        for run_id in ended:
            if run_id not in self._told:
                self._told.add(run_id)
                state = "FAILED" if run_id in counts.failed else "done"
                self._print(f"[{len(self._told)}/{counts.total}] {state}: {self._name(run_id)} ({run_id})")
        if time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._print(f"[{len(ended)}/{counts.total}] {self._words(counts)}")

    def _print(self, line: str) -> None:
        self._last_line = time.monotonic()
        say(line)

    def _words(self, counts: Counts) -> str:
        words = (
            f"{len(counts.done) + len(counts.elsewhere)}/{counts.total} done, {len(counts.running)} running"
        )
        words += f", {len(counts.failed)} failed"
        return words + (f", {len(counts.busy)} elsewhere" if counts.busy else "")

    def _name(self, run_id: str) -> str:
        task = self._tasks[run_id]
        return f"{task.variant} seed {task.spec.seed}"

    def _epochs(self, counts: Counts) -> int:
        over = (*counts.done, *counts.elsewhere, *counts.failed)
        ended = sum(self._tasks[run_id].spec.recipe.epochs for run_id in over)
        return ended + sum(finished_epochs(self._store, run_id) for run_id in counts.running)


def finished_epochs(store: RunStore, run_id: str) -> int:
    """Return the number of epochs in a run's curve."""
    return len(read_curve(store.folder(run_id)))
