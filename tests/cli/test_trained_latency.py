"""`cost --latency --trained` times the weights of finished runs on test images of their data set."""

import json
from pathlib import Path

import pytest
import torch
from tiny import TINY_DETECTION

from ema_lab.ablation.ablation import load_ablation
from ema_lab.one_run.model import load_model
from ema_lab.tasks.task import load_data

TRAIN = ("--device", "cpu", "--workers", "1")
TIME = (
    "cost",
    "tiny",
    "--latency",
    "--trained",
    "--rounds",
    "8",
    "--batch",
    "2",
    "--device",
    "cpu",
    "--json",
)


@pytest.fixture
def timed(monkeypatch, still_clock):
    """Collect the models and the images that are timed; no call is made twice."""
    from ema_lab.one_run import measurement

    found = []
    real = measurement.inference

    def inference(model, images, call):
        found.append((model, images))
        return real(model, images, call)

    monkeypatch.setattr(measurement, "inference", inference)
    return found


def check_timed(command, timed):
    for only, seeds in (("variant=none", "1"), ("variant=se", "0,1")):
        assert command("run", "tiny", *TRAIN, "--only", only, "--seeds", seeds).code == 0
    answer = command(*TIME)
    assert answer.code == 0, answer.err
    assert "finished runs, on 2 test images at equal distances in the split" in answer.err
    [row] = json.loads(answer.out)
    runs = {(cell.row, cell.seed): cell for cell in load_ablation("tiny").cells}
    base, variant = runs["none", 0], runs["se", 0]
    assert (row["variant"], row["seed"], row["ratio"]) == ("se", 0, 1)
    assert (row["run_id"], row["baseline_run_id"]) == (variant.run_id, base.run_id)
    assert len(timed) == 2
    for (model, images), cell in zip(timed, (base, variant), strict=True):
        expected = load_model(cell.run_id).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
        data = load_data(cell.spec, Path("data"))
        half = cell.spec.data.facts.test_images // 2
        picked = data.evaluation_images("test").__getitems__([(0, 0), (0, half)])[0]
        assert torch.equal(images, data.normalised(picked))
    assert json.loads(command(*TIME).out) == [row]
    assert len(timed) == 2  # kept from before


def test_classifiers(command, timed):
    check_timed(command, timed)


@pytest.mark.slow
def test_detectors(command, timed):
    Path("ablations/tiny.yaml").write_text(TINY_DETECTION)
    check_timed(command, timed)


def test_rows_without_a_finished_run_are_named(command, trained, tree):
    trained(keep=lambda spec: spec.model.attention.name == "none")
    before = tree()
    answer = command(*TIME)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "ema-lab: no finished run of se (store runs); train them first: ema-lab run tiny\n"
    assert tree() == before
