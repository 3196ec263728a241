"""From an ablation and a store to the numbers of a table: which runs are there, which are not."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.statistics.ties import difference
from ema_lab.store.record import RunRecord
from ema_lab.store.staleness import Staleness
from ema_lab.store.store import RunStore

# Two runs are a clean pair only where nothing but the variant differs.
PAIR_KEYS = (
    *("device", "instruction_set", "precision", "evaluation_precision", "tf32", "num_threads", "versions"),
)
PAIR_WORDS = "device, processor, precision, threads or versions"


def unlike(environments: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the facts in which runs differ that should make clean pairs.

    What a record does not say, as one that is older than the fact, is unknown and differs from nothing;
    but for the precision of evaluation, which older records had from training.
    """
    found: dict[str, set[str]] = {key: set() for key in PAIR_KEYS}
    for one in environments:
        known = {"evaluation_precision": one.get("precision"), **one}
        for key in PAIR_KEYS:
            if known.get(key) is not None:  # in whatever order a mapping was written
                found[key].add(json.dumps(known[key], sort_keys=True, default=repr))
    return [key for key, values in found.items() if len(values) > 1]


@dataclass(frozen=True)
class Measured:
    """One cell, its record (None where it is not done) and its baseline's.

    `stale` and `stale_baseline` are the parts whose source has changed since the two were made,
    `baseline_id` the run that the cell is compared with; `pruned`: a search has cut the run short.
    """

    cell: Cell
    record: RunRecord | None
    baseline: RunRecord | None
    stale: tuple[str, ...] = ()
    stale_baseline: tuple[str, ...] = ()
    baseline_id: str | None = None
    pruned: bool = False

    @property
    def clean_pair(self) -> bool:
        """Whether both runs of the pair had the same device, processor, precision, threads and versions."""
        if self.record is None or self.baseline is None:
            return True
        return not unlike([self.record.environment, self.baseline.environment])

    def value(self, metric: str) -> float | None:
        """Return a metric; None where the run is not done, or has none."""
        return self.record.metrics.get(metric) if self.record else None

    def difference(self, metric: str) -> float | None:
        """Return variant minus baseline, zero where only rounding differs; None without one of the two."""
        mine, other = self.value(metric), self.baseline.metrics.get(metric) if self.baseline else None
        return None if mine is None or other is None else difference(mine, other)


@dataclass(frozen=True)
class Row:
    """Cells that make one number: those of one variant, a seed each.

    `latency`: what `ema-lab cost --latency` has kept of the row's model beside its baseline.
    """

    name: str
    is_baseline: bool
    cells: tuple[Measured, ...]
    latency: Mapping[str, Any] | None = None

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

    def cost(self, key: str) -> int | float | None:
        """Return a cost of the row's model, which no seed changes.

        None before a run has finished, and where runs differ in it: they had different models.
        """
        found = {record.cost[key] for record in self.records if key in record.cost}
        return found.pop() if len(found) == 1 else None

    def having(self, metric: str) -> list[tuple[Measured, float]]:
        """Return the finished cells with their values of a metric."""
        return [(item, value) for item in self.cells if (value := item.value(metric)) is not None]

    def pairs(self, metric: str) -> list[tuple[Measured, float]]:
        """Return the cells that have a baseline, with variant minus baseline."""
        return [(item, value) for item in self.cells if (value := item.difference(metric)) is not None]

    def values(self, metric: str) -> list[float]:
        """Return a metric over the finished seeds."""
        return [value for _, value in self.having(metric)]

    def by_seed(self, metric: str) -> dict[object, float]:
        """Return a metric by seed: what rows are paired over."""
        return {item.cell.seed: value for item, value in self.having(metric)}

    def differences(self, metric: str) -> list[float]:
        """Return variant minus baseline for every seed that both have finished."""
        return [value for _, value in self.pairs(metric)]


def unclean_rows(rows: Sequence[Row], groups: Sequence[str] = ()) -> list[bool]:
    """Return for each row whether one of its runs is no clean pair with that of a row of its group."""
    groups = groups or [""] * len(rows)
    ran_on: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row, group in zip(rows, groups, strict=True):
        for item in row.cells:
            if item.record:
                ran_on.setdefault((group, item.cell.seed), []).append(item.record.environment)
    unclean = {place for place, environments in ran_on.items() if unlike(environments)}
    return [
        any(item.record and (group, item.cell.seed) in unclean for item in row.cells)
        for row, group in zip(rows, groups, strict=True)
    ]


def select_rows(ablation: Ablation, store: RunStore) -> list[Row]:
    """Read the finished runs of an ablation; a failed or missing run is a hole, never a number."""
    return rows_of(ablation, measure(ablation, store))


def rows_of(ablation: Ablation, measured: Sequence[Measured]) -> list[Row]:
    """Gather the cells of each row, in the order of the file."""
    rows: dict[str, list[Measured]] = {}
    for item in measured:
        rows.setdefault(item.cell.row, []).append(item)
    return [
        Row(name, items[0].cell.variant == ablation.baseline, tuple(items)) for name, items in rows.items()
    ]


def measure(ablation: Ablation, store: RunStore) -> list[Measured]:
    """Return every cell with what the store has of it and of its baseline."""
    records = store.records(dict.fromkeys(cell.run_id for cell in ablation.cells))
    done = {run_id: record for run_id, record in records.items() if record.status == "done"}
    pruned = _pruned(store, [cell.run_id for cell in ablation.cells if cell.run_id not in done])
    staleness = Staleness()
    stale = {spec.run_id: staleness.parts(spec, done.get(spec.run_id)) for spec in ablation.runs()}
    return [_measured(ablation, cell, done, stale, pruned) for cell in ablation.cells]


def _pruned(store: RunStore, run_ids: Sequence[str]) -> set[str]:
    """Return the runs without a result whose last attempt a search has cut short."""
    there = store.folder_names()
    lasts = {run_id: store.facts(run_id).attempts[-1:] for run_id in run_ids if run_id in there}
    return {run_id for run_id, last in lasts.items() if last and last[0].outcome == "pruned"}


def _measured(
    ablation: Ablation,
    cell: Cell,
    done: Mapping[str, RunRecord],
    stale: Mapping[str, tuple[str, ...]],
    pruned: set[str],
) -> Measured:
    base = ablation.baseline_of(cell)
    return Measured(
        cell,
        done.get(cell.run_id),
        done.get(base.run_id) if base else None,
        stale[cell.run_id],
        stale[base.run_id] if base else (),
        base.run_id if base else None,
        cell.run_id in pruned,
    )
