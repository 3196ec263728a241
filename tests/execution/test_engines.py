"""Contract of engines: one suite for local workers, a Ray cluster and a Slurm cluster."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_fakes import Fake, execute_in, hold

from ema_lab.execution.engines.engine import Engine
from ema_lab.execution.engines.local import LocalEngine
from ema_lab.execution.engines.ray import RayEngine
from ema_lab.execution.engines.slurm import SlurmEngine
from ema_lab.execution.executor import execute
from ema_lab.specs.engine import RaySpec, SlurmSpec
from ema_lab.store.store import RunStore

HERE = Path(__file__).parent
APART = [  # whose workers are processes of their own
    "local(2)",
    pytest.param("ray", marks=pytest.mark.system),
    pytest.param("slurm", marks=pytest.mark.system),
]


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[str]:
    """Start a Ray cluster for engines of this and other processes; yield the cluster's address."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(params=["local(1)", *APART])
def name(request) -> str:
    return request.param


@pytest.fixture
def engine(name, request, monkeypatch) -> Engine:
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)  # Slurm's jobs find the fakes by it
    if name == "slurm":
        request.getfixturevalue("slurm_cluster")
        return SlurmEngine(SlurmSpec(engine="slurm", time=5, poll_seconds=1.0))
    if name == "ray":
        address = request.getfixturevalue("ray_cluster")
        return RayEngine(RaySpec(engine="ray", address=address, max_retries=0))
    return LocalEngine(1 if name == "local(1)" else 2)


@pytest.fixture
def store(tmp_path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def fake(tmp_path):
    return lambda at_seed=None: Fake(tmp_path / "log", at_seed or {})


def start(function, *arguments):
    """Call a function in a new process that, as its own program would, ends whatever it starts."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    return process


def outcomes(store, spec):
    return [attempt.outcome for attempt in store.attempts(spec.run_id)]


class TestEveryEngine:
    def test_each_run_is_trained_once(self, engine, store, specs, fake):
        train = fake()
        progress = execute(specs, train=train, store=store, engine=engine)
        run_ids = [spec.run_id for spec in specs]
        assert sorted(train.trained) == sorted(progress.done) == sorted(run_ids)
        assert (progress.failed, progress.running, progress.busy, progress.elsewhere) == ([], [], [], [])
        assert [outcomes(store, spec) for spec in specs] == [["done"]] * 4
        assert execute(specs, train=train, store=store, engine=engine).total == 0
        assert len(train.trained) == 4

    def test_results_are_reported_as_they_come(self, engine, store, specs, fake, tmp_path):
        seen, told = [], tmp_path / "told"

        def watch(progress):
            seen.append((len(progress.done), len(progress.running)))
            if progress.done and progress.running:
                told.touch()

        # All but the first run wait until the observer has seen one run done and another running.
        train = fake(dict.fromkeys(range(1, 4), told))
        execute(specs, train=train, store=store, engine=engine, watch=watch)
        counts = [done for done, _ in seen]
        assert counts == sorted(counts)
        assert any(0 < done < 4 and running for done, running in seen)
        assert seen[-1] == (4, 0)

    def test_a_failing_run_is_recorded_and_stops_none(self, engine, store, specs, fake):
        progress = execute(specs, train=fake({1: "fail"}), store=store, engine=engine)
        assert progress.failed == [specs[1].run_id]
        assert len(progress.done) == 3
        error = store.record(specs[1].run_id).error
        assert (error.kind, error.message) == ("ValueError", "bad seed 1")
        assert outcomes(store, specs[1]) == ["failed"]

    def test_a_run_that_another_process_holds_is_waited_for(self, engine, store, specs, fake, tmp_path):
        seen, until = set(), tmp_path / "until"

        def watch(progress):
            seen.update(progress.busy)
            if progress.busy:
                until.touch()

        holder = start(hold, store.root, specs[1].run_id, until)
        while not store.is_locked(specs[1].run_id):
            time.sleep(0.01)
        train = fake()
        progress = execute(specs, train=train, store=store, engine=engine, watch=watch)
        holder.join()
        assert seen == {specs[1].run_id}
        assert sorted(train.trained) == sorted(progress.done) == sorted(spec.run_id for spec in specs)

    def test_two_at_once_on_one_store_train_each_run_once(self, engine, store, specs, fake):
        train = fake(dict.fromkeys(range(4), 0.3))
        both = [start(execute_in, store.root, order, train, engine) for order in (specs, specs[::-1])]
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0]
        assert sorted(train.trained) == sorted(spec.run_id for spec in specs)
        assert [outcomes(store, spec) for spec in specs] == [["done"]] * 4

    def test_interruption_ends_attempts_and_leaves_nothing_running(self, name, engine, store, specs, fake):
        def interrupt(progress):
            if any(store.attempts(run_id) for run_id in progress.running):
                raise KeyboardInterrupt

        # One worker here is this process: nothing can watch it train, so Ctrl-C comes from the training.
        train = fake(dict.fromkeys(range(4), "interrupt" if name == "local(1)" else 600.0))
        with pytest.raises(KeyboardInterrupt):
            execute(specs, train=train, store=store, engine=engine, watch=interrupt)
        begun = [spec for spec in specs if store.attempts(spec.run_id)]
        assert begun
        assert {outcome for spec in begun for outcome in outcomes(store, spec)} == {"interrupted"}
        assert {store.state(spec.run_id) for spec in specs} == {"pending"}
        assert not any(store.is_locked(spec.run_id) for spec in specs)
        assert sorted(execute(specs, train=fake(), store=store, engine=engine).done) == sorted(
            spec.run_id for spec in specs
        )

    def test_nothing_is_left_beside_the_runs_but_logs(self, engine, store, specs, fake):
        execute(specs[:1], train=fake(), store=store, engine=engine)
        left = {path.name.partition("_")[2] for path in store.root.glob(".engine/*/*/*")}
        assert left <= {"submission.sh", "0_result.pkl", "0_log.out", "0_log.err"}


@pytest.mark.parametrize("name", APART, indirect=True)
def test_a_worker_that_dies_costs_only_its_run(engine, store, specs, fake):
    train = fake({1: "exit"})
    progress = execute(specs, train=train, store=store, engine=engine, max_attempts=2)
    assert progress.failed == [specs[1].run_id]
    assert sorted(progress.done) == sorted(spec.run_id for spec in specs if spec.seed != 1)
    assert outcomes(store, specs[1]) == [None]
    assert store.state(specs[1].run_id, 2) == "pending"
    execute(specs, train=train, store=store, engine=engine, max_attempts=2)
    assert outcomes(store, specs[1]) == [None, None]
    assert store.state(specs[1].run_id, 2) == "failed"
    assert execute(specs, train=train, store=store, engine=engine, max_attempts=2).total == 0
    assert len(train.trained) == 5
