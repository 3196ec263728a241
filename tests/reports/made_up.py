"""Store of synthetic results, for tables of every kind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ema_lab.ablation.ablation import load_ablation
from ema_lab.ablation.grid import Cell
from ema_lab.execution.executor import execute
from ema_lab.reports.report import Report, build_report
from ema_lab.specs.report import ReportSpec
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.store.store import RunStore

OUTCOME = RunOutcome(
    metrics={},
    cost={"parameters": 12_345, "macs": 2_540_160},
    environment={"device": "cpu", "precision": "fp32", "num_threads": 1, "versions": {"torch": "2"}},
)
BASE = """\
base:
  model: {backbone: resnet20, placement: {after: block_end}}
  data: {name: synthetic}
  recipe: {epochs: 1, batch_size: 16, optimizer: {name: sgd, lr: 0.1}}
"""
Score = Callable[[Cell], float | None]


def fill(
    folder: Path,
    name: str,
    text: str,
    score: Score,
    environment: Callable[[Cell], dict[str, Any]] = lambda cell: {},
) -> RunStore:
    """Write an ablation and the records of its cells; a score of None is a missing run."""
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {name}\n{text if 'base:' in text else BASE + text}")
    cells = {cell.run_id: cell for cell in load_ablation(path).cells}
    store = RunStore(folder / "runs")

    def train(spec: RunSpec, job: RunJob) -> RunOutcome:
        own = {**OUTCOME.environment, **environment(cells[spec.run_id])}
        return replace(OUTCOME, metrics={"top1": score(cells[spec.run_id]), "loss": 0.5}, environment=own)

    execute([cell.spec for cell in cells.values() if score(cell) is not None], train=train, store=store)
    return store


def report_spec(folder: Path, **keys: Any) -> ReportSpec:
    """Return a report whose ablations are in `folder`."""
    if "ablation" in keys:
        keys["ablation"] = str(folder / f"{keys['ablation']}.yaml")
    if "ablations" in keys:
        keys["ablations"] = {name: str(folder / f"{one}.yaml") for name, one in keys["ablations"].items()}
    return ReportSpec.model_validate({"name": "r", **keys})


def report(folder: Path, store: RunStore, **keys: Any) -> Report:
    """Build a report whose ablations are in `folder`."""
    return build_report(report_spec(folder, **keys), store)
