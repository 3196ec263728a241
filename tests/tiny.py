"""A small ablation, its report, a search over it, and made-up outcomes of its runs."""

from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunOutcome

TINY = """\
name: tiny
description: Two rows, two seeds, made-up images.
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
TINY_DETECTION = """\
name: tiny
description: Two rows, two seeds, made-up scenes.
base:
  model: {backbone: yolov5n, placement: {stages: [3, 4]}}
  data: {name: synthetic_scenes, train_images: 8, test_images: 4}
  recipe: {epochs: 1, batch_size: 4, optimizer: {name: sgd, lr: 0.1}}
seeds: [0, 1]
baseline: none
variants:
  none: {model.attention: none}
  se: {model.attention: {name: se, reduction: 4}}
"""


def rates(
    rate: str,
    *,
    name: str = "rates",
    method: str = "random",
    metric: str = "val_top1",
    base: str = "tiny/se",
    seeds: str = "[0]",
    images: int = 8,
    more: str = "",
) -> str:
    """Return a sweep over the learning rate. `rate`: its values; `more`: further lines."""
    return f"""\
name: {name}
method: {method}
metric: {{name: {metric}, goal: maximize}}
{more}
command: [ema-lab, trial, "${{args_json}}"]
parameters:
  base: {{value: {base}}}
  seeds: {{value: {seeds}}}
  data.val_images: {{value: {images}}}
  recipe.optimizer.lr: {rate}
"""


TINY_REPORT = "name: tiny\ntitle: Tiny table\nablation: tiny\n"
RATES = rates("{values: [0.1, 0.2]}", method="grid")


def fake_outcome(spec: RunSpec) -> RunOutcome:
    """Numbers that tell the runs apart: 90 for `none`, 92 for others, plus the seed."""
    score = (90.0 if spec.model.attention.name == "none" else 92.0) + spec.seed
    metrics = {"top1": score, "loss": 0.5}
    if spec.data.facts.task == "detection":
        metrics = {"map": score, "map50": score + 1}
    cost = {"parameters": 1000, "macs": 2_000_000}
    environment = {"device": "cpu", "precision": "fp32", "num_threads": 1, "versions": {"torch": "0"}}
    return RunOutcome(metrics, 1, cost, 3600.0, 10.0, environment, "0" * 64)
