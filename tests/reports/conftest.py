"""Tables from made-up records: an ablation file, a store and a report, all below a temporary folder."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.execution.executor import execute
from ema_lab.reports.report import build_table
from ema_lab.results.selection import Row, select_rows
from ema_lab.specs.report import ReportSpec
from ema_lab.specs.run import RunSpec
from ema_lab.specs.task import task_description
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.store.store import RunStore
from ema_lab.tables.render import flat_records
from ema_lab.tables.table import Table

ABLATION = """\
name: study
base:
  model: {{backbone: resnet20}}
  data: {{name: synthetic, val_images: {val_images}}}
  recipe: {{epochs: 1, batch_size: 16, optimizer: {{name: sgd, lr: 0.1}}, protocol: {protocol}}}
seeds: [0, 1, 2]
{more}
variants:
  none: {{model.attention: none}}
  se: {{model.attention: {{name: se, reduction: 4}}}}
"""
SCORES = {"none": [90.0, 91.0, 92.0], "se": [91.0, 93.0, 95.0]}
OUTCOME = RunOutcome(
    metrics={},
    cost={"parameters": 12_345, "macs": 2_540_160},
    environment={"device": "cpu", "precision": "fp32", "num_threads": 1, "versions": {"torch": "2"}},
)


class Study(NamedTuple):
    """An ablation with the rows that its store gives."""

    ablation: Ablation
    rows: list[Row]

    def report(self, **keys: Any) -> ReportSpec:
        tree = {"name": "study", "title": "Study", "ablation": "study", **keys}
        return ReportSpec.model_validate(tree).for_task(task_description("classification"))

    def table(self, **keys: Any) -> Table:
        return build_table(self.report(**keys), self.ablation, self.rows)

    def records(self, **keys: Any) -> list[dict[str, Any]]:
        return flat_records(self.table(**keys))


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    """Return a function that trains a made-up study; a score of None is a run that is not there."""

    def build(
        scores: Mapping[str, list[float | None]] = SCORES,
        *,
        environment: Callable[[RunSpec], dict[str, Any]] = lambda spec: {},
        cost: Callable[[RunSpec], dict[str, Any]] = lambda spec: {},
        protocol: str = "last",
        more: str = "baseline: none",
    ) -> Study:
        val_images = 50 if protocol == "best-val" else 0
        path = tmp_path / "study.yaml"
        path.write_text(ABLATION.format(protocol=protocol, more=more, val_images=val_images))
        ablation = load_ablation(path)
        score = {cell.run_id: scores[cell.variant][cell.seed] for cell in ablation.cells}

        def train(spec: RunSpec, job: RunJob) -> RunOutcome:
            metrics = {"top1": score[spec.run_id], "loss": 0.25}
            own = {**OUTCOME.environment, **environment(spec)}
            return replace(OUTCOME, metrics=metrics, environment=own, cost=cost(spec) or OUTCOME.cost)

        store = RunStore(tmp_path / "runs")
        there = [spec for spec in ablation.runs() if score[spec.run_id] is not None]
        execute(there, train=train, store=store)
        return Study(ablation, select_rows(ablation, store))

    return build
