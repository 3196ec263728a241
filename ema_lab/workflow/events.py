"""Progress events of a grid or a search: small frozen facts, handed to an observer as they happen.

An observer (`watch`) is any function that takes one event. It chooses by class what it needs and ignores
the rest; the command line turns events into lines and progress bars.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ema_lab.execution.claim import Task
from ema_lab.execution.engines.engine import Progress
from ema_lab.specs.run import RunSpec
from ema_lab.store.store import RunStore

if TYPE_CHECKING:
    from ema_lab.search.history import EndedTrial
    from ema_lab.search.study import SweepStudy
    from ema_lab.tracking.mirror.content import MirrorRun
    from ema_lab.tracking.mirror.push import Sent
    from ema_lab.workflow.outcome import GridOutcome


@dataclass(frozen=True)
class Event:
    """Base class of all events."""


@dataclass(frozen=True)
class Remark(Event):
    """A sentence for a person about `subject`, such as a sweep or a row, that asks for no reaction."""

    subject: str
    text: str


@dataclass(frozen=True)
class RunsChosen(Event):
    """Pending runs were found and are checked next.

    `threads`: of torch in each run; None leaves the number to torch. `engine`: None is this machine.
    """

    ablation: str
    runs: int
    workers: int
    threads: int | None
    engine: str | None


@dataclass(frozen=True)
class RoundedEvaluation(Event):
    """Number of runs to train that are evaluated in bf16, where rounding makes predictions equal."""

    ablation: str
    runs: int


@dataclass(frozen=True)
class UncleanPairs(Event):
    """Runs to train that will differ from their pairs in machine, threads or versions.

    `differences` names each differing fact with its values. `finished_threads`: the number of threads that
    all finished runs had, where the numbers differ.
    """

    runs: int
    pending: int
    differences: str
    finished_threads: int | None


@dataclass(frozen=True)
class StaleKept(Event):
    """Number of stale results that were moved to `superseded/`, to be trained again."""

    runs: int


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
    """A call has done what it could for the runs of an ablation."""

    outcome: "GridOutcome"


@dataclass(frozen=True)
class SeedsAdded(Event):
    """Rows whose comparison is open get another seed; `seeds`: the number that each has now."""

    ablation: str
    seeds: Mapping[str, int]
    max_seeds: int


@dataclass(frozen=True)
class Learned(Event):
    """A study has taken over finished choices of the store; stale ones were left out."""

    sweep: str
    choices: int
    left_out: int


@dataclass(frozen=True)
class TrialsChosen(Event):
    """A search is about to try trials; `over` of `limit` have ended before. Without a limit time ends it."""

    sweep: str
    limit: int | None
    seconds: float | None
    over: int
    workers: int


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
    """A moment between the ends of trials, several times a second."""


@dataclass(frozen=True)
class SearchEnded(Event):
    """The workers of a search have ended, or an exception has stopped them."""


@dataclass(frozen=True)
class AgentsStarted(Event):
    """Agents of a sweep at W&B run on this machine; `address` is ENTITY/PROJECT/ID."""

    sweep: str
    agents: int
    address: str


@dataclass(frozen=True)
class SpaceReduced(Event):
    """Parameters of a search space that tuning leaves out: they are what the ablation compares."""

    ablation: str
    space: Path
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class RowSearchStarted(Event):
    """The search for one row of an ablation begins or continues."""

    row: str
    sampler: str
    pruner: str
    study: str


@dataclass(frozen=True)
class TrialsMissing(Event):
    """Trials that each row lacks of its budget: unequal budgets are not compared."""

    budget: int
    missing: Mapping[str, int]


@dataclass(frozen=True)
class TrialsFailed(Event):
    """Failed trials of one row, out of its budget."""

    row: str
    failed: int
    budget: int


@dataclass(frozen=True)
class WinnerMissing(Event):
    """No trial of a row has finished: the row stays empty in the tuned table. None: of no row."""

    row: str | None
    budget: int


@dataclass(frozen=True)
class FileWritten(Event):
    """A definition file was written."""

    path: Path


@dataclass(frozen=True)
class RowProbed(Event):
    """A few steps of a run were measured; `seconds` is the estimate for the whole run."""

    spec: RunSpec
    seconds: float
    number: int
    total: int


@dataclass(frozen=True)
class CountingStarted(Event):
    """The multiply-adds of so many models are about to be counted, for one image each."""

    models: int


@dataclass(frozen=True)
class TimingStarted(Event):
    """A row's model is about to be timed in turn with its baseline's."""

    row: str
    baseline: str


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
