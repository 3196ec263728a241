"""Execution of pending runs: each is claimed, trained and recorded exactly once.

One failing run is recorded and stops none of the others; an interrupted one is simply pending again.
"""

import math
import multiprocessing
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pebble import ProcessExpired, ProcessPool

from ema_lab.experiments.record import ErrorRecord, RunRecord
from ema_lab.experiments.source import source_hashes
from ema_lab.experiments.store import MAX_ATTEMPTS, RunStore
from ema_lab.job import RunJob, RunOutcome, Train
from ema_lab.specs.run import RunSpec

Result = Literal["done", "elsewhere", "failed", "busy", "killed"]
TICK_SECONDS = 0.25


@dataclass(frozen=True)
class Task:
    """What a worker needs to claim and train one run."""

    spec: RunSpec
    ablation: str = ""
    variant: str = ""


@dataclass
class Progress:
    """Run ids by what has happened so far.

    `running`: begun by a worker of ours; `busy`: held by another process; `elsewhere`: finished there.
    """

    total: int
    done: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)


def execute(
    specs: Iterable[RunSpec | Task],
    *,
    train: Train,
    store: RunStore,
    workers: int = 1,
    max_attempts: int = MAX_ATTEMPTS,
    device: str = "",
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train every pending run and record each outcome.

    Runs that another process holds are waited for: if it dies, they are taken over.

    Args:
        specs: Runs, or tasks that also say how the ablation calls them.
        train: Trains one run. With several workers it must be picklable.
        store: Where runs are claimed and recorded.
        workers: 1 trains in this process, more start that many processes.
        max_attempts: Failed or killed attempts after which a run is left alone.
        device: What the attempts say they run on; `train` decides what they do run on.
        watch: Told of the progress several times a second, and at the end.
    """
    tasks = [item if isinstance(item, Task) else Task(item) for item in specs]
    tasks = [task for task in tasks if store.state(task.spec.run_id, max_attempts) in {"pending", "running"}]
    progress = Progress(len(tasks))
    run_all = _run_here if workers == 1 else _run_in_pool
    waiting: Sequence[Task] = tasks
    while waiting:
        progress.busy = []
        run_all(waiting, _Claim(train, store, max_attempts, device), workers, progress, watch)
        held = set(progress.busy)
        waiting = [task for task in waiting if task.spec.run_id in held]
        while waiting and all(store.is_locked(task.spec.run_id) for task in waiting):
            watch(progress)
            time.sleep(TICK_SECONDS)
    watch(progress)
    return progress


@dataclass(frozen=True)
class _Claim:
    """Claims, trains and records one task; runs in a worker."""

    train: Train
    store: RunStore
    max_attempts: int
    device: str

    def __call__(self, task: Task) -> Result:
        run_id = task.spec.run_id
        with self.store.claim(run_id) as claimed:
            if not claimed:
                return "busy"
            state = self.store.state(run_id, self.max_attempts)
            if state == "done":
                return "elsewhere"
            if state == "failed":
                return "failed"
            return self._attempt(task)

    def _attempt(self, task: Task) -> Result:
        run_id = task.spec.run_id
        attempt = self.store.begin(task.spec, self.device)
        job = RunJob(self.store.folder(run_id), task.ablation, task.variant)
        try:
            record = _done(task.spec, attempt.number, self.train(task.spec, job))
            self.store.write(record)
        except KeyboardInterrupt:
            self.store.end(run_id, attempt, "interrupted")
            raise
        except (Exception, SystemExit) as error:  # training may raise anything; the record keeps all of it
            record = _failed(run_id, attempt.number, error)
            self.store.write(record)
        self.store.end(run_id, attempt, record.status)
        return record.status


def _done(spec: RunSpec, attempt: int, outcome: RunOutcome) -> RunRecord:
    if wrong := {name: value for name, value in outcome.metrics.items() if not math.isfinite(value)}:
        raise FloatingPointError(f"a metric must be a finite number, got {wrong}")
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
        source=source_hashes(spec),
    )


def _failed(run_id: str, attempt: int, error: BaseException) -> RunRecord:
    message = str(error).strip().splitlines()
    details = ErrorRecord(
        kind=type(error).__name__,
        message=message[0] if message else "",
        traceback="".join(traceback.format_exception(error)),
    )
    return RunRecord(run_id=run_id, status="failed", attempt=attempt, error=details)


def _note(progress: Progress, run_id: str, result: Result) -> None:
    kinds: Mapping[Result, list[str]] = {
        "done": progress.done,
        "elsewhere": progress.elsewhere,
        "failed": progress.failed,
        "killed": progress.failed,
        "busy": progress.busy,
    }
    kinds[result].append(run_id)


def _run_here(
    tasks: Sequence[Task],
    claim: _Claim,
    workers: int,
    progress: Progress,
    watch: Callable[[Progress], None],
) -> None:
    for task in tasks:
        progress.running = [task.spec.run_id]
        watch(progress)
        result = claim(task)
        progress.running = []
        _note(progress, task.spec.run_id, result)
        watch(progress)


def _run_in_pool(
    tasks: Sequence[Task],
    claim: _Claim,
    workers: int,
    progress: Progress,
    watch: Callable[[Progress], None],
) -> None:
    """Run tasks in long-lived worker processes; a worker that dies costs only its run."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ema_lab.preload"])  # imports are paid once, then forked
    began = datetime.now(UTC).isoformat(timespec="seconds")
    pool = ProcessPool(max_workers=min(workers, len(tasks)), context=context, initializer=_become_worker)
    futures: dict[Future[Result], str] = {}
    try:
        futures = {pool.submit(claim, None, task): task.spec.run_id for task in tasks}
        waiting = set(futures)
        while waiting:
            finished, waiting = wait(waiting, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                _note(progress, futures[future], _result(future))
            progress.running = [
                futures[future] for future in futures if future in waiting and future.running()
            ]
            watch(progress)
        pool.close()
        pool.join()
    except BaseException:
        pool.stop()
        pool.join()
        ended = {*progress.done, *progress.elsewhere, *progress.failed}
        _mark_interrupted(claim.store, [run_id for run_id in futures.values() if run_id not in ended], began)
        raise


def _result(future: Future[Result]) -> Result:
    try:
        return future.result()
    except ProcessExpired:
        return "killed"  # its attempt has no outcome: it counts, and the run is pending again


def _mark_interrupted(store: RunStore, run_ids: Iterable[str], began: str) -> None:
    """Note that the user stopped the attempts begun since `began`, so that they do not count as failures."""
    for run_id in run_ids:
        with store.claim(run_id) as claimed:
            attempts = store.attempts(run_id) if claimed else []
            if not attempts or attempts[-1].outcome is not None or attempts[-1].started < began:
                continue  # not begun by us, or ended
            if attempts[-1].host == socket.gethostname():
                store.end(run_id, attempts[-1], "interrupted")


def _become_worker() -> None:
    """Leave Ctrl-C to the parent, which stops the workers and notes what they were at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
