"""Outcome of training a grid: which runs were trained, were done before, or failed, and why."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ema_lab.ablation.ablation import Ablation
from ema_lab.execution.claim import Task
from ema_lab.execution.engines.engine import Progress
from ema_lab.statistics.sequential import Decision, SequentialComparison
from ema_lab.store.failure import failure_of
from ema_lab.store.store import RunStore
from ema_lab.store.survey import RunStatus


@dataclass(frozen=True)
class FailedCell:
    """A run without a result.

    `given_up`: it has no attempts left. `unreadable`: a file of it is damaged, so it is left alone.
    """

    run_id: str
    variant: str
    seed: int
    reason: str
    given_up: bool = False
    unreadable: bool = False


@dataclass(frozen=True)
class Comparison:
    """A row against its baseline row: the differences on their common seeds, and the decision so far."""

    row: str
    baseline: str
    followed: SequentialComparison
    decision: Decision


@dataclass(frozen=True)
class GridOutcome:
    """Outcome of a call for the runs of an ablation.

    Attributes:
        ablation: The requested cells, with the further seeds of `until`.
        store: Folder of the runs.
        trained: Run ids that this call has trained.
        done_before: Run ids that were done already.
        elsewhere: Run ids that another process trained meanwhile.
        failed: Runs without a result, with the reason of each.
        left: Run ids that are still pending, because `stop_after` ended the call.
        stale: Number of stale results by the parts whose source has changed; empty with `refresh`.
        max_attempts: Attempts after which a failed run is left alone.
        comparisons: With `until`, each row's comparison with its baseline.
    """

    ablation: Ablation
    store: RunStore
    trained: tuple[str, ...] = ()
    done_before: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    failed: tuple[FailedCell, ...] = ()
    left: tuple[str, ...] = ()
    stale: Mapping[str, int] = field(default_factory=dict)
    max_attempts: int = 0
    comparisons: tuple[Comparison, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every requested run has a result."""
        return not (self.failed or self.left)


def stale_counts(statuses: Mapping[str, RunStatus]) -> Counter[str]:
    """Count stale results by the parts whose source has changed, separated by spaces."""
    return Counter(" ".join(status.stale) for status in statuses.values() if status.stale)


def failed_cells(
    store: RunStore, tasks: list[Task], progress: Progress, given_up: set[str]
) -> list[FailedCell]:
    """Return the runs that failed in this call, then those that were left alone."""
    failed = [task for task in tasks if task.spec.run_id in progress.failed]
    return [
        _failed_cell(store, task, given_up=task.spec.run_id in given_up)
        for task in [*failed, *(task for task in tasks if task.spec.run_id in given_up)]
    ]


def _failed_cell(store: RunStore, task: Task, *, given_up: bool) -> FailedCell:
    run_id = task.spec.run_id
    facts = store.facts(run_id)
    failure = failure_of(facts)
    damage = "; ".join(facts.damage)
    reason = failure.sentence if failure else damage or "its record is missing"
    if facts.unreadable:
        reason = damage
    return FailedCell(run_id, task.variant, task.spec.seed, reason, given_up, bool(facts.unreadable))
