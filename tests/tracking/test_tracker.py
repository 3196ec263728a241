import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ema_lab.errors import SpecError
from ema_lab.one_run.pipeline import train_run
from ema_lab.store.job import RunJob
from ema_lab.tracking import live as tracker
from ema_lab.training.machine import Machine


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(data_root=tmp_path / "data", device="cpu", num_threads=1)


ABLATION = """
name: tracked
base:
  model: {backbone: resnet20}
  data: {name: synthetic, image_size: 8, train_images: 16, test_images: 8}
  recipe: {epochs: 2, batch_size: 8, optimizer: {name: sgd, lr: 0.1}}
seeds: [0]
variants: {squeeze: {model.attention: se}}
"""


def wandb_records(folder: Path) -> list[dict]:
    [log] = folder.glob("runs/*/wandb/offline-run-*/run-*.wandb")
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", str(log)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
def test_an_offline_wandb_run_holds_group_job_type_config_and_summary(tmp_path):
    (tmp_path / "tracked.yaml").write_text(ABLATION)
    command = [
        Path(sys.executable).with_name("ema-lab"),
        "run",
        "tracked.yaml",
        "--track",
        "wandb",
        "--device",
        "cpu",
    ]
    others = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = {**others, "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    records = wandb_records(tmp_path)
    [run] = [record["run"] for record in records if record["type"] == "run"]
    assert (run["run_group"], run["job_type"]) == ("tracked", "squeeze")
    assert run["config"]["update"]["model"]["backbone"] == "resnet20"
    text = json.dumps(records)
    for name in ("parameters", "macs", "top1", "train_loss", "chosen_epoch"):
        assert f'"{name}"' in text
    history = [record for record in records if record["type"] == "history"]
    assert len(history) == 2  # a row per epoch


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
    with pytest.raises(SpecError, match="known: wandb, tensorboard, mlflow"):
        tracker.check_tracker("tensorbored")
