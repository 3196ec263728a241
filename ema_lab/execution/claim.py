"""One run, from its lock to its record: what every engine calls in its workers."""

import logging
import math
import traceback
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

from pydantic import ValidationError

from ema_lab.errors import RunTimeoutError, StoreError
from ema_lab.specs.run import RunSpec
from ema_lab.store.attempts import note_killed
from ema_lab.store.document import first_problem
from ema_lab.store.job import RunJob, RunOutcome, RunStopped, Train
from ema_lab.store.killed import oom_kills
from ema_lab.store.quarantine import leave_other_source, set_damaged_aside
from ema_lab.store.record import ErrorRecord, RunRecord
from ema_lab.store.repository import repositories
from ema_lab.store.source import loaded_sources
from ema_lab.store.store import RunFacts, RunStore

logger = logging.getLogger(__name__)
_LOADED = loaded_sources()  # as this process has it: a module that is changed now is not imported again
LOCK_SECONDS = 5.0  # a killed worker's own processes may hold its lock for a moment
Result = Literal["done", "elsewhere", "failed", "busy", "killed", "timeout", "stopped"]


@dataclass(frozen=True)
class Task:
    """What a worker needs to claim and train one run."""

    spec: RunSpec
    ablation: str = ""
    variant: str = ""


def note_package() -> None:
    """Read the source that every run executes and the state of its repository, once for all workers."""
    _LOADED.note_training()
    repositories(())


def note_sources(specs: Iterable[RunSpec]) -> None:
    """Read the sources of runs before their modules are imported: what is edited later is not what runs."""
    for spec in specs:
        _LOADED.of(spec)


@dataclass(frozen=True)
class Claim:
    """Claims, trains and records one task; runs in a worker.

    `session` marks the attempts that it begins, so that the engine knows them from others.
    """

    train: Train
    store: RunStore
    max_attempts: int
    device: str
    session: str = ""

    def __call__(self, task: Task) -> Result:
        run_id = task.spec.run_id
        with self.store.claim(run_id) as claimed:
            if not claimed:
                return "busy"
            try:
                return self._claimed(task)
            except (OSError, StoreError) as error:  # a full disk, say: an attempt without outcome counts
                logger.error("%s: the store cannot be written: %s", run_id, error)
                with suppress(OSError, StoreError):  # a few bytes may still find room
                    note_killed(self.store, run_id, f"{type(error).__name__}: {error}")
                return "killed"

    def _claimed(self, task: Task) -> Result:
        run_id = task.spec.run_id
        for line in set_damaged_aside(self.store, run_id):
            logger.warning("%s", line)
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
        found = repositories(chain.from_iterable(_LOADED.files(task.spec).values()))
        note_killed(self.store, run_id)
        if parts := leave_other_source(self.store, run_id, source):
            logger.warning("%s: the source of %s has changed: the run starts again", run_id, parts)
        attempt = self.store.begin(task.spec, self.device, source, oom_kills(), self.session)
        job = RunJob(self.store.folder(run_id), task.ablation, task.variant)
        try:
            outcome = self.train(task.spec, job)
            if found:
                outcome = replace(outcome, environment={**outcome.environment, "repositories": found})
            record = _done(task.spec, attempt.number, outcome, source)
            self.store.write(record)
        except KeyboardInterrupt:
            self.store.end(run_id, attempt, "interrupted")
            raise
        except RunStopped as stopped:
            self.store.end(run_id, attempt, "pruned", str(stopped) or None)
            return "stopped"
        except (Exception, SystemExit) as error:  # training may raise anything; the record keeps all of it
            record = failed_record(run_id, attempt.number, error)
            self.store.write(record)
        self.store.end(run_id, attempt, record.status, record.reason)
        return record.status

    def timed_out(self, task: Task, seconds: float) -> Result:
        """Record that this session's worker was killed at its time limit; return how the run ended.

        An attempt that ended at the last moment stays as it is. Where the limit came before the attempt
        began, one is written, so that it counts.
        """
        run_id = task.spec.run_id
        with self.store.claim(run_id, patience=LOCK_SECONDS) as claimed:
            if not claimed:
                return "busy"  # another process has taken it over
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
        """End the attempt that wrote a record and was killed before it could say so."""
        assert facts.record is not None
        attempt = self.store.attempt(run_id, facts.record.attempt)
        if attempt.session != self.session:
            return "elsewhere"
        if attempt.outcome is None:
            self.store.end(run_id, attempt, "done")
        return "done"


def new_session() -> str:
    """Return a name for one call of an engine, unlike that of every other call."""
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
    """Return the record of an attempt that ended with an error."""
    message = str(error).strip().splitlines()
    details = ErrorRecord(
        kind=type(error).__name__,
        message=message[0] if message else "",
        traceback="".join(traceback.format_exception(error)),
    )
    return RunRecord(run_id=run_id, status="failed", attempt=attempt, error=details)
