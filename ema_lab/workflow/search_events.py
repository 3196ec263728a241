"""Progress events of a search and of tuning; `ema_lab.workflow.events` has them all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ema_lab.wording import number_of
from ema_lab.workflow.base_event import Event

if TYPE_CHECKING:
    from ema_lab.search.history import EndedTrial
    from ema_lab.search.study import SweepStudy


@dataclass(frozen=True)
class Learned(Event):
    """A study has taken over finished choices of the store; stale ones were left out."""

    sweep: str
    choices: int
    left_out: int

    def lines(self) -> Iterable[str]:
        if self.choices:
            yield f"{self.sweep}: {number_of(self.choices, 'finished choice')} of the store to learn from"
        if self.left_out:
            are = "choice is" if self.left_out == 1 else "choices are"
            stale = "stale, as the source has changed since"
            yield f"{self.sweep}: {self.left_out} finished {are} not learned from: {stale}"


@dataclass(frozen=True)
class TrialsChosen(Event):
    """A search is about to try trials; `over` of `limit` have ended before. Without a limit, time ends it."""

    sweep: str
    limit: int | None
    seconds: float | None
    over: int
    workers: int

    def lines(self) -> Iterable[str]:
        trials = number_of(self.limit, "trial") if self.limit else f"trials for {self.seconds:g} s"
        over = f", {self.over} of them over" if self.over else ""
        workers = number_of(self.workers, "worker")
        yield f"{self.sweep}: {trials}{over}, with {workers}; checking them first"


@dataclass(frozen=True)
class SearchStarted(Event):
    """All checks have passed; workers start to try trials, `limit` in all."""

    study: "SweepStudy"
    limit: int | None


@dataclass(frozen=True)
class TrialEnded(Event):
    """One trial is over."""

    trial: "EndedTrial"


@dataclass(frozen=True)
class SearchProgress(Event):
    """A trial is still running: sent several times per second, for displays."""


@dataclass(frozen=True)
class SearchEnded(Event):
    """The workers of a search have ended, or an exception has stopped them."""


@dataclass(frozen=True)
class AgentsStarted(Event):
    """Agents of a sweep at W&B run on this machine; `address` is ENTITY/PROJECT/ID."""

    sweep: str
    agents: int
    address: str

    def lines(self) -> Iterable[str]:
        yield f"{self.sweep}: {number_of(self.agents, 'agent')} of the W&B sweep {self.address}"


@dataclass(frozen=True)
class SpaceReduced(Event):
    """Parameters of a search space that tuning leaves out: they are what the ablation compares."""

    ablation: str
    space: Path
    parameters: tuple[str, ...]

    def lines(self) -> Iterable[str]:
        names, rows = ", ".join(self.parameters), f"the rows of {self.ablation} are what is compared"
        yield f"{self.space}: {names} left out: {rows}"


@dataclass(frozen=True)
class RowSearchStarted(Event):
    """The search for one row of an ablation begins or continues."""

    row: str
    sampler: str
    pruner: str
    study: str

    def lines(self) -> Iterable[str]:
        pruning = "unpruned" if self.pruner == "none" else f"pruned by {self.pruner}"
        yield f"row {self.row!r}: {self.sampler}, {pruning}, study {self.study}"


@dataclass(frozen=True)
class TrialsMissing(Event):
    """Trials that each row lacks of its budget: unequal budgets are not compared."""

    budget: int
    missing: Mapping[str, int]

    def lines(self) -> Iterable[str]:
        rows = ", ".join(f"{row} lacks {number}" for row, number in self.missing.items())
        rule = "unequal budgets are not compared; call it again to go on"
        yield f"of {number_of(self.budget, 'trial')} a row and its recipe as written, {rows}: {rule}"


@dataclass(frozen=True)
class TrialsFailed(Event):
    """Failed trials of one row, out of its budget."""

    row: str
    failed: int
    budget: int

    def lines(self) -> Iterable[str]:
        yield f"{self.row}: {self.failed} of {number_of(self.budget, 'trial')} FAILED"


@dataclass(frozen=True)
class WinnerMissing(Event):
    """No trial of a row has finished: the row stays empty in the tuned table. None: of no row."""

    row: str | None
    budget: int

    def lines(self) -> Iterable[str]:
        if self.row is None:
            yield "no row has a winner: nothing is written"
        else:
            trials = f"no trial of {self.budget} was finished"
            yield f"{self.row}: {trials}, so it has no winner and is a hole"
