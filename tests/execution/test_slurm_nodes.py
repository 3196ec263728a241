"""Runs that two machines of a real Slurm cluster train together, and what becomes of them when one dies."""

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from engine_fakes import same_weights
from job_processes import living, of_machine
from test_slurm import OPTIONS, is_saved_within_an_epoch, run_of, squeue, wait_until

from ema_lab.execution.engines.slurm import SlurmEngine
from ema_lab.execution.executor import execute
from ema_lab.one_run.node import join_run
from ema_lab.one_run.pipeline import Machine, train_run
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob
from ema_lab.store.store import RunStore

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("slurm_cluster")]
JOB = "ema-lab-"


class Pair:
    """A run in training on two machines, with a process on each."""

    def __init__(self, load, folder, epochs: int) -> None:
        self.spec = run_of(load, epochs)
        self.store = RunStore(folder / "runs")
        machine = Machine(device="cpu", num_threads=1, nodes=2, rank_timeout=60)
        self.train = partial(train_run, machine=machine)
        self.engine = SlurmEngine(OPTIONS, 2, join_run)
        self.curve = self.store.folder(self.spec.run_id) / "curve.csv"

    def execute(self):
        return execute([self.spec], train=self.train, store=self.store, engine=self.engine)

    def rows(self) -> int:
        return self.curve.read_text().count("\n") - 1 if self.curve.exists() else 0

    def processes(self) -> list[int]:
        pids = []
        for number in (0, 1):
            top, ranks = of_machine(number, JOB)
            assert len(ranks) == 1
            pids += [top, *ranks]
        return pids


def test_a_preempted_pair_saves_first_and_ends_in_the_weights_of_one_machine(load, tmp_path):
    pair = Pair(load, tmp_path, 8)
    with ThreadPoolExecutor(1) as pool:
        grid = pool.submit(pair.execute)
        wait_until(lambda: pair.rows() > 1)
        (job_id,) = squeue("%i")
        assert squeue("%D") == ["2"]
        subprocess.run(["scancel", "--signal=USR2", job_id], check=True)
        wait_until(lambda: squeue("%T") == ["PENDING"], 30)  # before the job loses its patience
        assert [attempt.outcome for attempt in pair.store.attempts(pair.spec.run_id)] == ["interrupted"]
        assert is_saved_within_an_epoch(pair.store, pair.spec)
        assert not pair.store.is_locked(pair.spec.run_id)
        subprocess.run(["scontrol", "update", f"JobId={job_id}", "StartTime=now"], check=True)
        assert grid.result().done == [pair.spec.run_id]
    record = pair.store.record(pair.spec.run_id)
    assert (record.environment["world_size"], record.environment["nodes"]) == (2, 2)
    unbroken = tmp_path / "unbroken"
    unbroken.mkdir()
    here = Machine(device="cpu", num_threads=1, devices=2)
    assert train_run(pair.spec, RunJob(unbroken), machine=here).metrics == record.metrics
    assert same_weights(unbroken / "last.ckpt", pair.store.folder(pair.spec.run_id) / "last.ckpt")
    assert not list(pair.store.root.glob(".engine/slurm/*/meetings"))


def test_a_job_whose_machine_is_lost_goes_on_with_its_next_run_on_other_machines(load, tmp_path):
    pair = Pair(load, tmp_path, 30)
    second = RunSpec.model_validate({**pair.spec.resolved(), "seed": 1})
    engine = SlurmEngine(OPTIONS.model_copy(update={"runs_per_job": 2}), 2, join_run)
    with ThreadPoolExecutor(1) as pool:
        grid = pool.submit(execute, [pair.spec, second], train=pair.train, store=pair.store, engine=engine)
        wait_until(lambda: pair.rows() > 1)
        os.kill(pair.processes()[2], signal.SIGKILL)
        wait_until(lambda: squeue("%T") == ["PENDING"])
        (job_id,) = squeue("%i")
        subprocess.run(["scontrol", "update", f"JobId={job_id}", "StartTime=now"], check=True)
        progress = grid.result()
    assert (progress.failed, progress.done) == ([pair.spec.run_id], [second.run_id])
    assert [attempt.outcome for attempt in pair.store.attempts(pair.spec.run_id)] == ["failed"]
    assert [attempt.outcome for attempt in pair.store.attempts(second.run_id)] == ["done"]


@pytest.mark.parametrize(
    ("victim", "outcome", "reason"),
    [
        pytest.param(3, "failed", "rank 1 of 2 (process {pid} on ", id="a rank of the second machine"),
        pytest.param(2, "failed", "machine 1 of the run (", id="the process on the second machine"),
        pytest.param(0, None, "", id="the process that holds the lock"),
    ],
)
def test_a_killed_process_costs_one_attempt_and_leaves_none(load, tmp_path, victim, outcome, reason):
    pair = Pair(load, tmp_path, 2000)
    with ThreadPoolExecutor(1) as pool:
        grid = pool.submit(pair.execute)
        wait_until(lambda: pair.rows() > 1)
        pids = pair.processes()
        os.kill(pids[victim], signal.SIGKILL)
        assert grid.result().failed == [pair.spec.run_id]
    (attempt,) = pair.store.attempts(pair.spec.run_id)
    assert attempt.outcome == outcome
    assert reason.format(pid=pids[victim]) in (attempt.reason or "")
    wait_until(lambda: not living().keys() & set(pids), 90)
    assert not pair.store.is_locked(pair.spec.run_id)
    wait_until(lambda: squeue("%i") == [])
