"""Machines of a job see which of them have died, by locks in the session's folder."""

import signal
from contextlib import ExitStack

import pytest

from ema_lab.execution.engines import slurm
from ema_lab.execution.engines.session import Session
from ema_lab.execution.engines.slurm import Job, parameters_of
from ema_lab.specs.engine import SlurmSpec
from ema_lab.store.store import RunStore


@pytest.fixture
def session(tmp_path) -> Session:
    return Session.open(RunStore(tmp_path / "runs"), "slurm")


def test_a_process_has_left_only_once_it_was_there(session):
    assert not session.has_left("7-0")
    with session.present("7-0"):
        assert not session.has_left("7-0")
    assert session.has_left("7-0")
    assert not session.has_left("7-1")
    session.close()
    assert not session.folder.exists()


@pytest.fixture
def job(session, monkeypatch) -> Job:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setattr(slurm, "LEFT_SECONDS", 0.0)
    return Job(None, [], session, join=lambda path, is_over: None)


def test_a_machine_leaves_when_the_first_one_has_died_or_when_it_is_told_to(job):
    with ExitStack() as first:
        assert not job._must_leave()  # it has not begun
        first.enter_context(job._present(0))
        assert not job._must_leave()
    job._must_leave()
    assert job._must_leave()
    other = Job(None, [], job.session, join=job.join)
    with job._present(0):
        assert not job._must_leave()
        other._note(signal.SIGTERM, None)
        assert other._must_leave()


def test_the_first_machine_sees_that_another_has_died(job, monkeypatch):
    with job._present(1):
        assert not job._machine_has_left()
    assert job._machine_has_left()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")  # a requeued job begins anew
    assert not job._machine_has_left()


def test_a_job_of_several_machines_asks_for_its_gpus_on_each():
    options = SlurmSpec(engine="slurm", gpus_per_task=4, mem_gb=1.5)
    alone, pair = parameters_of("a", options), parameters_of("a", options, 2)
    assert alone["gpus_per_task"] == pair["gpus_per_node"] == 4
    assert (pair["nodes"], pair["ntasks_per_node"], alone["mem"]) == (2, 1, "1536MB")
    assert pair["srun_args"] == ["--kill-on-bad-exit=0", "--wait=3600"]
    assert not {"nodes", "srun_args", "gpus_per_node", "partition"} & alone.keys()
    assert "gpus_per_task" not in pair


def test_a_job_of_one_machine_writes_no_presence(session):
    with Job(None, [], session)._present(0):
        assert list(session.folder.iterdir()) == [session.tasks]
