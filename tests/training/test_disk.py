"""Disk space: what checkpoints take."""

import pytest

from ema_lab.store.disk import size_text
from ema_lab.store.job import RunJob
from ema_lab.training.disk import checkpoint_bytes, disk_need
from ema_lab.training.machine import Machine
from ema_lab.training.run import train

ADAMW = {"name": "adamw", "lr": 0.001}
RECIPES = {
    "sgd": {"optimizer": {"name": "sgd", "lr": 0.05}},
    "momentum": {},
    "adamw": {"optimizer": ADAMW, "average": {"decay": 0.9}},
    "best": {"optimizer": ADAMW, "protocol": "best-val"},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_finished_runs_checkpoints_take_what_was_planned(make_spec, tmp_path, recipe):
    spec = make_spec(recipe={"epochs": 1, **recipe}, data={"train_images": 16, "val_images": 8})
    job = RunJob(tmp_path / "run")
    job.folder.mkdir()
    train(spec, job, Machine(data_root=tmp_path, device="cpu", num_threads=1))
    taken = sum(path.stat().st_size for path in job.folder.glob("*.ckpt"))
    assert checkpoint_bytes(spec) == pytest.approx(taken, rel=0.15)  # names and progress take the rest


def test_workers_need_the_space_of_one_checkpoint_more_each(make_spec, tmp_path):
    specs = [make_spec(seed=seed) for seed in range(3)]
    each = checkpoint_bytes(specs[0])
    assert disk_need(specs, tmp_path / "not" / "there", 2).needed == 5 * each
    assert disk_need(specs, tmp_path, 9).needed == 6 * each


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 B"), (1500, "1.5 kB"), (123_456_789, "123 MB"), (5 * 10**12, "5 TB")]
)
def test_sizes_are_in_powers_of_a_thousand(size, text):
    assert size_text(size) == text
