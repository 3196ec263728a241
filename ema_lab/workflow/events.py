"""Progress events of a grid or a search: small frozen facts, handed to an observer as they happen.

An observer (`watch`) is any function that takes one event. It selects events by class and ignores the rest.
`lines` returns the text that the command line prints.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ema_lab.execution.claim import Task
from ema_lab.execution.engines.engine import Progress
from ema_lab.specs.run import RunSpec
from ema_lab.store.layout import SUPERSEDED
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of
from ema_lab.workflow.base_event import Event as Event
from ema_lab.workflow.base_event import Remark as Remark
from ema_lab.workflow.outcome import FailedCell, GridOutcome
from ema_lab.workflow.search_events import AgentsStarted as AgentsStarted
from ema_lab.workflow.search_events import Learned as Learned
from ema_lab.workflow.search_events import RowSearchStarted as RowSearchStarted
from ema_lab.workflow.search_events import SearchEnded as SearchEnded
from ema_lab.workflow.search_events import SearchProgress as SearchProgress
from ema_lab.workflow.search_events import SearchStarted as SearchStarted
from ema_lab.workflow.search_events import SpaceReduced as SpaceReduced
from ema_lab.workflow.search_events import TrialEnded as TrialEnded
from ema_lab.workflow.search_events import TrialsChosen as TrialsChosen
from ema_lab.workflow.search_events import TrialsFailed as TrialsFailed
from ema_lab.workflow.search_events import TrialsMissing as TrialsMissing
from ema_lab.workflow.search_events import WinnerMissing as WinnerMissing
from ema_lab.workflow.text import stale_lines, write_duration

if TYPE_CHECKING:
    from ema_lab.ablation.ablation import Ablation
    from ema_lab.tracking.mirror.content import MirrorRun
    from ema_lab.tracking.mirror.push import Sent


def recipe_remarks(ablation: "Ablation") -> Iterator[Remark]:
    """Yield a remark for each data set that gave an ablation its recipe, because the file names none."""
    for data, recipe in ablation.recipes.items():
        rule = f"its file names none; recipe: {{use: {recipe}}} in `base` says the same"
        yield Remark(ablation.name, f"recipe {recipe}, that of {data}: {rule}")


@dataclass(frozen=True)
class RunsChosen(Event):
    """Pending runs were found and are checked next.

    `threads`: torch threads per run; None leaves the number to torch. `engine`: None is this machine.
    """

    ablation: str
    runs: int
    workers: int
    threads: int | None
    engine: str | None

    def lines(self) -> Iterable[str]:
        where = f"on {self.engine}" if self.engine else f"with {number_of(self.workers, 'worker')}"
        each = f", {number_of(self.threads, 'thread')} each" if self.threads else ""
        yield f"{self.ablation}: {number_of(self.runs, 'run')} to train {where}{each}; checking them first"


@dataclass(frozen=True)
class RoundedEvaluation(Event):
    """Number of runs to train that are evaluated in bf16, where rounding makes predictions equal."""

    ablation: str
    runs: int

    def lines(self) -> Iterable[str]:
        advice = "recipe.evaluation_precision: fp32 evaluates in fp32, under another run id"
        yield f"{self.ablation}: evaluated in bf16, where rounding ties predictions: {self.runs}; {advice}"


@dataclass(frozen=True)
class UncleanPairs(Event):
    """Runs to train that will differ from their pairs in machine, threads, attention kernel or versions.

    `differences` names each differing fact with its values. `finished_threads`: the number of threads that
    all finished runs had, where the numbers differ.
    """

    runs: int
    pending: int
    differences: str
    finished_threads: int | None

    def lines(self) -> Iterable[str]:
        runs = f"{self.runs} of {number_of(self.pending, 'run')} to train"
        rule = "will be no clean pair with the others of the seed, marked †"
        yield f"warning: {runs} {rule} ({self.differences})"
        if self.finished_threads is not None:
            yield f"hint: --threads {self.finished_threads} is what the finished runs had"


@dataclass(frozen=True)
class StaleKept(Event):
    """Number of stale results that were moved to `superseded/`, to be trained again."""

    runs: int

    def lines(self) -> Iterable[str]:
        yield f"{number_of(self.runs, 'stale result')} moved to {SUPERSEDED}/ of the run's folder"


@dataclass(frozen=True)
class ModelChecked(Event):
    """A row's model is built without weights and checked; `number` counts from 1 to `total`."""

    row: str
    number: int
    total: int


@dataclass(frozen=True)
class ChecksEnded(Event):
    """All models are checked, or an exception has ended the checks."""


@dataclass(frozen=True)
class TrainingStarted(Event):
    """All checks have passed; workers start on these tasks."""

    tasks: tuple[Task, ...]
    store: RunStore


@dataclass(frozen=True)
class RunEnded(Event):
    """One run is over; `number` counts the runs that have ended, out of `total`."""

    task: Task
    state: Literal["done", "failed"]
    number: int
    total: int


@dataclass(frozen=True)
class TrainingProgress(Event):
    """Run ids by state, several times a second. `progress` keeps changing: read it inside the call."""

    progress: Progress


@dataclass(frozen=True)
class TrainingEnded(Event):
    """The workers have ended, or an exception has stopped them."""


@dataclass(frozen=True)
class GridEnded(Event):
    """A call has ended its work on the runs of an ablation."""

    outcome: GridOutcome

    def lines(self) -> Iterable[str]:
        outcome = self.outcome
        counts = f"{len(outcome.trained)} trained, {len(outcome.done_before)} done before"
        counts += f", {len(outcome.failed)} failed"
        counts += f", {len(outcome.elsewhere)} trained by another process" if outcome.elsewhere else ""
        counts += f", {len(outcome.left)} left at --stop-after" if outcome.left else ""
        name = outcome.ablation.name
        yield f"{name}: {counts} (store {outcome.store.root})"
        if outcome.left:
            them = "them" if len(outcome.left) > 1 else "it"
            yield f"hint: the same command goes on with {them}, from the last checkpoint"
        yield from stale_lines(name, outcome.stale)
        yield from (_failed_line(cell, outcome.max_attempts) for cell in outcome.failed)


@dataclass(frozen=True)
class SeedsAdded(Event):
    """Rows with an undecided comparison get another seed. `seeds`: the new number of seeds of each row."""

    ablation: str
    seeds: Mapping[str, int]
    max_seeds: int

    def lines(self) -> Iterable[str]:
        rows = (f"{row} (seed {number} of at most {self.max_seeds})" for row, number in self.seeds.items())
        yield f"{self.ablation}: not decided: {', '.join(rows)}"


@dataclass(frozen=True)
class FileWritten(Event):
    """A definition file was written."""

    path: Path

    def lines(self) -> Iterable[str]:
        yield f"{self.path}: written"


@dataclass(frozen=True)
class RowProbed(Event):
    """A few steps of a run were timed; `seconds` is the estimate for the whole run."""

    spec: RunSpec
    seconds: float
    number: int
    total: int

    def lines(self) -> Iterable[str]:
        model = self.spec.model
        run = f"{model.attention.name} in {model.network}: {write_duration(self.seconds)} a run"
        yield f"[{self.number}/{self.total}] {run}"


@dataclass(frozen=True)
class CountingStarted(Event):
    """The multiply-adds of so many models are about to be counted, for one image each."""

    models: int

    def lines(self) -> Iterable[str]:
        yield f"counting the multiply-adds of {number_of(self.models, 'model')}, one image each"


@dataclass(frozen=True)
class TimingStarted(Event):
    """A row's model is about to be timed in turn with its baseline's."""

    row: str
    baseline: str

    def lines(self) -> Iterable[str]:
        yield f"timing {self.row} beside {self.baseline}"


@dataclass(frozen=True)
class RunMirrored(Event):
    """A run is complete in the mirror; `number` counts the runs that are, out of `total`."""

    run: "MirrorRun"
    action: "Sent"
    number: int
    total: int


@dataclass(frozen=True)
class CheckStarted(Event):
    """A check of a contract begins; `number` counts from 1 to `total`."""

    name: str
    number: int
    total: int


@dataclass(frozen=True)
class RunChecked(Event):
    """The files of one more run were checked: `number` of `total`."""

    number: int
    total: int


@dataclass(frozen=True)
class ImagesPrepared(Event):
    """Progress of `prepare`: `number` of `total` images are resized, or packed into shards."""

    work: Literal["resized", "packed"]
    number: int
    total: int


def _failed_line(cell: FailedCell, max_attempts: int) -> str:
    tail = "the next run tries it again"
    if cell.given_up:
        tail = f"left alone after {number_of(max_attempts, 'attempt')}: ema-lab retry makes it pending"
    if cell.unreadable:
        tail = "left alone until that is settled"
    return f"failed: {cell.variant} seed {cell.seed} ({cell.run_id}): {cell.reason}; {tail}"
