"""Content of an ablation's mirror: one run per finished cell, and a results table."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.store.curve import read_curve
from ema_lab.store.store import RunStore
from ema_lab.store.survey import RunStatus, Survey
from ema_lab.tracking.names import SUMMARY_COSTS, run_config, run_name, run_summary, run_tags

FORMAT = 1  # increase after a change of the content, so that the next push replaces old runs
STALE = "stale"


@dataclass(frozen=True)
class MirrorRun:
    """Content of one run in a mirror. Each row of the curve is logged at the step of its epoch."""

    run_id: str
    name: str
    group: str
    job_type: str
    tags: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = None
    curve: Sequence[Mapping[str, float]] = ()
    summary: Mapping[str, float | int] | None = None
    table: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def sha256(self) -> str:
        """Hash of the whole content."""
        text = json.dumps([FORMAT, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _is_whole(epoch: float | None) -> bool:
    return epoch is not None and epoch.is_integer()


@dataclass(frozen=True)
class Snapshot:
    """Snapshot of an ablation: its cells and the status of their runs, read once."""

    ablation: Ablation
    statuses: Mapping[str, RunStatus]

    @classmethod
    def take(cls, ablation: Ablation, store: RunStore) -> "Snapshot":
        survey = Survey(store)
        return cls(ablation, {spec.run_id: survey.status(spec) for spec in ablation.runs()})

    def runs(self, store: RunStore, chosen: Sequence[Cell]) -> list[MirrorRun]:
        """Return the finished runs of the chosen cells. A run that cells share is named by the first cell."""
        cells = {cell.run_id: cell for cell in reversed(chosen)}
        return [
            self._run(cells[run_id], store)
            for run_id in dict.fromkeys(cell.run_id for cell in chosen)
            if self.statuses[run_id].state == "done"
        ]

    def _run(self, cell: Cell, store: RunStore) -> MirrorRun:
        status = self.statuses[cell.run_id]
        record = status.facts.record
        assert record is not None
        return MirrorRun(
            run_id=cell.run_id,
            name=run_name(cell.row, cell.seed),
            group=self.ablation.name,
            job_type=cell.row,
            tags=(*run_tags(cell.spec), *([STALE] if status.stale else [])),
            config=run_config(cell.spec),
            curve=[row for row in read_curve(store.folder(cell.run_id)) if _is_whole(row.get("epoch"))],
            summary=run_summary(record.metrics, record.cost, record.chosen_epoch),
        )

    def cut_curves(self, runs: Sequence[MirrorRun]) -> list[str]:
        """Return the names of the runs whose curves lack epochs."""
        epochs = {spec.run_id: spec.recipe.epochs for spec in self.ablation.runs()}
        return [run.name for run in runs if len(run.curve) != epochs[run.run_id]]

    def results(self) -> MirrorRun:
        """Return the run with the results table of all cells; a cell without a result has empty values."""
        name = self.ablation.name
        return MirrorRun(
            run_id=f"results-{hashlib.sha256(name.encode()).hexdigest()[:16]}",
            name=f"{name}-results",
            group=name,
            job_type="results",
            table=self._rows(),
        )

    def _rows(self) -> list[dict[str, Any]]:
        records = [run.facts.record for run in self.statuses.values() if run.facts.done]
        metrics = dict.fromkeys(name for record in records if record for name in record.metrics)
        rows = []
        for cell in self.ablation.cells:
            status = self.statuses[cell.run_id]
            record = status.facts.record if status.facts.done else None
            row: dict[str, Any] = {
                "variant": cell.row,
                "seed": cell.seed,
                "run_id": cell.run_id,
                "status": status.state,
                "stale": " ".join(status.stale) or None,
            }
            row |= {name: record.metrics.get(name) if record else None for name in metrics}
            row |= {name: record.cost.get(name) if record else None for name in SUMMARY_COSTS}
            rows.append({**row, "chosen_epoch": record.chosen_epoch if record else None})
        return rows
