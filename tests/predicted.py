"""Made-up runs with stored predictions of both tasks: no model is trained, and metrics are the task's own."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ema_lab.ablation.ablation import load_ablation
from ema_lab.data.detection.load import load_scenes
from ema_lab.data.load import load_splits
from ema_lab.execution.executor import execute
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.store.predictions import write_predictions
from ema_lab.store.store import RunStore
from ema_lab.tasks.task import stored_metrics

BETTER = {"none": 0.55, "ema": 0.75, "se": 0.65}  # share of boxes or images that a variant gets right
VARIANTS = """\
seeds: [0, 1, 2]
baseline: none
variants: {none: {}, se: {model.attention: {name: se, reduction: 4}}, ema: {model.attention: ema}}
"""
ABLATIONS = {
    "classification": """\
name: predicted
base:
  model: {backbone: resnet20, placement: {after: block_end}}
  data: {name: synthetic, classes: 6, train_images: 32, test_images: 60, image_size: 8}
  recipe: {epochs: 1, batch_size: 16, optimizer: {name: sgd, lr: 0.1}}
"""
    + VARIANTS,
    "detection": """\
name: predicted
base:
  model: {backbone: yolov5n, placement: {stages: [3, 4]}}
  data: {name: synthetic_scenes, classes: 3, train_images: 12, test_images: 20}
  recipe: {epochs: 1, batch_size: 4, optimizer: {name: adamw, lr: 0.003}}
"""
    + VARIANTS,
}
METRIC = {"classification": "top1", "detection": "map50"}
ENVIRONMENT = {"device": "cpu", "precision": "fp32", "num_threads": 1, "versions": {"torch": "2"}}
Arrays = dict[str, np.ndarray[Any, Any]]


def write_predicted(folder: Path, task: str) -> RunStore:
    """Write `ablations/predicted.yaml` below a folder, and a store `runs` with its nine finished runs."""
    (folder / "ablations").mkdir(parents=True, exist_ok=True)
    path = folder / "ablations" / "predicted.yaml"
    path.write_text(ABLATIONS[task])
    store = RunStore(folder / "runs")
    execute(load_ablation(path).runs(), train=train_predicted, store=store)
    return store


def train_predicted(spec: RunSpec, job: RunJob) -> RunOutcome:
    """Write predictions and a curve of one epoch, as a training does."""
    arrays = PREDICT[spec.data.facts.task](spec)
    sha256 = write_predictions(job.folder, arrays, "test", spec.run_id)
    metrics = stored_metrics(spec, arrays)
    columns = {"epoch": 1, "train_loss": 1.0, **{f"test_{name}": value for name, value in metrics.items()}}
    lines = [",".join(map(str, line)) for line in (columns, columns.values())]
    (job.folder / "curve.csv").write_text("\n".join([*lines, ""]))
    cost = {"parameters": 1000 + len(spec.model.attention.name), "macs": 2_000_000}
    return RunOutcome(metrics, 1, cost, 60.0, 10.0, ENVIRONMENT, "0" * 64, sha256)


def _random(spec: RunSpec) -> np.random.Generator:
    return np.random.default_rng([sum(map(ord, spec.model.attention.name)), spec.seed])


def predicted_logits(spec: RunSpec) -> Arrays:
    """Return logits whose argmax is the label as often as the variant is good."""
    random, facts = _random(spec), spec.data.facts
    labels = load_splits(spec.data, Path()).test.labels.numpy()
    logits = random.normal(size=(facts.test_images, facts.classes)).astype(np.float32)
    right = random.random(len(labels)) < BETTER[spec.model.attention.name]
    logits[np.nonzero(right)[0], labels[right]] += 6
    return {"logits": logits, "labels": labels, "indices": np.arange(len(labels))}


def predicted_boxes(spec: RunSpec) -> Arrays:
    """Return detections around the truth, some of a wrong class, and false alarms of low scores."""
    random, classes = _random(spec), spec.data.facts.classes
    source = load_scenes(spec.data, Path()).test
    rows: dict[str, list[Any]] = {key: [] for key in ("boxes", "classes", "truth_image", "found", "image")}
    for number in range(len(source)):
        truth = source.truth(number)
        rows["boxes"] += truth.boxes.tolist()
        rows["classes"] += truth.classes.tolist()
        rows["truth_image"] += [number] * len(truth.boxes)
        found = []
        for box, cls in zip(truth.boxes, truth.classes, strict=True):
            if random.random() < BETTER[spec.model.attention.name]:
                shift = random.normal(scale=1.5, size=4)
                wrong = random.random() < 0.1
                found.append([*(box + shift), random.uniform(0.3, 0.95), (cls + wrong) % classes])
        for _ in range(2):
            left, top = random.uniform(0, 40, size=2)
            corners = [left, top, left + 12, top + 15]
            found.append([*corners, random.uniform(0.01, 0.5), random.integers(classes)])
        found.sort(key=lambda row: -row[4])
        rows["found"] += found
        rows["image"] += [number] * len(found)
    found = np.array(rows["found"])
    boxes = found[:, :4].clip(0, 64).astype(np.float32)
    count = len(rows["boxes"])
    return {
        "detected": boxes,
        "scores": found[:, 4].astype(np.float32),
        "detected_classes": found[:, 5].astype(np.int64),
        "detected_image": np.array(rows["image"]),
        "boxes": np.array(rows["boxes"], dtype=np.float64),
        "classes": np.array(rows["classes"], dtype=np.int64),
        "ignored": np.zeros(count, dtype=bool),
        "regions": np.zeros((0, 4)),
        "sizes": np.full((len(source), 2), 64),
        "truth_image": np.array(rows["truth_image"]),
        "region_image": np.zeros(0, dtype=np.int64),
        "indices": np.arange(len(source)),
    }


PREDICT: Mapping[str, Callable[[RunSpec], Arrays]] = {
    "classification": predicted_logits,
    "detection": predicted_boxes,
}
