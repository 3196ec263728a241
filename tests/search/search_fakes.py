"""Ablation and sweep files for tests, and a fake training that takes no time."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from ema_lab.search.study import SweepStudy
from ema_lab.search.workers import run_search
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome

ABLATION = """\
name: base
base:
  model: {backbone: resnet20, placement: {after: block_end}}
  data: {name: digits}
  recipe: {use: digits-quick}
seeds: [0, 1]
baseline: none
variants:
  none: {model.attention: none}
  ema: {model.attention: {name: ema, groups: 4}}
"""
DETECTION = """\
name: base
base:
  model: {backbone: yolov5n, placement: {stages: [3, 4]}}
  data: {name: synthetic_scenes, train_images: 200}
  recipe: {epochs: 6, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}
seeds: [0, 1]
baseline: none
variants:
  none: {model.attention: none}
  ema: {model.attention: {name: ema, groups: 4}}
"""
ABLATIONS = {"classification": ABLATION, "detection": DETECTION}
METRICS = {"classification": "top1", "detection": "map"}
HEAD = """\
name: sweep
method: {method}
metric: {{name: val_METRIC, goal: maximize}}
command: [ema-lab, trial, "${{args_json}}"]
parameters:
  base: {{value: BASE/ema}}
  seeds: {{value: {seeds}}}
  data.val_images: {{value: 100}}
"""
LR = "  recipe.optimizer.lr: {distribution: log_uniform_values, min: 0.001, max: 1.0}\n"
GROUPS = "  model.attention.groups: {values: [2, 4, 8]}\n"
ASHA = "early_terminate: {type: hyperband, min_iter: 1, eta: 2}\n"
FIRST_LINE = HEAD.count("\n") + 1


@dataclass
class FakeTrain:
    """Fake training that notes completed runs; its validation metric is best at lr 0.1 and grows with epochs.

    The metric is top-1 of a classifier, mAP of a detector.
    """

    log: Path
    at_seed: dict[int, str] = field(default_factory=dict)

    def __call__(self, spec: RunSpec, job: RunJob, *, report) -> RunOutcome:
        if self.at_seed.get(spec.seed) == "fail":
            raise ValueError(f"bad seed {spec.seed}")
        lr, metric = spec.recipe.optimizer.lr, METRICS[spec.data.facts.task]
        rows = []
        for epoch in range(1, spec.recipe.epochs + 1):
            rows.append({"epoch": epoch, f"val_{metric}": 90 - 10 * abs(lr - 0.1) + epoch + spec.seed})
            with (job.folder / "curve.csv").open("w", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
            (job.folder / "last.ckpt").write_text(str(epoch))
            job.on_epoch()
            report(rows[-1])
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{spec.run_id}\n")
        groups = spec.model.attention.options.get("groups", 32)
        return RunOutcome({metric: 50.0}, spec.recipe.epochs, {"macs": 1e9 / groups, "parameters": 10})

    @property
    def trained(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").split() if self.log.exists() else []


def run(search, trier, **options):
    """Run a search as the command does, and return its study."""
    study = SweepStudy(search)
    if search.strategy.sampler == "grid":
        study.enqueue_grid(trier.limit)
    run_search(trier, study, **options)
    return study


def train_unobserved(train):
    """Train as `run` does, without an observer of the epochs."""
    return lambda spec, job: train(spec, job, report=lambda row: None)
