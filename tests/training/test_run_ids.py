"""Run ids in files: every file of training has one, and training never resumes another run's file."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import ema_lab
from ema_lab import files
from ema_lab.errors import DamagedFileError, StoreError
from ema_lab.store.job import RunJob
from ema_lab.store.layout import HEARTBEAT, RUN_ID_FIELD
from ema_lab.store.record import RunRecord
from ema_lab.tasks.task import stored_metrics
from ema_lab.training.machine import Machine
from ema_lab.training.run import checkpoint_to_resume, load_weights, train
from ema_lab.training.slimming import slim

CHOSEN = {"recipe": {"epochs": 1, "protocol": "best-val"}, "data": {"train_images": 18, "val_images": 10}}
ROWS = {"classification": "logits", "detection": "detected"}  # of the predictions


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Machine:
    return Machine(data_root=tmp_path_factory.mktemp("data"), device="cpu", num_threads=1)


@pytest.fixture(scope="module", params=["classification", "detection"])
def trained_once(request, make_spec, tmp_path_factory, machine):
    """Return two runs that differ in their seed, and the folder of their folders, trained for one epoch."""
    root = tmp_path_factory.mktemp("trained")
    specs = [make_spec(task=request.param, **CHOSEN, seed=seed) for seed in (0, 2)]
    for spec in specs:
        (root / spec.run_id).mkdir()
        train(spec, RunJob(root / spec.run_id), machine)
    return specs, root


@pytest.fixture
def trained(trained_once, tmp_path):
    """Return the specs of two runs that differ in their seed, and copies of their folders."""
    specs, root = trained_once
    return [(spec, shutil.copytree(root / spec.run_id, tmp_path / spec.run_id)) for spec in specs]


def without_id(path):
    """Rewrite a checkpoint without its run id, as older releases did."""
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint[RUN_ID_FIELD]
    torch.save(checkpoint, path)


def test_every_file_names_its_run(trained):
    spec, folder = trained[0]
    with np.load(folder / "predictions.npz") as saved:
        assert str(saved["run_id"]) == spec.run_id
    with (folder / "curve.csv").open() as file:
        assert [row["run_id"] for row in csv.DictReader(file)] == [spec.run_id]
    for name in ("last.ckpt", "best.ckpt"):
        assert torch.load(folder / name, weights_only=True)["run_id"] == spec.run_id
    slim(folder / "last.ckpt")
    assert torch.load(folder / "last.ckpt", weights_only=True)["run_id"] == spec.run_id


def test_what_must_outlast_a_power_cut_is_on_the_disk_before_it_has_its_name(
    make_spec, tmp_path, machine, monkeypatch
):
    flushed, named = set(), []
    flush, replace = files._flush_to_disk, Path.replace
    monkeypatch.setattr(files, "_flush_to_disk", lambda path: flushed.add(path) or flush(path))

    def rename(path, target):
        named.append((Path(target).name, path in flushed))
        flushed.discard(path)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", rename)
    train(make_spec(**CHOSEN), RunJob(tmp_path), machine)
    assert {name: on_disk for name, on_disk in named if name != HEARTBEAT} == {
        "best.ckpt": True,
        "last.ckpt": True,
        "predictions.npz": True,
        "curve.csv": False,  # its rows are in the checkpoint
    }


def test_another_run_s_checkpoint_is_set_aside_and_the_run_starts_anew(trained, tmp_path, machine):
    (spec, folder), (other, others) = trained
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    shutil.copy(others / "last.ckpt", mixed)
    shutil.copy(others / "best.ckpt", mixed)
    message = f"is the checkpoint of '{other.run_id}'; it was renamed last.ckpt.damaged-1"
    with pytest.warns(UserWarning, match=message):
        outcome = train(spec, RunJob(mixed), machine)
    assert (mixed / "last.ckpt.damaged-1").read_bytes() == (others / "last.ckpt").read_bytes()
    with np.load(mixed / "predictions.npz") as predictions, np.load(folder / "predictions.npz") as expected:
        rows = ROWS[spec.data.facts.task]
        assert np.array_equal(predictions[rows], expected[rows])
        assert outcome.metrics == stored_metrics(spec, expected)


def spoil(best, damage, other):
    """Damage the best weights of a run; `other` is another run's folder."""
    content = best.read_bytes()
    best.unlink()
    if damage == "another run's":
        shutil.copy(other / "best.ckpt", best)
    elif damage == "cut off":
        best.write_bytes(content[:100])
    elif damage == "a folder":
        best.mkdir()


@pytest.mark.parametrize("damage", ["another run's", "cut off", "gone"])
def test_best_weights_that_cannot_be_used_start_the_run_anew(trained, damage):
    (spec, folder), (_, others) = trained
    spoil(folder / "best.ckpt", damage, others)
    with pytest.warns(UserWarning, match="the run starts again"):
        assert checkpoint_to_resume(folder, spec.run_id) is None


def test_a_checkpoint_of_an_older_version_is_gone_on_with(trained):
    spec, folder = trained[0]
    for name in ("last.ckpt", "best.ckpt"):
        without_id(folder / name)
    assert checkpoint_to_resume(folder, spec.run_id) == folder / "last.ckpt"
    load_weights(ema_lab.build_model(spec), folder / "best.ckpt", spec.run_id)


def test_another_run_s_weights_are_not_loaded(trained):
    (spec, _), (other, others) = trained
    with pytest.raises(DamagedFileError, match=f"is the checkpoint of '{other.run_id}'"):
        load_weights(ema_lab.build_model(spec), others / "best.ckpt", spec.run_id)


class TestLoadModel:
    @pytest.fixture
    def store(self, trained):
        """Return a store that contains the first run, finished."""
        spec, folder = trained[0]
        store = ema_lab.RunStore(folder.parent)
        store.begin(spec)
        store.write(RunRecord(run_id=spec.run_id, status="done", attempt=1))
        return store

    def test_takes_a_store_or_its_folder_and_the_beginning_of_an_id(self, store, trained):
        spec, folder = trained[0]
        ways = (store, store.root, str(store.root))
        models = [ema_lab.load_model(spec.run_id[:8], way) for way in ways]
        saved = torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]
        for model in models:
            assert not model.training
            assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())

    @pytest.mark.parametrize("damage", ["another run's", "cut off", "gone", "a folder"])
    def test_refuses_weights_that_are_not_the_run_s_in_one_line(self, store, trained, damage):
        (spec, folder), (_, others) = trained
        best = folder / "best.ckpt"
        spoil(best, damage, others)
        with pytest.raises(StoreError) as caught:
            ema_lab.load_model(spec.run_id, store)
        assert str(best) in str(caught.value)
        assert "\n" not in str(caught.value)
