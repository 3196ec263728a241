"""Claim of one run, from its lock to its record. Every engine calls it in its workers."""

import logging
import math
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ema_lab.errors import RunTimeoutError, StoreError
from ema_lab.specs.run import RunSpec
from ema_lab.store.attempts import note_killed
from ema_lab.store.document import first_problem
from ema_lab.store.job import RunJob, RunOutcome, RunPaused, RunStopped, Train, ignore
from ema_lab.store.killed import oom_kills
from ema_lab.store.layout import CACHE, ENGINE, meeting_path
from ema_lab.store.quarantine import quarantine_damaged, supersede_stale_progress
from ema_lab.store.record import ErrorRecord, RunRecord
from ema_lab.store.repository import repositories
from ema_lab.store.source import loaded_sources
from ema_lab.store.store import RunFacts, RunStore

logger = logging.getLogger(__name__)
_LOADED = loaded_sources()  # Python imports a module once: later edits of its file do not run in this process
PRELOADED = (  # modules that a process imports once for all runs that it forks, the first one first
    "ema_lab.execution.preload",
    "ema_lab.one_run.pipeline",
    "ema_lab.training.run",
)
LOCK_SECONDS = 5.0  # child processes of a killed worker may hold its lock for a moment
Result = Literal["done", "elsewhere", "failed", "busy", "killed", "timeout", "stopped"]


@dataclass(frozen=True)
class Task:
    """Run to claim and train, with the names of its ablation and variant."""

    spec: RunSpec
    ablation: str = ""
    variant: str = ""


def note_package() -> None:
    """Snapshot the source that every run executes and its repository, once for all workers."""
    _LOADED.note_training()
    repositories(())


def note_sources(specs: Iterable[RunSpec]) -> None:
    """Snapshot the sources of runs before their modules are imported, as later edits do not run."""
    for spec in specs:
        _LOADED.of(spec)


@dataclass(frozen=True)
class Claim:
    """Callable that claims, trains and records one task in a worker.

    Attributes:
        train: Trains a run.
        store: The store.
        max_attempts: Number of counted attempts after which a run is left alone.
        device: Device that attempts record.
        session: Id of the engine call, recorded in each attempt. It tells the engine's own attempts from
            those of other processes, whose outcome the engine must not change.
        watch: Observer in the worker's process, called when an attempt begins and after each epoch. An error
            of the observer is logged and does not fail the run.
        stop_at: Time, in seconds since 1970, from which no further run is begun; `train` has its own.
        meetings: Folder of the engine call below which the machines of a run meet; None is the store's.
    """

    train: Train
    store: RunStore
    max_attempts: int
    device: str
    session: str = ""
    watch: Callable[[], None] = ignore
    stop_at: float = math.inf
    meetings: Path | None = None

    def __call__(self, task: Task) -> Result:
        run_id = task.spec.run_id
        if time.time() >= self.stop_at:
            return "stopped"
        with self.store.claim(run_id) as claimed:
            if not claimed:
                return "busy"
            try:
                return self._claimed(task)
            except (
                OSError,
                StoreError,
            ) as error:  # such as a full disk; the attempt without outcome counts as killed
                logger.error("%s: the store cannot be written: %s", run_id, error)
                with suppress(OSError, StoreError):  # a full disk may still take a few bytes
                    note_killed(self.store, run_id, f"{type(error).__name__}: {error}")
                return "killed"

    def _claimed(self, task: Task) -> Result:
        run_id = task.spec.run_id
        for line in quarantine_damaged(self.store, run_id):
            logger.warning("%s", line)
        # Read again under the lock: another worker may have finished the run since this one was chosen.
        facts = self.store.facts(run_id)
        state = self.store.state_of(run_id, facts, self.max_attempts)
        if state == "done":
            return "elsewhere"
        if state == "failed":
            for line in facts.damage:
                logger.error("%s: the run is left alone", line)
            return "failed"
        return self._attempt(task)

    def _attempt(self, task: Task) -> Result:
        run_id = task.spec.run_id
        source = _LOADED.of(task.spec)
        repository_states = repositories(chain.from_iterable(_LOADED.files(task.spec).values()))
        note_killed(self.store, run_id)  # the lock is free, so an attempt without outcome was killed
        if parts := supersede_stale_progress(self.store, run_id, source):
            logger.warning("%s: the source of %s has changed: the run starts again", run_id, parts)
        attempt = self.store.begin(task.spec, self.device, source, oom_kills(), self.session)
        cache = self.store.root / CACHE
        meeting = meeting_path(self.meetings or self.store.root / ENGINE, run_id)
        folder = self.store.folder(run_id)
        job = RunJob(folder, task.ablation, task.variant, self._notify, cache, meeting)
        try:
            self._notify()
            outcome = self.train(task.spec, job)
            if repository_states:
                environment = {**outcome.environment, "repositories": repository_states}
                outcome = replace(outcome, environment=environment)
            record = _done(task.spec, attempt.number, outcome, source)
            self.store.write(record)
        except KeyboardInterrupt:
            self.store.end(run_id, attempt, "interrupted")
            raise
        except RunPaused as paused:
            self.store.end(run_id, attempt, "interrupted", str(paused))
            return "stopped"
        except RunStopped as stopped:
            self.store.end(run_id, attempt, "pruned", str(stopped) or None)
            return "stopped"
        except (
            Exception,
            SystemExit,
        ) as error:  # training may raise anything; the record keeps the traceback
            record = failed_record(run_id, attempt.number, error)
            self.store.write(record)
        self.store.end(run_id, attempt, record.status, record.reason)
        return record.status

    def _notify(self) -> None:
        try:
            self.watch()
        except Exception as error:  # an observer may raise anything
            logger.warning("the observer of the training failed: %s: %s", type(error).__name__, error)

    def timed_out(self, task: Task, seconds: float) -> Result:
        """Record that the engine killed this session's worker at its time limit; return the run's result.

        An attempt that ended just before the kill keeps its outcome. If the limit came before the attempt
        began, an attempt is written, so that a run that always hangs reaches its attempt limit.

        Args:
            task: The run.
            seconds: The time limit.
        """
        run_id = task.spec.run_id
        with self.store.claim(run_id, patience=LOCK_SECONDS) as claimed:
            if not claimed:
                return "busy"  # another process has taken the run over
            facts = self.store.facts(run_id)
            if facts.unreadable:
                return "failed"
            if facts.done:
                return self._end_done(run_id, facts)
            last = facts.attempts[-1] if facts.attempts else None
            if last is None or last.session != self.session:
                last = self.store.begin(task.spec, self.device, session=self.session)
            elif last.outcome is not None:
                return "failed" if last.outcome == "failed" else "stopped"
            record = facts.record
            if record is None or record.attempt != last.number:
                error = RunTimeoutError(f"stopped after {seconds:g} s, the time that --timeout allows")
                record = failed_record(run_id, last.number, error)
                self.store.write(record)
            self.store.end(run_id, last, "failed", record.reason)
            return "timeout"

    def _end_done(self, run_id: str, facts: RunFacts) -> Result:
        """Set the outcome of an attempt that wrote its record and was killed before its end."""
        assert facts.record is not None
        attempt = self.store.attempt(run_id, facts.record.attempt)
        if attempt.session != self.session:
            return "elsewhere"
        if attempt.outcome is None:
            self.store.end(run_id, attempt, "done")
        return "done"


def new_session() -> str:
    """Return a unique id for one call of an engine."""
    return uuid.uuid4().hex[:16]


def _done(spec: RunSpec, attempt: int, outcome: RunOutcome, source: Mapping[str, str]) -> RunRecord:
    if wrong := {name: value for name, value in outcome.metrics.items() if not math.isfinite(value)}:
        raise FloatingPointError(f"a metric must be a finite number, got {wrong}")
    try:
        return RunRecord(
            run_id=spec.run_id,
            status="done",
            attempt=attempt,
            metrics=outcome.metrics,
            chosen_epoch=outcome.chosen_epoch,
            cost=outcome.cost,
            wall_seconds=outcome.wall_seconds,
            throughput=outcome.throughput,
            environment=outcome.environment,
            data_sha256=outcome.data_sha256,
            predictions_sha256=outcome.predictions_sha256,
            source=source,
        )
    except ValidationError as error:
        raise ValueError(f"the outcome cannot be recorded: {first_problem(error)}") from None


def failed_record(run_id: str, attempt: int, error: BaseException) -> RunRecord:
    """Build the record of an attempt that ended with an error."""
    message = str(error).strip().splitlines()
    details = ErrorRecord(
        kind=type(error).__name__,
        message=message[0] if message else "",
        traceback="".join(traceback.format_exception(error)),
    )
    return RunRecord(run_id=run_id, status="failed", attempt=attempt, error=details)
