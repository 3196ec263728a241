"""State of every cell of an ablation in a store, and the failures among them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.errors import UnknownNameError
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.task import task_description
from ema_lab.store.attempts import forgive
from ema_lab.store.failure import FailedRun, shown_state
from ema_lab.store.heartbeat import Heartbeat
from ema_lab.store.store import MAX_ATTEMPTS, RunStore
from ema_lab.store.survey import RunStatus, Survey
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.folders import existing_store
from ema_lab.workflow.selection import Changes, Conditions, SeedChoice, selected

IN_DATA_ONLY = ("ablation", "cause", "signature")


@dataclass(frozen=True)
class Status:
    """Cells of an ablation with the status of each run in a store."""

    ablation: Ablation
    cells: tuple[tuple[Cell, RunStatus], ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat object per cell, as `ema-lab status --json` prints them."""
        tasks = dict.fromkeys(cell.spec.data.facts.task for cell, _ in self.cells)
        primary = dict.fromkeys(task_description(task).primary for task in tasks)
        return [
            {"run_id": cell.run_id, "ablation": self.ablation.name, "variant": cell.row, "seed": cell.seed}
            | _facts(run_status, primary)
            for cell, run_status in self.cells
        ]

    def shown_rows(self) -> list[dict[str, Any]]:
        """Return the rows for display: without the parts of an error; a failed run is called failed."""
        return [
            {key: value for key, value in row.items() if key not in IN_DATA_ONLY}
            | {"status": shown_state(run_status.state, run_status.failure)}
            for row, (_, run_status) in zip(self.rows(), self.cells, strict=True)
        ]

    @property
    def shown_counts(self) -> Counter[str]:
        """Number of cells by state for display: failed runs that will be tried again count as failed."""
        return Counter(shown_state(run_status.state, run_status.failure) for _, run_status in self.cells)

    @property
    def counts(self) -> Counter[str]:
        """Number of cells by state: done, failed, running, pending."""
        return Counter(run_status.state for _, run_status in self.cells)

    @property
    def stale(self) -> Counter[str]:
        """Number of cells with a stale result, by the parts whose source has changed."""
        return Counter(" ".join(run_status.stale) for _, run_status in self.cells if run_status.stale)

    @property
    def untrained(self) -> dict[str, tuple[str, ...]]:
        """Names of the parameters that the recipe of a finished run has never trained, by row."""
        found: dict[str, tuple[str, ...]] = {}
        for cell, run_status in self.cells:
            record = run_status.facts.record
            names = record.environment.get("untrained") if record else None
            if isinstance(names, list | tuple) and names:
                found[cell.row] = tuple(map(str, names))
        return found

    @property
    def failed(self) -> list[FailedRun]:
        """Runs whose last attempt failed and that no process works on."""
        failed_runs: dict[str, FailedRun] = {}
        for cell, run_status in self.cells:
            if run_status.failure and run_status.state != "running":
                name, given_up = f"{cell.row} seed {cell.seed}", run_status.state == "failed"
                failed_runs[cell.run_id] = FailedRun(cell.run_id, name, run_status.failure, given_up)
        return list(failed_runs.values())

    @property
    def is_over(self) -> bool:
        """Whether no cell is pending or running."""
        return not self.counts["pending"] + self.counts["running"]


@dataclass(frozen=True)
class Retried:
    """Failed runs that are pending again, and the number of those that a process works on."""

    ablation: Ablation
    runs: tuple[FailedRun, ...]
    busy: int


def status(
    ablation: str | Path,
    *,
    only: Conditions | None = None,
    seeds: SeedChoice | None = None,
    changes: Changes | None = None,
    store: Path | str = DEFAULT_STORE,
    max_attempts: int = MAX_ATTEMPTS,
) -> Status:
    """Return the state of every cell of an ablation; nothing is written and torch is not loaded.

    Example:
        >>> state = ema_lab.status("quickstart")
        >>> state.counts["pending"], [run.failure.message for run in state.failed]
        (21, [])

    Args:
        ablation: A path, or the name of a definition.
        only: Conditions on cells: values by key, or "KEY=VALUE" texts.
        seeds: The first so many seeds of the file, or a list of seeds.
        changes: "KEY=VALUE" texts, or values by dotted key, that change the file's base.
        store: Folder of the runs.
        max_attempts: Attempts after which a run counts as failed for good.

    Raises:
        EmaLabError: If there is no such ablation, cell or store.
    """
    return survey(selected(ablation, only, seeds, changes), existing_store(store), max_attempts)


def survey(ablation: Ablation, store: RunStore, max_attempts: int = MAX_ATTEMPTS) -> Status:
    """Return the state of every cell of an ablation that is loaded."""
    runs = Survey(store, max_attempts)
    return Status(ablation, tuple((cell, runs.status(cell.spec)) for cell in ablation.cells))


def retry(ablation: Ablation, store: RunStore, signature: str | None = None) -> Retried:
    """Make failed runs pending again; their attempts stay on file and no longer count.

    Args:
        ablation: Its cells.
        store: Where their runs are.
        signature: Only failures of this kind, or of kinds that begin so; None takes all.

    Raises:
        UnknownNameError: If no failure has the signature.
    """
    failed = survey(ablation, store).failed
    known = list(dict.fromkeys(run.failure.signature for run in failed))
    matching = [each for each in known if signature is None or f"{each}:".startswith(f"{signature}:")]
    if signature is not None and not matching:
        raise UnknownNameError(unknown_name("failure", signature, known))
    chosen = [run for run in failed if run.failure.signature in matching]
    forgiven = tuple(run for run in chosen if forgive(store, run.run_id))
    return Retried(ablation, forgiven, len(chosen) - len(forgiven))


def _pace(beat: Heartbeat) -> str:
    """Return speed and share of waiting for data as the end of a sentence; "" if they are not known."""
    if not beat.images_per_second:
        return ""
    waiting = f", {100 * beat.data_share:.0f} % of the time waiting for data"
    return f", {beat.speed}{waiting}"


def _facts(run_status: RunStatus, metrics: Iterable[str]) -> dict[str, Any]:
    facts, failure = run_status.facts, run_status.failure
    by = None
    if run_status.state == "running":
        last = facts.attempts[-1]
        by = f"{last.host}:{last.pid} on {last.device or '?'} since {last.started}"
        if beat := run_status.heartbeat:
            by += f", {beat.place}{_pace(beat)}, last sign of life {beat.seconds_ago:.0f} s ago"
            by += ": stalled" if beat.is_stalled else ""
    return {
        "status": run_status.state,
        "stale": " ".join(run_status.stale) or None,
        "attempts": facts.tries,
        **{name: facts.record.metrics.get(name) if facts.record else None for name in metrics},
        "wall_seconds": facts.record.wall_seconds if facts.record and facts.done else None,
        "by": by,
        "cause": failure.cause if failure else None,
        "signature": failure.signature if failure else None,
        "error": run_status.reason,
    }
