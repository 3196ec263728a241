import json
import subprocess
import sys
from pathlib import Path

import pytest

from ema_lab.errors import SpecError
from ema_lab.job import RunJob
from ema_lab.pipeline import train_run
from ema_lab.training import tracker
from ema_lab.training.run import Machine


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(data_root=tmp_path / "data", device="cpu", num_threads=1)


def test_an_offline_wandb_run_holds_group_job_type_config_and_summary(make_spec, tmp_path, machine, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    spec = make_spec("se")
    job = RunJob(tmp_path / "run", ablation="my-study", variant="se")
    job.folder.mkdir()
    outcome = train_run(spec, job, machine=machine, track="wandb")
    [folder] = (job.folder / "wandb").glob("offline-run-*")
    inspected = subprocess.run(
        [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--summary", "--json", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    text = json.dumps(json.loads(inspected))
    assert folder.name.endswith(spec.run_id)
    for told in ("resnet20", str(outcome.cost["parameters"])):
        assert told in text


def test_a_tracker_that_fails_never_fails_the_run(make_spec, tmp_path, machine, monkeypatch):
    def explode(*_args):
        raise ConnectionError("no server")

    monkeypatch.setattr(tracker, "WandbTracker", explode)
    job = RunJob(tmp_path / "run")
    job.folder.mkdir()
    outcome = train_run(make_spec(), job, machine=machine, track="wandb")
    assert outcome.metrics["top1"] >= 0
    assert "tracking stopped: ConnectionError: no server" in (job.folder / "log.txt").read_text()


def test_an_unknown_tracker_is_refused():
    with pytest.raises(SpecError, match="known: wandb"):
        tracker.check_tracker("tensorbored")
