"""Threads per run: one number per ablation, independent of later requests."""

import json
import multiprocessing
from pathlib import Path

import pytest

from ema_lab.errors import StoreError
from ema_lab.execution import threads
from ema_lab.execution.executor import execute
from ema_lab.execution.threads import default_workers, keep_threads, kept_threads, planned_threads
from ema_lab.store.job import RunOutcome
from ema_lab.store.store import RunStore


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Pretend a machine with a number of cores and without OMP_NUM_THREADS."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def cores(number):
        monkeypatch.setattr(threads, "available_cores", lambda: number)

    cores(2)
    return cores


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def nothing():
    return ()


def finish(store, specs, *environments):
    """Record made-up results that ran as `environments` say."""
    by_id = {spec.run_id: one for spec, one in zip(specs, environments, strict=True)}
    execute(
        specs, train=lambda spec, job: RunOutcome({"top1": 1.0}, environment=by_id[spec.run_id]), store=store
    )
    return lambda: list(by_id)


@pytest.mark.parametrize(("cores", "number"), [(1, 1), (2, 1), (8, 1), (12, 1), (16, 2), (64, 8)])
def test_by_default_the_cores_are_shared_by_the_default_workers(store, machine, cores, number):
    machine(cores)
    assert planned_threads(store, "grid", nothing).number == number


@pytest.mark.parametrize(
    ("cores", "each", "workers"), [(8, 1, 8), (8, 4, 2), (8, 3, 2), (2, 4, 1), (64, 1, 8), (64, 16, 4)]
)
def test_the_default_workers_are_as_many_as_the_cores_have_threads_for(machine, cores, each, workers):
    machine(cores)
    assert default_workers(each) == workers


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3), ("4,2", 4), (" 5 ", 5), ("0", 1), ("-2", 1), ("many", 1), ("", 1), ("٣", 1), ("9" * 5000, 1)],
)
def test_the_users_variable_is_the_default_where_it_is_a_number(store, monkeypatch, text, number):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert planned_threads(store, "grid", nothing).number == number


def test_what_was_first_kept_stays_on_another_machine_and_with_another_variable(store, machine, monkeypatch):
    machine(16)
    assert str(planned_threads(store, "grid", nothing)) == "2 threads a run (16 cores for 8 workers)"
    assert not store.root.exists()  # who only plans writes nothing
    assert keep_threads(store, "grid", nothing).number == 2
    machine(64)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    found = keep_threads(store, "grid", nothing)
    words = "kept for grid in this store; OMP_NUM_THREADS=5 changes nothing, --threads 5 would"
    assert (found.number, found.reason) == (2, words)
    assert keep_threads(store, "other", nothing).number == 5


def test_what_is_asked_for_is_kept_from_then_on(store):
    keep_threads(store, "grid", nothing)
    assert keep_threads(store, "grid", nothing, 6) == threads.Threads(6, "--threads")
    assert planned_threads(store, "grid", nothing) == threads.Threads(6, "kept for grid in this store")
    assert (kept_threads(store, "grid"), kept_threads(store, "other")) == (6, None)


def test_finished_runs_say_the_number_where_nothing_is_kept(store, specs, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    run_ids = finish(store, specs[:2], *[{"device": "cpu: x", "num_threads": 3}] * 2)
    assert str(planned_threads(store, "grid", run_ids)) == "3 threads a run (as the finished runs of grid)"


@pytest.mark.parametrize(
    "environments",
    [
        [{"device": "cpu: x", "num_threads": 3}, {"device": "cpu: x", "num_threads": 4}],
        [{"device": "cuda: x", "num_threads": 3}] * 2,
        [{"device": "cpu: x"}, {}],
        [{"device": "cpu: x", "num_threads": "3"}] * 2,
    ],
    ids=["two numbers", "a GPU's", "none", "a word"],
)
def test_finished_runs_that_say_no_one_number_say_nothing(store, specs, environments):
    assert planned_threads(store, "grid", finish(store, specs[:2], *environments)).number == 1


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"grid": true}', '{"grid": 0}', '{"grid": "2"}', "[" * 200_000]
)
def test_a_damaged_file_is_as_if_it_were_not_there(store, content):
    store.root.mkdir()
    (store.root / threads.FILE).write_text(content)
    assert planned_threads(store, "grid", nothing).number == 1
    keep_threads(store, "grid", nothing, 4)
    assert json.loads((store.root / threads.FILE).read_text()) == {"grid": 4}


def test_a_store_that_cannot_be_written_is_one_line(store):
    store.root.write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        keep_threads(store, "grid", nothing)


def keep_of(root: Path, cores: int, found: "multiprocessing.Queue[int]") -> None:
    threads.available_cores = lambda: cores
    found.put(keep_threads(RunStore(root), "grid", nothing).number)


def test_processes_that_begin_together_get_the_same_number(store):
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    processes = [context.Process(target=keep_of, args=(store.root, cores, found)) for cores in (16, 32, 64)]
    for process in processes:
        process.start()
    numbers = {found.get() for _ in processes}
    for process in processes:
        process.join()
    assert numbers == {kept_threads(store, "grid")}
