"""Real training on a real Slurm cluster: cost of a preemption, and settings of a job."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from engine_fakes import Fake, same_weights

from ema_lab.errors import EngineError
from ema_lab.execution.engines.slurm import SlurmEngine
from ema_lab.execution.executor import execute
from ema_lab.specs.engine import SlurmSpec
from ema_lab.store.job import RunJob
from ema_lab.store.store import RunStore

pytestmark = pytest.mark.system
OPTIONS = SlurmSpec(engine="slurm", time=30, poll_seconds=1.0)
EPOCHS = 8
ONE_RUN = "baseline: none\nvariants:\n  none: {model.attention: none}\n"


def squeue(form: str) -> list[str]:
    command = ["squeue", "--noheader", "--array", "--states=PENDING,RUNNING", f"--format={form}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def wait_until(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def run_of(load, epochs: int):
    """Return a run on real images."""
    head = load.head.replace("digits-quick}", f"digits-quick, epochs: {epochs}}}").replace("[0, 1]", "[0]")
    return load(ONE_RUN, head=head).runs()[0]


def is_saved_within_an_epoch(store: RunStore, spec) -> bool:
    import torch

    checkpoint = torch.load(store.folder(spec.run_id) / "last.ckpt", weights_only=True)
    return checkpoint["callbacks"]["EpochEnd"]["begun"] is not None


@pytest.fixture
def spec(load):
    return run_of(load, EPOCHS)


@pytest.fixture
def train():
    from ema_lab.one_run.pipeline import Machine, train_run

    return partial(train_run, machine=Machine(device="cpu", num_threads=1))


@pytest.mark.parametrize(
    "command",
    [
        ["scancel", "--signal=USR2"],  # the time limit comes near, or a preemption with warning
        ["scancel", "--signal=TERM"],  # a preemption with GraceTime
        ["sh", "-c", "scancel --signal=TERM $0; scancel --signal=USR2 $0"],  # one after the other
        ["scontrol", "requeue"],  # a preemption without
    ],
    ids=["USR2", "TERM", "TERM and USR2", "requeue"],
)
@pytest.mark.usefixtures("slurm_cluster")
def test_a_preempted_run_goes_on_and_ends_in_the_same_weights(tmp_path, spec, train, command):
    store = RunStore(tmp_path / "runs")
    curve = store.folder(spec.run_id) / "curve.csv"
    with ThreadPoolExecutor(1) as pool:
        grid = pool.submit(execute, [spec], train=train, store=store, engine=SlurmEngine(OPTIONS))
        wait_until(lambda: curve.exists() and curve.read_text().count("\n") > 2)
        (job_id,) = squeue("%i")
        subprocess.run([*command, job_id], check=True)
        wait_until(lambda: squeue("%T") == ["PENDING"])
        finished = curve.read_text().count("\n") - 1
        assert [attempt.outcome for attempt in store.attempts(spec.run_id)] == ["interrupted"]
        assert not store.is_locked(spec.run_id)
        subprocess.run(["scontrol", "update", f"JobId={job_id}", "StartTime=now"], check=True)
        progress = grid.result()
    assert (progress.done, progress.failed) == ([spec.run_id], [])
    assert [attempt.outcome for attempt in store.attempts(spec.run_id)] == ["interrupted", "done"]
    assert 0 < finished < EPOCHS
    unbroken = tmp_path / "unbroken"
    unbroken.mkdir()
    outcome = train(spec, RunJob(unbroken))
    assert outcome.metrics == store.record(spec.run_id).metrics
    assert same_weights(unbroken / "last.ckpt", store.folder(spec.run_id) / "last.ckpt")
    assert (unbroken / "curve.csv").read_text().count("\n") == EPOCHS + 1 == curve.read_text().count("\n")


@pytest.mark.usefixtures("slurm_cluster")
def test_two_processes_of_one_job_are_preempted_together_and_end_in_the_same_weights(tmp_path, spec, train):
    train = partial(train.func, machine=replace(train.keywords["machine"], devices=2))
    store = RunStore(tmp_path / "runs")
    curve = store.folder(spec.run_id) / "curve.csv"
    options = OPTIONS.model_copy(update={"cpus_per_task": 2})
    with ThreadPoolExecutor(1) as pool:
        grid = pool.submit(execute, [spec], train=train, store=store, engine=SlurmEngine(options))
        wait_until(lambda: curve.exists() and curve.read_text().count("\n") > 2)
        (job_id,) = squeue("%i")
        subprocess.run(["scancel", "--signal=USR2", job_id], check=True)
        wait_until(lambda: squeue("%T") == ["PENDING"])
        assert [attempt.outcome for attempt in store.attempts(spec.run_id)] == ["interrupted"]
        assert is_saved_within_an_epoch(store, spec)
        assert not store.is_locked(spec.run_id)
        subprocess.run(["scontrol", "update", f"JobId={job_id}", "StartTime=now"], check=True)
        assert grid.result().done == [spec.run_id]
    unbroken = tmp_path / "unbroken"
    unbroken.mkdir()
    outcome = train(spec, RunJob(unbroken))
    record = store.record(spec.run_id)
    assert record.environment["world_size"] == 2
    assert record.metrics == outcome.metrics
    assert same_weights(unbroken / "last.ckpt", store.folder(spec.run_id) / "last.ckpt")


@pytest.mark.usefixtures("slurm_cluster")
def test_a_run_longer_than_a_jobs_time_limit_is_done_by_several_jobs(tmp_path, load, train):
    spec = run_of(load, epochs=120)
    store = RunStore(tmp_path / "runs")
    options = OPTIONS.model_copy(update={"time": 1, "grace_seconds": 45})
    with ThreadPoolExecutor(1) as pool:
        grid = pool.submit(execute, [spec], train=train, store=store, engine=SlurmEngine(options))
        while not grid.done():
            for job_id in squeue("%i") if squeue("%T") == ["PENDING"] else ():
                subprocess.run(["scontrol", "update", f"JobId={job_id}", "StartTime=now"], check=True)
            time.sleep(1)
        assert grid.result().done == [spec.run_id]
    outcomes = [attempt.outcome for attempt in store.attempts(spec.run_id)]
    assert outcomes == ["interrupted"] * (len(outcomes) - 1) + ["done"]
    assert len(outcomes) > 1
    assert (store.folder(spec.run_id) / "curve.csv").read_text().count("\n") == 120 + 1


@pytest.mark.usefixtures("slurm_cluster")
def test_cancelling_a_job_by_hand_ends_its_run_as_interrupted_and_requeues_nothing(tmp_path, spec, train):
    store = RunStore(tmp_path / "runs")
    with ThreadPoolExecutor(1) as pool:
        grid = pool.submit(execute, [spec], train=train, store=store, engine=SlurmEngine(OPTIONS))
        wait_until(lambda: (store.folder(spec.run_id) / "curve.csv").exists())
        subprocess.run(["scancel", *squeue("%i")], check=True)
        progress = grid.result()
    assert progress.failed == [spec.run_id]
    assert [attempt.outcome for attempt in store.attempts(spec.run_id)] == ["interrupted"]
    assert store.state(spec.run_id) == "pending"
    assert squeue("%i") == []


@pytest.fixture
def fakes_on_path(monkeypatch):
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)


@pytest.mark.usefixtures("slurm_cluster", "fakes_on_path")
class TestJobs:
    def test_of_several_runs_that_die_cost_the_run_they_were_at(self, tmp_path, specs):
        store = RunStore(tmp_path / "runs")
        options = OPTIONS.model_copy(update={"runs_per_job": 4})
        train = Fake(tmp_path / "log", {1: "exit"})
        progress = execute(specs, train=train, store=store, engine=SlurmEngine(options))
        assert progress.failed == [specs[1].run_id]
        assert sorted(progress.done) == sorted(spec.run_id for spec in specs if spec.seed != 1)
        assert sorted(train.trained) == sorted(spec.run_id for spec in specs)
        assert len(list(store.root.glob(".engine/slurm/*/*_submission.sh"))) == 2

    def test_are_queued_in_arrays_of_a_limited_size(self, tmp_path, specs):
        store = RunStore(tmp_path / "runs")
        options = OPTIONS.model_copy(
            update={"array_size": 2, "array_parallelism": 1, "setup": ("export A=1",)}
        )
        progress = execute(specs, train=Fake(tmp_path / "log"), store=store, engine=SlurmEngine(options))
        assert len(progress.done) == 4
        scripts = [path.read_text() for path in store.root.glob(".engine/slurm/*/*_submission.sh")]
        assert len(scripts) == 2
        for line in ("#SBATCH --array=0-1%1", "#SBATCH --cpus-per-task=1", "#SBATCH --time=30", "export A=1"):
            assert all(line in script.splitlines() for script in scripts)

    def test_that_the_cluster_refuses_are_one_line(self, tmp_path, specs):
        store = RunStore(tmp_path / "runs")
        engine = SlurmEngine(OPTIONS.model_copy(update={"partition": "nowhere"}))
        with pytest.raises(EngineError, match="Slurm refuses the jobs: invalid partition specified: nowhere"):
            execute(specs, train=Fake(tmp_path / "log"), store=store, engine=engine)
        assert squeue("%i") == []

    def test_cannot_be_queued_where_no_controller_answers(self, tmp_path, specs, monkeypatch):
        elsewhere = tmp_path / "slurm.conf"
        text = Path("/etc/slurm/slurm.conf").read_text()
        elsewhere.write_text(f"{text}\nSlurmctldPort=9\nMessageTimeout=2\n")
        monkeypatch.setenv("SLURM_CONF", str(elsewhere))
        with pytest.raises(EngineError, match=r"Slurm does not answer here: .*contact slurm controller"):
            execute(
                specs, train=Fake(tmp_path / "log"), store=RunStore(tmp_path), engine=SlurmEngine(OPTIONS)
            )

    def test_that_find_no_python_code_are_reported_with_their_log(self, tmp_path, specs, caplog):
        store = RunStore(tmp_path / "runs")
        engine = SlurmEngine(OPTIONS.model_copy(update={"setup": ("export PYTHONPATH=/nowhere", "exit 7")}))
        progress = execute(specs[:1], train=Fake(tmp_path / "log"), store=store, engine=engine)
        assert progress.failed == [specs[0].run_id]
        assert store.state(specs[0].run_id) == "pending"
        assert store.attempts(specs[0].run_id) == []
        assert "ended before its runs; see " in caplog.text
