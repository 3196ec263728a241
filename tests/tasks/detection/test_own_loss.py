"""Detectors with a loss of their own in training: what they learn, resume and store, and what is refused."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ema_lab.errors import SpecError
from ema_lab.models.detector import detection_problem, loss_problem
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob
from ema_lab.tasks.detection.metrics import scenes_of
from ema_lab.tasks.task import check_run
from ema_lab.training.machine import Machine
from ema_lab.training.run import train

SMALL = "shufflenet_v2_x0_5"
NARROW = {"neck": 64}


def spec_of(detector, attention="none", *, model=None, data=None, **recipe) -> RunSpec:
    tree = {
        "model": {"detector": detector, "backbone": SMALL, "attention": attention, **(model or {})},
        "data": {"name": "synthetic_scenes", "train_images": 8, "test_images": 4, **(data or {})},
        "recipe": {"epochs": 2, "batch_size": 4, "optimizer": {"name": "adamw", "lr": 0.001}, **recipe},
        "seed": 0,
    }
    if detector is None:
        del tree["model"]["detector"]
    return RunSpec.model_validate(tree)


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(data_root=tmp_path, device="cpu", num_threads=1)


def folder(path: Path) -> RunJob:
    path.mkdir()
    return RunJob(path)


def curve(job: RunJob) -> list[dict[str, str]]:
    return list(csv.DictReader((job.folder / "curve.csv").read_text().splitlines()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcos", "fasterrcnn"])
def test_a_resumed_run_ends_bit_equal(tmp_path, machine, name):
    spec = spec_of({"name": name, **NARROW}, "eca")
    whole = train(spec, folder(tmp_path / "whole"), machine)
    job = folder(tmp_path / "resumed")

    def stop(row):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        train(spec, job, machine, stop)
    resumed = train(spec, job, replace(machine, loader_workers=1))
    assert resumed.predictions_sha256 == whole.predictions_sha256


def test_predictions_are_stored_as_those_of_yolo_are(tmp_path, machine):
    spec = spec_of({"name": "fcos", **NARROW}, epochs=1)
    job = folder(tmp_path / "run")
    outcome = train(spec, job, machine)
    assert {"map", "map50", "map_ultralytics", "ap_visdrone"} <= outcome.metrics.keys()
    with np.load(job.folder / "predictions.npz") as saved:
        arrays = {name: saved[name] for name in saved.files}
    numeric = {name: torch.from_numpy(rows) for name, rows in arrays.items() if rows.dtype.kind in "biuf"}
    scenes = scenes_of(numeric)
    assert len(scenes) == 4
    assert all((np.diff(scene.scores) <= 0).all() for scene in scenes)
    columns = curve(job)[0].keys()
    assert {"train_classification", "train_bbox_regression", "train_bbox_ctrness"} <= columns


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinanet", "fcos", pytest.param("fasterrcnn", marks=pytest.mark.system)])
def test_a_detector_learns_a_few_images(tmp_path, machine, name):
    spec = spec_of(
        {"name": name, **NARROW},
        {"name": "ema", "groups": 8},
        model={"placement": {"stages": [2, 3]}},
        data={"name": "digit_scenes", "image_size": 64, "train_images": 8, "test_images": 4},
        epochs=12,
        clip_norm=5.0,
    )
    job = folder(tmp_path / "run")
    train(spec, job, machine)
    losses = [float(row["train_loss"]) for row in curve(job)]
    assert min(losses[-3:]) < 0.6 * losses[0]
    assert losses[-1] == pytest.approx(min(losses), rel=0.5)


OWN = '''
import torch
from torch import nn


class Boxes(nn.Module):
    """One box in each image, from the mean of a map."""

    def __init__(self, features, classes, *, flaw: str = ""):
        super().__init__()
        self.features, self.classes, self.flaw = features, classes, flaw
        self.head = nn.Linear(features.channels[-1], 4 + classes)

    def forward(self, images):
        return self.head(self.features(images)[-1].mean((2, 3)))

    def losses(self, images, targets):
        raw = self(images)
        if self.flaw == "raises":
            raise RuntimeError("not today")
        if self.flaw == "tensor":
            return raw.mean()
        if self.flaw == "vector":
            return {"all": raw.mean(0)}
        if self.flaw == "constant":
            return {"all": torch.zeros(())}
        return {"size": raw[:, :4].square().mean(), "class": raw[:, 4:].square().mean()}

    def detections(self, images, suppression):
        raw = self(images)
        corner = raw[:, :2].sigmoid() * 20
        size = raw[:, 2:4].sigmoid() * 20 * (-1 if self.flaw == "corners" else 1)
        score, number = raw[:, 4:].softmax(1).max(1)
        number = number + (self.classes if self.flaw == "class" else 0)
        rows = torch.cat([corner, corner + size, score[:, None], number[:, None]], 1)
        return rows if self.flaw == "one" else [row[None] for row in rows]


def build(classes, channels):
    """The same on features of its own, as a backbone."""
    class Own(Boxes):
        def __init__(self):
            nn.Module.__init__(self)
            self.classes, self.flaw = classes, ""
            self.body = nn.Conv2d(channels, 8, 3, 2, 1)
            self.head = nn.Linear(8, 4 + classes)

        def forward(self, images):
            return self.head(self.body(images).mean((2, 3)))
    return Own()
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_loss_detector.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("detector", "backbone"),
    [("own_loss_detector:Boxes", SMALL), (None, "own_loss_detector:build")],
    ids=["on a backbone", "whole"],
)
def test_a_users_own_detector_is_trained(own, tmp_path, machine, detector, backbone):
    spec = spec_of(detector, model={"backbone": backbone}, epochs=1)
    check_run(spec)
    job = folder(tmp_path / "run")
    outcome = train(spec, job, machine)
    assert outcome.metrics["map"] >= 0
    assert {"train_size", "train_class"} <= curve(job)[0].keys()


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ("raises", "fails on made-up images: RuntimeError: not today"),
        ("tensor", r"losses\(\) must return the terms of the loss by name, got \(\)"),
        ("vector", r"losses\(\) must return scalars, got \(6,\) for 'all'"),
        ("constant", r"no term of losses\(\) has a gradient"),
        ("corners", "must give corners as left, top, right, bottom"),
        ("class", "must give classes from 0 to 1"),
        ("one", r"must return one tensor per image \(2\), got \(2, 6\)"),
    ],
)
def test_outputs_that_do_not_fit_are_one_line_before_training(own, flaw, words):
    spec = spec_of({"name": "own_loss_detector:Boxes", "flaw": flaw})
    with pytest.raises(SpecError, match=words) as caught:
        check_run(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({}, "by name"),
        ({"a b": torch.ones(())}, "name each term by a word"),
        ({"a": torch.tensor(torch.nan, requires_grad=True)}, "must be finite"),
        ({"a": 1.0}, "must return scalars, got a float"),
        ({"a": torch.ones((), requires_grad=True)}, ""),
    ],
)
def test_terms_of_a_loss(terms, words):
    problem = loss_problem(terms)
    assert words in problem
    assert bool(words) == bool(problem)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (torch.zeros(1, 5), "must return (M, 6)"),
        (torch.zeros(301, 6), "M at most 300, got (301, 6)"),
        (torch.full((1, 6), torch.nan), "finite"),
        (torch.tensor([[0, 0, 1, 1, 0.1, 0], [0, 0, 1, 1, 0.2, 0]]), "by falling score"),
        (torch.tensor([[0, 0, 1, 1, 1.5, 0]]), "scores from 0 to 1"),
        (torch.tensor([[0, 0, 1, 1, 0.5, 0.5]]), "classes from 0 to 1"),
        (torch.tensor([[0, 0, 1, 1, 0.5, 1]]), ""),
        (torch.zeros(0, 6), ""),
    ],
)
def test_rows_of_detections(rows, words):
    problem = detection_problem([rows], torch.zeros(1, 3, 8, 8), classes=2)
    assert words in problem
    assert bool(words) == bool(problem)
