"""A working folder with one small ablation, a made-up training, and the command line beside Python."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome

TINY = """\
name: tiny
base:
  model: {backbone: resnet20, placement: {after: block_end}}
  data: {name: synthetic, train_images: 32, test_images: 16, image_size: 8}
  recipe: {epochs: 1, batch_size: 16, optimizer: {name: sgd, lr: 0.1}}
seeds: [0, 1]
baseline: none
variants:
  none: {model.attention: none}
  se: {model.attention: {name: se, reduction: 4}}
"""
SEARCH = """\
name: rates
method: grid
metric: {name: val_top1, goal: maximize}
parameters:
  base: {value: tiny/se}
  seeds: {value: [0]}
  data.val_images: {value: 8}
  recipe.optimizer.lr: {values: [0.1, 0.2]}
command: [ema-lab, trial, "${args_json}"]
"""


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunSpec]:
    """Change to a folder with `tiny` and `rates`; return a list that grows by each spec that is trained.

    SE is two points better, a seed adds one; a learning rate of 0.3 fails.
    """
    for folder, name, text in (("ablations", "tiny", TINY), ("sweeps", "rates", SEARCH)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    seen: list[RunSpec] = []

    def train_run(spec: RunSpec, job: RunJob, *, report: Callable[..., None] | None = None, **_: Any) -> Any:
        seen.append(spec)
        if spec.recipe.optimizer.lr == 0.3:
            raise ValueError("the loss is not finite")
        top1 = (90.0 if spec.model.attention.name == "none" else 92.0) + spec.seed
        (job.folder / "curve.csv").write_text(f"epoch,val_top1\n1,{top1 + spec.recipe.optimizer.lr}\n")
        if report is not None:
            report({"epoch": 1, "val_top1": top1 + spec.recipe.optimizer.lr})
        environment = {"device": "cpu", "precision": "fp32", "num_threads": 1, "versions": {"torch": "0"}}
        cost = {"parameters": 1000, "macs": 2_000_000}
        return RunOutcome({"top1": top1, "loss": 0.5}, 1, cost, 3.0, 10.0, environment, "0" * 64)

    monkeypatch.setattr("ema_lab.one_run.pipeline.train_run", train_run)
    return seen
