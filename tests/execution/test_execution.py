"""Execution with fake trainings: exactly once, nothing lost, one failure affects one run."""

import errno
import multiprocessing
import os
import threading
import time
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ema_lab.execution import claim
from ema_lab.execution.claim import Claim, Result, Task
from ema_lab.execution.engines import local
from ema_lab.execution.engines.local import LocalEngine
from ema_lab.execution.executor import execute
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome, RunPaused
from ema_lab.store.store import RunStore

METRICS = {"top1": 50.0, "loss": 1.0}


class OutOfMemoryError(RuntimeError):
    pass


@dataclass
class Fake:
    """Fake training that looks up a seed's outcome: raises an exception, or returns metrics."""

    log: Path
    at_seed: dict[int, object]

    def __call__(self, spec: RunSpec, job: RunJob) -> RunOutcome:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{spec.run_id}\n")
        what = self.at_seed.get(spec.seed, METRICS)
        if isinstance(what, BaseException):
            raise what
        if what == "exit":
            os._exit(3)
        if what == "together":
            wait_for_processes(self.log.with_name("together"), 2)
            return RunOutcome(METRICS)
        return what if isinstance(what, RunOutcome) else RunOutcome(dict(what))

    @property
    def trained(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").split() if self.log.exists() else []


def wait_for_processes(folder: Path, count: int) -> None:
    """Wait until `count` processes have reached this point."""
    folder.mkdir(exist_ok=True)
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < count:
        time.sleep(0.01)


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.fixture
def fake(tmp_path):
    def fake(at_seed=None):
        return Fake(tmp_path / "log", at_seed or {})

    return fake


def states(store, specs):
    return [store.state(spec.run_id) for spec in specs]


def outcomes(store, spec):
    return [attempt.outcome for attempt in store.attempts(spec.run_id)]


BOTH = pytest.mark.parametrize("specs", ["classification", "detection"], indirect=True)


@BOTH
class TestDone:
    def test_a_run_is_recorded_with_what_training_found(self, store, specs, fake, monkeypatch):
        monkeypatch.setattr(claim, "repositories", lambda sources: {"study": {"commit": "abc"}})
        outcome = RunOutcome(METRICS, 2, {"macs": 7}, 1.5, 30.0, {"device": "cpu"}, "abc")
        execute(specs[:1], train=fake({0: outcome}), store=store)
        record = store.record(specs[0].run_id)
        assert (record.status, record.attempt, record.error) == ("done", 1, None)
        assert (record.metrics, record.chosen_epoch, record.cost) == (METRICS, 2, {"macs": 7})
        assert (record.wall_seconds, record.throughput) == (1.5, 30.0)
        assert record.environment == {"device": "cpu", "repositories": {"study": {"commit": "abc"}}}
        assert record.data_sha256 == "abc"
        assert record.source.keys() == {"module", "backbone", "data", "training"}
        assert outcomes(store, specs[0]) == ["done"]

    def test_executing_again_trains_nothing(self, store, specs, fake):
        train = fake()
        first, second = (execute(specs, train=train, store=store) for _ in range(2))
        assert train.trained == [spec.run_id for spec in specs] == first.done
        assert (second.total, second.done) == (0, [])

    def test_a_run_that_stands_twice_is_trained_once(self, store, specs, fake):
        train = fake()
        execute([specs[0], specs[0]], train=train, store=store)
        assert train.trained == [specs[0].run_id]

    def test_training_receives_its_folder_and_its_name_in_the_ablation(self, store, specs):
        jobs = []

        def train(spec, job):
            jobs.append(job)
            return RunOutcome(METRICS)

        execute([Task(specs[0], "grid", "ema [groups=8]")], train=train, store=store)
        assert jobs == [RunJob(store.folder(specs[0].run_id), "grid", "ema [groups=8]")]

    def test_progress_is_reported_during_a_run_and_at_its_end(self, store, specs, fake):
        seen = []
        execute(
            specs[:2], train=fake(), store=store, watch=lambda p: seen.append((list(p.running), len(p.done)))
        )
        one, two = (spec.run_id for spec in specs[:2])
        assert list(dict.fromkeys(map(str, seen))) == [
            str(([one], 0)),
            str(([], 1)),
            str(([two], 1)),
            str(([], 2)),
        ]


class TestFailure:
    def test_it_keeps_its_traceback_and_stops_no_other(self, store, specs, fake):
        train = fake({1: OutOfMemoryError("no memory left\nsecond line")})
        progress = execute(specs, train=train, store=store)
        assert states(store, specs) == ["done", "pending", "done", "done"]
        assert progress.failed == [specs[1].run_id]
        error = store.record(specs[1].run_id).error
        assert (error.kind, error.message) == ("OutOfMemoryError", "no memory left")
        assert "Traceback (most recent call last)" in error.traceback
        assert "test_execution.py" in error.traceback
        assert outcomes(store, specs[1]) == ["failed"]

    def test_it_is_retried_up_to_the_limit_and_then_left_alone(self, store, specs, fake):
        train = fake({0: ValueError("again")})
        totals = [execute(specs[:1], train=train, store=store, max_attempts=2).total for _ in range(4)]
        assert totals == [1, 1, 0, 0]
        assert len(train.trained) == 2
        assert store.record(specs[0].run_id).attempt == 2
        assert execute(specs[:1], train=train, store=store, max_attempts=3).failed == [specs[0].run_id]

    def test_a_later_success_replaces_it(self, store, specs, fake):
        execute(specs[:1], train=fake({0: ValueError("once")}), store=store)
        execute(specs[:1], train=fake(), store=store)
        record = store.record(specs[0].run_id)
        assert (record.status, record.attempt, record.error) == ("done", 2, None)
        assert outcomes(store, specs[0]) == ["failed", "done"]

    @pytest.mark.parametrize(
        ("outcome", "words"),
        [
            (RunOutcome({"top1": float("nan")}), "a metric must be a finite number, got {'top1': nan}"),
            (RunOutcome({"loss": float("inf")}), "a metric must be a finite number, got {'loss': inf}"),
            (
                RunOutcome(METRICS, throughput=float("nan")),
                "throughput: a number must be",
            ),
            (RunOutcome(METRICS, environment={"x": object()}), "serialize"),
            (RunOutcome({"top1": "high"}), ""),
        ],
        ids=["NaN metric", "infinite metric", "NaN throughput", "an object", "a word"],
    )
    def test_an_outcome_that_cannot_be_recorded_is_one(self, store, specs, fake, outcome, words):
        execute(specs[:2], train=fake({0: outcome}), store=store)
        record = store.record(specs[0].run_id)
        assert record.status == "failed"
        assert words in record.error.message
        assert states(store, specs[:2]) == ["pending", "done"]
        assert outcomes(store, specs[0]) == ["failed"]
        assert list(store.root.rglob("*.partial")) == []


def train_two_epochs(spec: RunSpec, job: RunJob) -> RunOutcome:
    for _ in range(2):
        job.on_epoch()
    return RunOutcome(METRICS)


def test_one_worker_in_this_process_shows_each_epoch(store, specs):
    seen: list[list[str]] = []
    execute(
        specs[:1], train=train_two_epochs, store=store, watch=lambda progress: seen.append(progress.running)
    )
    begins_and_epochs = [specs[0].run_id] * 4  # before and at the attempt's begin, then two epochs
    assert [run_id for running in seen for run_id in running] == begins_and_epochs


def test_an_error_of_the_observer_fails_no_run(store, specs, caplog):
    def watch(progress):
        if progress.running and store.is_locked(specs[0].run_id):
            raise BrokenPipeError("nobody listens")

    assert execute(specs[:1], train=train_two_epochs, store=store, watch=watch).done == [specs[0].run_id]
    assert caplog.text.count("the observer of the training failed: BrokenPipeError: nobody listens") == 3


def test_code_that_exits_is_a_failure_and_stops_no_other_run(store, specs, fake):
    progress = execute(specs, train=fake({1: SystemExit(3)}), store=store)
    assert progress.failed == [specs[1].run_id]
    assert len(progress.done) == 3
    assert store.record(specs[1].run_id).error.kind == "SystemExit"


class TestInterruption:
    def test_the_run_is_pending_and_the_attempt_does_not_count(self, store, specs, fake):
        train = fake({1: KeyboardInterrupt()})
        with pytest.raises(KeyboardInterrupt):
            execute(specs, train=train, store=store)
        assert states(store, specs) == ["done", "pending", "pending", "pending"]
        assert store.record(specs[1].run_id) is None
        assert outcomes(store, specs[1]) == ["interrupted"]
        assert not store.is_locked(specs[1].run_id)

    def test_it_is_begun_again_however_often_it_was_interrupted(self, store, specs, fake):
        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                execute(specs[:1], train=fake({0: KeyboardInterrupt()}), store=store)
        execute(specs[:1], train=fake(), store=store)
        assert store.record(specs[0].run_id).attempt == 6

    def test_a_killed_attempt_counts(self, store, specs, fake):
        for _ in range(3):
            store.begin(specs[0])  # and no word of how it ended
        train = fake()
        assert execute(specs[:1], train=train, store=store).total == 0
        assert execute(specs[:1], train=train, store=store, max_attempts=4).done == [specs[0].run_id]


def execute_all(
    root: Path, specs: list[RunSpec], train: Fake, done: "multiprocessing.Queue[list[str]]"
) -> None:
    done.put(execute(specs, train=train, store=RunStore(root)).done)


@pytest.mark.parametrize(
    "specs", ["classification", pytest.param("detection", marks=pytest.mark.slow)], indirect=True
)
def test_two_processes_with_one_folder_train_every_run_once(store, specs, fake):
    runs = [specs[0].model_copy(update={"seed": seed}) for seed in range(20)]
    runs = [RunSpec.model_validate(run.resolved()) for run in runs]
    train = fake(dict.fromkeys(range(20), "together"))
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    processes = [
        context.Process(target=execute_all, args=(store.root, order, train, done))
        for order in (runs, runs[::-1])
    ]
    for process in processes:
        process.start()
    found = [done.get(timeout=180) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(train.trained) == sorted(run.run_id for run in runs)
    assert sorted(run_id for part in found for run_id in part) == sorted(run.run_id for run in runs)
    assert {len(store.attempts(run.run_id)) for run in runs} == {1}


class TestPool:
    def test_a_worker_that_dies_costs_its_own_run_only(self, store, specs, fake):
        train = fake({1: "exit", 2: ValueError("bad")})
        progress = execute(specs, train=train, store=store, workers=2)
        assert states(store, specs) == ["done", "pending", "pending", "done"]
        assert sorted(progress.failed) == sorted(spec.run_id for spec in specs[1:3])
        assert outcomes(store, specs[1]) == [None]
        assert outcomes(store, specs[2]) == ["failed"]
        assert store.record(specs[1].run_id) is None
        again = execute(specs, train=fake(), store=store, workers=2)
        assert sorted(again.done) == sorted(progress.failed)
        assert len(store.attempts(specs[1].run_id)) == 2

    def test_a_worker_is_stopped_when_its_time_is_over(self):
        with local.worker_pool(1) as pool:
            future = pool.submit(wait_for_ever, 0.1)
            assert local._result(future) == "timeout"

    def test_interrupting_it_leaves_its_runs_pending(self, store, specs, tmp_path):
        def interrupt(progress):
            if progress.running and store.attempts(progress.running[0]):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            execute(specs[:2], train=wait_for_ever, store=store, workers=2, watch=interrupt)
        assert states(store, specs[:2]) == ["pending", "pending"]
        assert {outcome for spec in specs[:2] for outcome in outcomes(store, spec)} == {"interrupted"}

    def test_a_run_that_takes_too_long_is_recorded_as_failed(self, store, specs, fake, monkeypatch):
        pool = TimedPool(seed=0)
        monkeypatch.setattr(local, "worker_pool", lambda workers, gpus: nullcontext(pool))
        engine = LocalEngine(workers=2, timeout=0.5)
        progress = execute(specs[:2], train=fake(), store=store, engine=engine)
        assert pool.limits == [0.5, 0.5]
        assert progress.failed == [specs[0].run_id]
        assert states(store, specs[:2]) == ["pending", "done"]
        assert outcomes(store, specs[0]) == ["failed"]
        error = store.record(specs[0].run_id).error
        assert (error.kind, error.message) == (
            "RunTimeoutError",
            "stopped after 0.5 s, the time that --timeout allows",
        )

    def test_each_worker_has_a_gpu_slot_of_its_own(self, store, specs, tmp_path):
        engine = LocalEngine(workers=2, gpus=("0", "3"))
        execute(specs, train=VisibleGpu(tmp_path / "seen", workers=2), store=store, engine=engine)
        seen = dict(line.split() for line in (tmp_path / "seen").read_text().splitlines())
        assert set(seen.values()) <= {"0", "3"}
        assert len(seen) == len(set(seen.values())) == 2

    def test_a_worker_takes_the_slot_of_one_that_died(self, store, specs, tmp_path):
        engine = LocalEngine(workers=1, gpus=("7",))
        execute(specs, train=VisibleGpu(tmp_path / "seen", dies_at=1), store=store, engine=engine)
        assert states(store, specs) == ["done", "pending", "done", "done"]
        assert {line.split()[1] for line in (tmp_path / "seen").read_text().splitlines()} == {"7"}


class TestDiskFull:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_record_that_cannot_be_written_stops_no_other_run(self, store, specs, fake, workers):
        full = FullDisk(store.root, specs[1].run_id)
        progress = execute(specs, train=fake(), store=full, workers=workers)
        assert states(store, specs) == ["done", "pending", "done", "done"]
        assert progress.failed == [specs[1].run_id]
        assert outcomes(store, specs[1]) == [None]  # it counts
        assert not list(store.folder(specs[1].run_id).glob("*.partial"))
        assert execute(specs, train=fake(), store=store).done == [specs[1].run_id]


class FullDisk(RunStore):
    """A store that has no space left for one run's record."""

    def __init__(self, root: Path, run_id: str) -> None:
        super().__init__(root)
        self.run_id = run_id

    def write(self, record) -> None:
        if record.run_id == self.run_id:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(record)


@dataclass
class VisibleGpu:
    """Training that records each worker's GPU, and waits until all workers have begun."""

    log: Path
    dies_at: int | None = None
    workers: int = 1

    def __call__(self, spec: RunSpec, job: RunJob) -> RunOutcome:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']}\n")
        if spec.seed == self.dies_at:
            os._exit(3)
        wait_for_processes(self.log.with_name("workers"), self.workers)
        return RunOutcome(METRICS)


@dataclass
class TimedPool:
    """A pool in this process in which the time of one seed's run is over as soon as it has begun."""

    seed: int
    limits: list[float | None] = field(default_factory=list)

    def submit(self, claim: Claim, timeout: float | None, task: Task) -> "Future[Result]":
        self.limits.append(timeout)
        future: Future[Result] = Future()
        if task.spec.seed == self.seed:
            claim.store.begin(task.spec, session=claim.session)
            future.set_exception(TimeoutError())
        else:
            future.set_result(claim(task))
        return future


def wait_for_ever(*_run: object) -> RunOutcome:
    threading.Event().wait()
    return RunOutcome(METRICS)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_stops_at_the_deadline_is_pending_and_its_attempt_does_not_count(
    store, specs, fake, workers
):
    train = fake({0: RunPaused("stopped in epoch 1, after batch 3")})
    progress = execute(specs[:2], train=train, store=store, workers=workers)
    assert (progress.failed, progress.done) == ([], [specs[1].run_id])
    attempts = store.attempts(specs[0].run_id)
    assert [(attempt.outcome, attempt.reason) for attempt in attempts] == [
        ("interrupted", "stopped in epoch 1, after batch 3")
    ]
    assert store.state(specs[0].run_id, 1) == "pending"


@pytest.mark.parametrize("workers", [1, 2])
def test_after_the_deadline_no_run_is_begun_and_none_is_waited_for(store, specs, fake, workers):
    with store.claim(specs[0].run_id) as claimed:  # held, as by another process
        assert claimed
        train = fake()
        engine = LocalEngine(workers, stop_at=time.time())
        progress = execute(specs, train=train, store=store, engine=engine)
    assert (progress.done, progress.failed, train.trained) == ([], [], [])
