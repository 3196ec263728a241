"""From an ablation and a store to the numbers of a table: which runs are there, which are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ema_lab.experiments.ablation import Ablation
from ema_lab.experiments.grid import Cell
from ema_lab.experiments.record import RunRecord
from ema_lab.experiments.staleness import Staleness
from ema_lab.experiments.store import RunStore

# Two runs are a clean pair only where nothing but the variant differs.
PAIR_KEYS = ("device", "precision", "num_threads", "versions")


@dataclass(frozen=True)
class Measured:
    """One cell, its record (None where it is not done) and its baseline's.

    `stale` and `stale_baseline` are the parts whose source has changed since the two were made.
    """

    cell: Cell
    record: RunRecord | None
    baseline: RunRecord | None
    stale: tuple[str, ...] = ()
    stale_baseline: tuple[str, ...] = ()

    @property
    def clean_pair(self) -> bool:
        """Whether both runs of the pair had the same device, precision, threads and versions."""
        if self.record is None or self.baseline is None:
            return True
        mine, other = self.record.environment, self.baseline.environment
        return all(mine.get(key) == other.get(key) for key in PAIR_KEYS)


@dataclass(frozen=True)
class Row:
    """A table's row: the cells of one variant, a seed each."""

    name: str
    is_baseline: bool
    cells: tuple[Measured, ...]

    @property
    def run_ids(self) -> list[str]:
        return [item.cell.run_id for item in self.cells]

    @property
    def records(self) -> list[RunRecord]:
        return [item.record for item in self.cells if item.record is not None]

    @property
    def stale(self) -> list[str]:
        """The parts whose source has changed since some run of the row was done."""
        return list(dict.fromkeys(part for item in self.cells for part in item.stale))

    def cost(self, key: str) -> int | None:
        """Return a cost of the row's model, which no seed changes; None before a run has finished."""
        return next((record.cost[key] for record in self.records if key in record.cost), None)

    def values(self, metric: str) -> list[float]:
        """Return a metric over the finished seeds."""
        return [record.metrics[metric] for record in self.records if metric in record.metrics]

    def differences(self, metric: str) -> list[float]:
        """Return variant minus baseline for every seed that both have finished."""
        pairs = ((item.record, item.baseline) for item in self.cells)
        return [
            mine.metrics[metric] - other.metrics[metric]
            for mine, other in pairs
            if mine and other and metric in mine.metrics and metric in other.metrics
        ]


def select_rows(ablation: Ablation, store: RunStore) -> list[Row]:
    """Read the finished runs of an ablation; a failed or missing run is a hole, never a number."""
    records = finished(store, [cell.run_id for cell in ablation.cells])
    staleness = Staleness()
    stale = {spec.run_id: staleness.parts(spec, records.get(spec.run_id)) for spec in ablation.runs()}
    return [
        Row(name, cells[0].variant == ablation.baseline, tuple(_measured(ablation, cells, records, stale)))
        for name, cells in ablation.rows().items()
    ]


def finished(store: RunStore, run_ids: Sequence[str]) -> dict[str, RunRecord]:
    """Return the records of the runs that are done."""
    return {key: record for key, record in store.records(run_ids).items() if record.status == "done"}


def _measured(
    ablation: Ablation,
    cells: Sequence[Cell],
    records: Mapping[str, RunRecord],
    stale: Mapping[str, tuple[str, ...]],
) -> list[Measured]:
    found = []
    for cell in cells:
        base = ablation.baseline_of(cell)
        record, other = records.get(cell.run_id), records.get(base.run_id) if base else None
        found.append(Measured(cell, record, other, stale[cell.run_id], stale[base.run_id] if base else ()))
    return found
