"""Progress display of a running search: a line per ended trial and, on a terminal, a live bar."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import Any

from rich.console import Console
from rich.progress import TextColumn

from ema_lab.characters import escape_hidden
from ema_lab.cli.output import say
from ema_lab.cli.progress import LiveDisplay, trained_epochs
from ema_lab.search.history import Counts, EndedTrial
from ema_lab.search.objective import Objective
from ema_lab.search.report.labels import value_text
from ema_lab.search.study import SweepStudy
from ema_lab.wording import number_of

SECONDS = 2.0


class SearchDisplay(LiveDisplay):
    """Display of a search: a line per ended trial and, on a terminal, a live bar below the lines.

    The bar counts trials that are over and the epochs of those that run. The time left follows from what
    this call has seen: rich's own estimate looks back half a minute, in which no trial may end.
    """

    def __init__(
        self,
        study: SweepStudy,
        total: int | None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study = study
        self._total = total
        self._clock = clock
        self._start: tuple[float, float] | None = None
        self._last = 0.0
        super().__init__(total, (TextColumn("{task.fields[left]}"),), console or Console(stderr=True))

    def watch(self, ended: EndedTrial | None) -> None:
        """Update the display with a trial that has ended, or without one between two ends."""
        if ended is not None:
            ended = replace(ended, stale=self._study.results.stale(ended.run_ids))
            self._print(ended_line(ended, self._study.search.objectives, best=self._is_best(ended)))
        now = self._clock()
        if self._bar is not None and (ended is not None or self._start is None or now - self._last > SECONDS):
            self._last = now if ended is None else -math.inf  # the next trial may already run
            running = [trained_epochs(self._study.store, run_id) for run_id in self._study.running_run_ids()]
            counts = self._study.counts()
            completed = counts.over + min(counts.running, sum(running) / self._trial_epochs)
            self._start = self._start or (now, completed)
            left = self._time_left(now, completed)
            self._bar.update(
                self._line, completed=completed, description=self._description(counts, running), left=left
            )

    @cached_property
    def _trial_epochs(self) -> int:
        return self._study.sweep.epochs * len(self._study.sweep.seeds)

    def _time_left(self, now: float, completed: float) -> str:
        """Return the remaining time at the pace of this call; empty if the search has no number of trials."""
        assert self._start is not None
        began, before = self._start
        if self._total is None:
            return ""
        if completed <= before:
            return "ETA -:--:--"
        seconds = (now - began) * max(0.0, self._total - completed) / (completed - before)
        return f"ETA {timedelta(seconds=round(seconds))}"

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(escape_hidden(line), highlight=False, markup=False, soft_wrap=True)
        else:
            say(line)

    def _is_best(self, ended: EndedTrial) -> bool:
        return ended.values is not None and any(trial.number == ended.number for trial in self._study.best())

    def _description(self, counts: Counts, epochs: Sequence[float]) -> str:
        trials = number_of(self._total or counts.over, "trial")
        text = f"{counts.over}/{trials}" if self._total else trials
        text += f", {counts.running} running"
        return f"{text} (epochs {', '.join(f'{int(epoch)}' for epoch in epochs)})" if epochs else text


def ended_line(ended: EndedTrial, objectives: Sequence[Objective], *, best: bool) -> str:
    """Return one line about a trial: its value or how it ended, and what it chose."""
    if ended.values is not None:
        numbers = (
            f"{objective.name} {value:.6g}" for objective, value in zip(objectives, ended.values, strict=True)
        )
        front = "best so far, so optimistic" if len(objectives) == 1 else "on the Pareto front"
        stale = f" (stale: {', '.join(ended.stale)})" if ended.stale else ""
        result = ", ".join(numbers) + (f" ({front})" if best else "") + stale
    else:
        result = ended.message if ended.state == "pruned" else f"FAILED: {ended.message}"
    return f"trial {ended.number}: {result or ended.state}; {choice_text(ended.choice)}"


def choice_text(choice: Mapping[str, Any]) -> str:
    """Return a choice of values in one line, numbers short."""
    return ", ".join(f"{key}={value_text(value)}" for key, value in choice.items())
