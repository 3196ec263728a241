"""A task of one's own, from training to audit, through the command line: where an image's bright spot is.

Its primary metric is better when lower, its targets are two numbers, its images are not square.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from ema_lab.errors import SpecError
from ema_lab.registry import registry
from ema_lab.specs.task import task_description
from ema_lab.store.store import RunStore

METRICS = """
TASK = {
    "code": "spot_task:Spot",
    "made_up": "spot_data:spots",
    "metrics": {
        "distance": {"label": "Distance", "unit": "px", "better": "lower"},
        "bias": {"label": "Bias", "unit": "px", "better": "lower"},
    },
    "primary": "distance",
}

def metrics_of(found, wanted):
    distance = (found - wanted).norm(dim=1).double()
    bias = (found - wanted).mean(dim=0).norm()
    return {"distance": distance.mean().item(), "bias": bias.item()}
"""
TASK = """
import torch
from ema_lab.errors import DataError, SpecError
from ema_lab.tasks.task import BatchLoss, Task
from spot_metrics import metrics_of

class Spot(Task):
    def check_targets(self, name, source, count):
        if tuple(source.labels.shape) != (count, 2):
            raise DataError(f"{name}: expected a row and a column per image")

    def made_up_batch(self, count):
        return torch.zeros(count, *self.facts.image_shape, dtype=torch.uint8), torch.zeros(count, 2)

    def check_outputs(self, outputs, images, backbone):
        if tuple(outputs.shape) != (images, 2):
            raise SpecError(f"backbone {backbone} must give a row and a column, got {tuple(outputs.shape)}")

    def loss(self, model, batch, recipe):
        images, places, _ = batch
        loss = torch.nn.functional.mse_loss(model(images), places)
        return BatchLoss(loss, len(places), {"mse": loss.detach() * len(places)})

    def predict(self, model, batch, recipe):
        return {"found": model(batch[0]).float().cpu(), "wanted": batch[1].cpu()}

    def metrics(self, predictions):
        return metrics_of(predictions["found"], predictions["wanted"])
"""
DATA = """
import torch
from ema_lab.data.images import ImageSplits, LabelledImages

FACTS = {"classes": 2, "channels": 1, "image_size": [8, 12], "train_images": 48, "test_images": 16,
         "mean": [0.0], "std": [0.2], "task": "spot_metrics:TASK"}

def part(count, height, width):
    place = torch.stack([torch.arange(count) * 3 % height, torch.arange(count) * 5 % width], dim=1)
    images = torch.zeros(count, 1, height, width, dtype=torch.uint8)
    images[torch.arange(count), 0, place[:, 0], place[:, 1]] = 255
    return LabelledImages(images, place.float())

def spots(root, *, train_images: int = 48, test_images: int = 16):
    return ImageSplits(part(train_images, 8, 12), part(test_images, 8, 12))
"""
ABLATION = """\
name: spots
base:
  model: {backbone: resnet20}
  data: {name: "spot_data:spots", val_images: 8}
  recipe: {epochs: 2, batch_size: 16, optimizer: {name: adamw, lr: 0.01}, protocol: best-val}
seeds: [0, 1]
baseline: none
variants: {none: {}, se: {model.attention: {name: se, reduction: 4}}}
"""
REPORT = """\
name: spots
ablation: spots
figures:
  - {kind: tradeoff, name: tradeoff}
  - {kind: curves, name: curves, column: val_distance}
  - {kind: forest, name: forest}
"""
SWEEP = """\
name: spots
method: random
metric: {name: val_distance, goal: minimize}
command: [ema-lab, trial, "${args_json}"]
parameters:
  base: {value: spots/none}
  seeds: {value: [0]}
  recipe.optimizer.lr: {values: [0.001, 0.01]}
"""
PUBLISHED = """\
name: spots
title: A paper
year: 2024
source: the paper
tables:
  main:
    title: Spots
    setting: two epochs
    task: "spot_metrics:TASK"
    classes: 2
    image_size: 8
    channels: 1
    base: {backbone: resnet20}
    rows:
      plain: {claims: {parameters: "0.27M", distance: "3.1"}}
"""
MODULES = ("spot_metrics", "spot_task", "spot_data")


@pytest.fixture
def spots(folder):
    """The current folder with a task, its data set, an ablation, a report, a sweep and a paper."""
    texts = {f"{name}.py": text for name, text in zip(MODULES, (METRICS, TASK, DATA), strict=True)}
    texts |= {"ablations/spots.yaml": ABLATION, "reports/spots.yaml": REPORT, "sweeps/spots.yaml": SWEEP}
    for path, text in {**texts, "reports/published/spots.yaml": PUBLISHED}.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    yield folder
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def installed_spots(spots, tmp_path, monkeypatch):
    """The folder of `spots`, whose files name the task as an installed package declares it."""
    info = tmp_path / "site" / "spots-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spots\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ema_lab.tasks]\nspots = spot_metrics:TASK\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for path in (Path("spot_data.py"), Path("reports/published/spots.yaml")):
        path.write_text(path.read_text().replace('"spot_metrics:TASK"', '"spots"'))
    registry.all_installed.cache_clear()
    yield spots
    registry.all_installed.cache_clear()


def test_a_task_is_planned_and_reported_without_its_code(spots, command):
    Path("spot_task.py").write_text("raise RuntimeError('imported')\n")
    assert command("plan", "spots").code == 0
    rows = json.loads(command("status", "spots", "--json").out)
    assert [row["distance"] for row in rows] == [None] * 4
    assert "top1" not in rows[0]
    shown = command("report", "spots")
    assert (shown.code, "Distance (px)" in shown.out) == (0, True), shown.err


@pytest.mark.slow
def test_an_installed_task_goes_the_whole_way(installed_spots, command):
    trained = command("run", "spots", "--device", "cpu", "--workers", "1")
    assert trained.code == 0, trained.err
    rows = json.loads(command("status", "spots", "--json").out)
    assert all(row["distance"] > 0 for row in rows)
    store, run_id = RunStore("runs"), rows[0]["run_id"]
    curve = list(csv.DictReader((store.folder(run_id) / "curve.csv").read_text().splitlines()))
    assert {"train_loss", "train_mse", "val_distance", "val_bias"} <= curve[0].keys()
    best = min(curve, key=lambda row: float(row["val_distance"]))  # the protocol knows that lower is better
    assert store.record(run_id).chosen_epoch == int(best["epoch"])
    with np.load(store.folder(run_id) / "predictions.npz") as saved:
        assert set(saved.files) == {"found", "wanted", "indices", "split", "run_id"}
    assert command("eval", run_id, "--device", "cpu").code == 0
    assert command("store", "check").code == 0

    reported = command("report", "spots", "--out", "out")
    assert reported.code == 0, reported.err
    table = json.loads(Path("out/report.json").read_text())["tables"][0]
    assert [(column["key"], column["unit"]) for column in table["columns"]][:2] == [
        ("distance", "px"),
        ("delta", "px"),
    ]
    page = Path("out/index.html").read_text()
    assert '"primary":"distance"' in page.replace(" ", "")
    assert "Val distance (px)" in page
    assert Path("out/figures/curves.svg").is_file()
    assert command("report", "spots", "--out", "out", "--check").code == 0

    audited = command("audit", "spots")
    assert audited.code == 0, audited.err
    assert "Distance (px)" in audited.out

    searched = command("sweep", "spots", "--trials", "1", "--device", "cpu", "--workers", "1")
    assert searched.code == 0, searched.err
    assert "val_distance" in command("sweep", "show", "spots").out


def test_a_metric_that_is_added_in_one_place_needs_no_training(spots, command):
    assert command("run", "spots", "--device", "cpu", "--workers", "1", "--only", "variant=none").code == 0
    store, ablation = RunStore("runs"), ("--ablation", "spots")
    first, second = store.run_ids()
    known = {run_id: store.record(run_id) for run_id in (first, second)}
    worst = '"worst": {"label": "Worst", "unit": "px", "better": "lower"},\n    },\n    "primary"'
    text = METRICS.replace('},\n    "primary"', worst)
    text = text.replace('"bias": bias.item()', '"bias": bias.item(), "worst": distance.max().item()')
    Path("spot_metrics.py").write_text(text)
    for name in MODULES:
        sys.modules.pop(name)  # as a new process

    status = json.loads(command("status", "spots", "--json").out)
    assert [row["stale"] for row in status] == [None] * 4
    answer = command("store", "remeasure", *ablation, "--json")
    assert (answer.code, "2 changed, 0 equal, 0 refused" in answer.err) == (0, True), answer.err
    assert [(row["metric"], row["before"]) for row in json.loads(answer.out)] == [("worst", None)] * 2
    for run_id, before in known.items():
        after = store.record(run_id)
        assert after.metrics["worst"] >= after.metrics["distance"] == before.metrics["distance"]
        assert after == before.model_copy(update={"metrics": after.metrics})
    assert "0 changed, 2 equal, 0 refused" in command("store", "remeasure").err
    Path("reports/spots.yaml").write_text("name: spots\nablation: spots\ncolumns: [worst, delta_worst]\n")
    assert "Worst (px)" in command("report", "spots").out

    theirs = (store.folder(second) / "predictions.npz").read_bytes()
    (store.folder(first) / "predictions.npz").write_bytes(theirs)
    record = (store.folder(first) / "record.json").read_bytes()
    answer = command("store", "remeasure")
    assert (answer.code, "1 equal, 1 refused" in answer.err) == (1, True)
    assert f"{first}: left as it is: " in answer.err
    assert (store.folder(first) / "record.json").read_bytes() == record
    assert "holds the predictions of" in command("store", "check").out


def test_a_search_improves_a_metric_that_is_better_lower(spots, command):
    searched = command("sweep", "spots", "--trials", "2", "--device", "cpu", "--workers", "1", "--json")
    assert searched.code == 0, searched.err
    values = [row["val_distance"] for row in json.loads(searched.out)]
    assert values == sorted(values)
    wrong = command("sweep", "spots", "--trials", "2", "--objective", "distance:max")
    assert (wrong.code, "write distance:min" in wrong.err) == (2, True)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "val_distance, goal: minimize",
            "val_distance, goal: maximize",
            "spots.yaml:3: metric.goal: must be minimize",
        ),
        (
            "val_distance",
            "val_top1",
            "spots.yaml:3: metric.name: must be one of val_distance, val_bias, got 'val_top1'",
        ),
    ],
)
def test_a_sweeps_metric_is_the_tasks(spots, command, old, new, words):
    Path("sweeps/spots.yaml").write_text(SWEEP.replace(old, new))
    answer = command("sweep", "spots", "--trials", "1")
    assert (answer.code, words in answer.err) == (2, True), answer.err


def test_smoke_and_probe_and_latency_know_the_task(spots, command, still_clock):
    smoke = command("run", "spots", "--smoke", "--device", "cpu", "--workers", "1")
    assert smoke.code == 0, smoke.err
    planned = command("plan", "spots", "--probe", "--device", "cpu", "--only", "variant=none")
    assert planned.code == 0, planned.err
    options = ("--latency", "--mode", "training", "--rounds", "8", "--batch", "2", "--device", "cpu")
    timed = command("cost", "spots", *options, "--json")
    assert timed.code == 0, timed.err
    assert json.loads(timed.out)[0]["ratio"] == 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"primary": "distance"', '"primary": "mistake"', "primary: no metric is named 'mistake'"),
        ('"bias": {', '"macs": {', "metrics.macs: is the name of another column of tables"),
        ('"better": "lower"', '"better": "down"', "metrics.distance.better: "),
        ("TASK = {", "TASK = dict(", "spot_metrics.py:"),
    ],
)
def test_a_malformed_description_is_one_line(spots, command, old, new, words):
    Path("spot_metrics.py").write_text(METRICS.replace(old, new))
    answer = command("plan", "spots")
    assert answer.code == 2
    assert words in answer.err
    assert "Traceback" not in answer.err


def test_targets_that_are_not_the_tasks_are_refused_before_training(spots, command):
    Path("spot_data.py").write_text(DATA.replace("place.float()", "place[:, 0]"))
    answer = command("run", "spots", "--device", "cpu", "--workers", "1")
    assert (answer.code, "expected a row and a column per image" in answer.err) == (2, True), answer.err


def test_runs_of_two_tasks_make_no_table(spots, command):
    text = ABLATION.replace("variants:", 'axes: {data.name: ["spot_data:spots", digits]}\nvariants:')
    Path("ablations/spots.yaml").write_text(text)
    answer = command("report", "spots")
    assert (answer.code, "has runs of several tasks" in answer.err) == (2, True), answer.err


def test_an_installed_task_has_a_name(installed_spots):
    assert task_description("spots").primary == "distance"
    with pytest.raises(SpecError, match="no task is named 'spot'; did you mean 'spots'"):
        task_description("spot")
