"""Progress display of a running grid: live bars on a terminal, one line per finished run otherwise."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ema_lab.characters import escape_hidden
from ema_lab.cli.output import say
from ema_lab.cli.volume import is_quiet, is_verbose
from ema_lab.execution.claim import Task
from ema_lab.execution.engines.engine import Progress as Counts
from ema_lab.store.curve import read_curve
from ema_lab.store.failure import failure_of
from ema_lab.store.heartbeat import Heartbeat
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of
from ema_lab.workflow.events import ModelChecked, RunEnded
from ema_lab.workflow.text import write_duration

PLAIN_SECONDS = 30.0
MAX_ROWS = 8  # running rows with a line of their own
LONG_WAIT = 0.05  # of the time: a smaller share of waiting for data is not shown


class LiveDisplay:
    """Context with a progress bar on a terminal, and without one elsewhere."""

    def __init__(self, total: float | None, last_columns: Sequence[ProgressColumn], console: Console) -> None:
        self._bar: Progress | None = None
        if console.is_terminal and not is_quiet():
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
    """Display of done, running and failed runs and of the time left; its progress is counted in epochs.

    On a terminal each running row has a line of its own: epoch, loss, metric so far, images per second.
    """

    def __init__(self, tasks: Sequence[Task], store: RunStore, console: Console | None = None) -> None:
        self._tasks: Mapping[str, Task] = {task.spec.run_id: task for task in tasks}
        self._store = store
        self._last_line = time.monotonic()
        self._lines: dict[str, TaskID] = {}
        self._told: dict[str, int] = {}
        self._stalled: set[str] = set()
        total = sum(task.spec.recipe.epochs for task in tasks)
        columns = (TextColumn("ETA"), TimeRemainingColumn())
        super().__init__(total, columns, console or Console(stderr=True))

    def end(self, ended: RunEnded) -> None:
        """Print a line for a run that is over; on a terminal, which has its counts, only if it failed."""
        if self._bar is None or ended.state == "failed":
            self._print(
                f"[{ended.number}/{ended.total}] {ended_text(ended, self._store)}",
                always=ended.state == "failed",
            )

    def update(self, counts: Counts) -> None:
        """Move the bars; without a terminal, print the counts after a long silence, and epochs with -v."""
        self._warn_of_stalls(counts.running)
        if self._bar is not None:
            self._bar.update(self._line, completed=self._epochs(counts), description=_counts_text(counts))
            self._update_rows(self._bar, counts.running)
            return
        if is_verbose():
            self._print_epochs(counts.running)
        if time.monotonic() - self._last_line > PLAIN_SECONDS:
            running = "; ".join(self._row_text(run_id) for run_id in counts.running[:MAX_ROWS])
            tail = f": {running}" if running else ""
            self._print(f"[{len(_ended(counts))}/{counts.total}] {_counts_text(counts)}{tail}")

    def _update_rows(self, bar: Progress, running: Sequence[str]) -> None:
        """Show a line for each running row, as many as fit."""
        for run_id in [run_id for run_id in self._lines if run_id not in running]:
            bar.remove_task(self._lines.pop(run_id))
        for run_id in running[:MAX_ROWS]:
            if run_id not in self._lines:
                self._lines[run_id] = bar.add_task("", total=self._tasks[run_id].spec.recipe.epochs, left="")
            completed = trained_epochs(self._store, run_id)
            bar.update(self._lines[run_id], completed=completed, description=escape(self._row_text(run_id)))

    def _print_epochs(self, running: Sequence[str]) -> None:
        for run_id in running:
            epochs = len(read_curve(self._store.folder(run_id)))
            if epochs > self._told.get(run_id, 0):
                self._told[run_id] = epochs
                self._print(f"  {self._row_text(run_id)}")

    def _row_text(self, run_id: str) -> str:
        folder = self._store.folder(run_id)
        text = epoch_text(self._tasks[run_id], read_curve(folder), Heartbeat.read(folder))
        return f"{self._name(run_id)}: {text}"

    def _name(self, run_id: str) -> str:
        task = self._tasks[run_id]
        return f"{task.variant} seed {task.spec.seed}"

    def _warn_of_stalls(self, running: Sequence[str]) -> None:
        """Name each run whose batches have stopped, once per stall."""
        for run_id in running:
            beat = Heartbeat.read(self._store.folder(run_id))
            if beat is None or not beat.is_stalled:
                self._stalled.discard(run_id)
            elif run_id not in self._stalled:
                self._stalled.add(run_id)
                usual = f"a batch took {write_duration(beat.batch_seconds)}"
                sign = "batch" if beat.phase == "training" else "sign of life"
                silence = f"no {sign} for {write_duration(beat.seconds_ago)}, where {usual}"
                self._print(
                    f"warning: {self._name(run_id)} is stalled at {beat.place}: {silence}", always=True
                )

    def _print(self, line: str, *, always: bool = False) -> None:
        self._last_line = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(escape_hidden(line), highlight=False, markup=False, soft_wrap=True)
        else:
            say(line, always=always)

    def _epochs(self, counts: Counts) -> float:
        ended = sum(self._tasks[run_id].spec.recipe.epochs for run_id in _ended(counts))
        return ended + sum(trained_epochs(self._store, run_id) for run_id in counts.running)


class CountDisplay(ExitStack):
    """Bar over things that are counted; without a terminal, a line after a long silence."""

    def __init__(self, description: str, console: Console | None = None) -> None:
        super().__init__()
        self._console = console
        console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._last_line = time.monotonic()
        if console.is_terminal and not is_quiet():
            columns = (
                BarColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
            )
            self._bar = self.enter_context(Progress(*columns, console=console, transient=True))
            self._line = self._bar.add_task(description)

    def count(self, number: int, total: int, text: str) -> None:
        """Move the bar to a number, and describe it."""
        if self._bar is not None:
            self._bar.update(self._line, total=total, completed=number, description=escape(text))
        elif time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self._print(text)

    def _print(self, text: str) -> None:
        if self._console is None:
            say(text)
        elif not is_quiet():
            self._console.print(escape_hidden(text), highlight=False, markup=False, soft_wrap=True)


class CheckDisplay(CountDisplay):
    """Bar over the models that are checked before training."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__("checking", console)

    def update(self, checked: ModelChecked) -> None:
        """Move the bar to a model."""
        text = f"checking {number_of(checked.total, 'model')}: {checked.number}, {checked.row}"
        self.count(checked.number, checked.total, text)


def ended_text(ended: RunEnded, store: RunStore) -> str:
    """Return how a run ended: its primary metric and its time, or why it failed and where."""
    task, run_id = ended.task, ended.task.spec.run_id
    name = f"{task.variant} seed {task.spec.seed} ({run_id})"
    facts = store.facts(run_id)
    if ended.state == "failed":
        failure = failure_of(facts)
        return f"FAILED: {name}{f': {failure.sentence}' if failure else ''}"
    metric = task.spec.data.task.metrics[task.spec.data.task.primary]
    value = facts.record.metrics.get(task.spec.data.task.primary) if facts.record else None
    seconds = facts.record.wall_seconds if facts.record else 0.0
    result = (
        "" if value is None else f": {metric.label} {value:.2f}{f' {metric.unit}' if metric.unit else ''}"
    )
    return f"done: {name}{result}{f', {write_duration(seconds)}' if value is not None and seconds else ''}"


def epoch_text(task: Task, curve: Sequence[Mapping[str, float]], beat: Heartbeat | None = None) -> str:
    """Return a running row's epoch, loss, metric and images per second, as far as they are known.

    Args:
        task: The row's run.
        curve: Its finished epochs.
        beat: Its last heartbeat, which knows the batch, the present speed and the waiting for data.
    """
    parts = [f"epoch {len(curve)}/{task.spec.recipe.epochs}"]
    pace: list[str] = []
    if beat is not None and beat.batches:
        parts.append("evaluating" if beat.phase == "evaluating" else f"batch {beat.batch}/{beat.batches}")
        pace = [beat.speed]
        pace += [f"{100 * beat.data_share:.0f} % waiting for data"] if beat.data_share >= LONG_WAIT else []
    if not curve:
        return ", ".join([*parts, *pace])
    last, primary = curve[-1], task.spec.data.task.primary
    if "train_loss" in last:
        parts.append(f"loss {last['train_loss']:.3g}")
    for split in ("val", "test", "train"):
        if (value := last.get(f"{split}_{primary}")) is not None:
            metric = task.spec.data.task.metrics[primary].prefixed(split)
            parts.append(f"{metric.label} {value:.2f}{f' {metric.unit}' if metric.unit else ''}")
            break
    if not pace and (seconds := last.get("train_seconds")):
        speed = task.spec.data.trained_images * len(curve) / seconds
        parts.append(f"{number_of(round(speed), 'image')}/s")
    return ", ".join([*parts, *pace])


def _ended(counts: Counts) -> list[str]:
    return [*counts.done, *counts.elsewhere, *counts.failed]


def _counts_text(counts: Counts) -> str:
    done = len(counts.done) + len(counts.elsewhere)
    text = f"{done}/{counts.total} done, {len(counts.running)} running, {len(counts.failed)} failed"
    return text + (f", {len(counts.busy)} elsewhere" if counts.busy else "")


def trained_epochs(store: RunStore, run_id: str) -> float:
    """Return the epochs that a run has trained, with the begun part of the next one."""
    folder = store.folder(run_id)
    finished, beat = len(read_curve(folder)), Heartbeat.read(folder)
    return finished + (beat.fraction if beat is not None and beat.epoch == finished + 1 else 0.0)
