"""Selection of an ablation's results from a store: cells, rows, holes and clean pairs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.specs.chance import chance_level
from ema_lab.statistics.ties import difference
from ema_lab.store.failure import failure_of
from ema_lab.store.record import NODES, ONES, PIECES, WORLD_SIZE, RunRecord
from ema_lab.store.staleness import Staleness
from ema_lab.store.store import RunStore

# Environment facts that move a result: only runs with equal facts differ by their variant alone.
PAIR_KEYS = (
    *("device", "processor", "instruction_set", "precision", "evaluation_precision", "tf32"),
    *("matmul_precision", "deterministic", "cudnn_benchmark", "num_threads", "attention_kernel"),
    *("versions", WORLD_SIZE, NODES, PIECES),
)
PAIR_LABELS = (
    "device, number of devices, processor, precision, threads, batch pieces, attention kernel or versions"
)


def environment_differences(environments: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the environment facts that differ between runs and so spoil a clean pair.

    A fact that a record lacks, as in records of older versions, is unknown and equals any value. The
    precision of evaluation is an exception: older versions always evaluated in the precision of training. So
    are the numbers of devices, of machines and of pieces of a batch: one, where a record says none.
    A run that was resumed elsewhere has the facts of each of its environments (`earlier`).
    """
    values_by_key: dict[str, set[str]] = {key: set() for key in PAIR_KEYS}
    parts = (
        part
        for environment in environments
        for part in (environment, *({**environment, **other} for other in environment.get("earlier", ())))
    )
    for environment in parts:
        known = {"evaluation_precision": environment.get("precision"), **ONES, **environment}
        for key in PAIR_KEYS:
            if (
                known.get(key) is not None
            ):  # JSON with sorted keys, so that the order of a mapping is no difference
                values_by_key[key].add(json.dumps(known[key], sort_keys=True, default=repr))
    return [key for key, values in values_by_key.items() if len(values) > 1]


@dataclass(frozen=True)
class Measured:
    """Cell of an ablation with the results of its run and of its baseline's run.

    Attributes:
        cell: The cell.
        record: Record of the run; None if the run is not done.
        baseline: Record of the baseline's run; None if that run is not done, or without a baseline.
        stale: Parts whose source has changed since the run was done.
        stale_baseline: The same for the baseline's run.
        baseline_id: Run id of the baseline.
        pruned: Whether a search stopped the run early.
        diverged: Whether the run's last attempt diverged.
    """

    cell: Cell
    record: RunRecord | None
    baseline: RunRecord | None
    stale: tuple[str, ...] = ()
    stale_baseline: tuple[str, ...] = ()
    baseline_id: str | None = None
    pruned: bool = False
    diverged: bool = False

    @property
    def clean_pair(self) -> bool:
        """Whether both runs of the pair have equal environment facts, as far as `PAIR_KEYS` names them."""
        if self.record is None or self.baseline is None:
            return True
        return not environment_differences([self.record.environment, self.baseline.environment])

    def value(self, metric: str) -> float | None:
        """Return a metric of the run; None if the run is not done, or lacks the metric."""
        return self.record.metrics.get(metric) if self.record else None

    def baseline_value(self, metric: str) -> float | None:
        """Return a metric of the baseline's run; None if that run is not done, or lacks the metric."""
        return self.baseline.metrics.get(metric) if self.baseline else None

    def difference(self, metric: str) -> float | None:
        """Return variant minus baseline, 0 for a mere rounding difference; None if one value is missing."""
        mine, other = self.value(metric), self.baseline_value(metric)
        return None if mine is None or other is None else difference(mine, other)


@dataclass(frozen=True)
class Row:
    """Row of a table: the cells of one variant, one per seed.

    `latency` is the cached measurement of `ema-lab cost --latency` for the row's model and its baseline.
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
        """Parts whose source has changed since a run of the row was done."""
        return list(dict.fromkeys(part for item in self.cells for part in item.stale))

    def cost(self, key: str) -> int | float | None:
        """Return a cost of the row's model, which is equal for all seeds.

        None if no run has finished, or if the records differ, which shows that the models differed.
        """
        costs = {record.cost[key] for record in self.records if key in record.cost}
        return costs.pop() if len(costs) == 1 else None

    def finished(self, metric: str) -> list[tuple[Measured, float]]:
        """Return the finished cells with their values of a metric."""
        return [(item, value) for item in self.cells if (value := item.value(metric)) is not None]

    def pairs(self, metric: str) -> list[tuple[Measured, float]]:
        """Return the cells whose baseline is finished too, with variant minus baseline."""
        return [(item, value) for item in self.cells if (value := item.difference(metric)) is not None]

    def both_values(self, metric: str) -> list[tuple[float, float]]:
        """Return a metric of the row and of its baseline for each seed that both have finished."""
        pairs = ((item.value(metric), item.baseline_value(metric)) for item in self.cells)
        return [(mine, other) for mine, other in pairs if mine is not None and other is not None]

    def values(self, metric: str) -> list[float]:
        """Return a metric over the finished seeds."""
        return [value for _, value in self.finished(metric)]

    def intention(self, metric: str) -> list[tuple[Measured, float]]:
        """Return the cells that ended with their values of a metric: a diverged run has that of guessing.

        Diverged runs are left out if the metric's value of guessing is unknown.
        """
        ended = [
            (item, chance_level(metric, item.cell.spec.data.facts) if item.diverged else item.value(metric))
            for item in self.cells
        ]
        return [(item, value) for item, value in ended if value is not None]

    def by_seed(self, metric: str) -> dict[object, float]:
        """Return a metric by seed, the key by which rows are paired."""
        return {item.cell.seed: value for item, value in self.finished(metric)}

    def differences(self, metric: str) -> list[float]:
        """Return variant minus baseline for each seed that both have finished."""
        return [value for _, value in self.pairs(metric)]


def unclean_rows(rows: Sequence[Row], groups: Sequence[str] = ()) -> list[bool]:
    """Return for each row whether a run of it forms an unclean pair with a row of the same group."""
    groups = groups or [""] * len(rows)
    ran_on: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row, group in zip(rows, groups, strict=True):
        for item in row.cells:
            if item.record:
                ran_on.setdefault((group, item.cell.seed), []).append(item.record.environment)
    unclean = {key for key, environments in ran_on.items() if environment_differences(environments)}
    return [
        any(item.record and (group, item.cell.seed) in unclean for item in row.cells)
        for row, group in zip(rows, groups, strict=True)
    ]


def select_rows(ablation: Ablation, store: RunStore) -> list[Row]:
    """Read the rows of an ablation from a store. A failed or missing run is a hole, never a number."""
    return rows_of(ablation, measure(ablation, store))


def rows_of(ablation: Ablation, measured: Sequence[Measured]) -> list[Row]:
    """Group cells by row, in the order of the ablation file."""
    rows: dict[str, list[Measured]] = {}
    for item in measured:
        rows.setdefault(item.cell.row, []).append(item)
    return [
        Row(name, items[0].cell.variant == ablation.baseline, tuple(items)) for name, items in rows.items()
    ]


def measure(ablation: Ablation, store: RunStore) -> list[Measured]:
    """Return every cell of an ablation with the stored results of its run and its baseline's run."""
    records = store.records(dict.fromkeys(cell.run_id for cell in ablation.cells))
    done = {run_id: record for run_id, record in records.items() if record.status == "done"}
    unfinished = [cell.run_id for cell in ablation.cells if cell.run_id not in done]
    ended = _ended_early(store, unfinished)
    staleness = Staleness()
    stale = {spec.run_id: staleness.parts(spec, done.get(spec.run_id)) for spec in ablation.runs()}
    return [_measured(ablation, cell, done, stale, ended) for cell in ablation.cells]


@dataclass(frozen=True)
class _EndedEarly:
    """Runs whose last attempt a search stopped, and those whose last attempt diverged."""

    pruned: frozenset[str]
    diverged: frozenset[str]


def _ended_early(store: RunStore, run_ids: Sequence[str]) -> _EndedEarly:
    present = store.folder_names()
    facts = {run_id: store.facts(run_id) for run_id in run_ids if run_id in present}
    failures = {run_id: failure_of(each) for run_id, each in facts.items()}
    return _EndedEarly(
        frozenset(
            run_id
            for run_id, each in facts.items()
            if each.attempts and each.attempts[-1].outcome == "pruned"
        ),
        frozenset(run_id for run_id, failure in failures.items() if failure and failure.cause == "diverged"),
    )


def _measured(
    ablation: Ablation,
    cell: Cell,
    done: Mapping[str, RunRecord],
    stale: Mapping[str, tuple[str, ...]],
    ended: _EndedEarly,
) -> Measured:
    base = ablation.baseline_of(cell)
    return Measured(
        cell,
        done.get(cell.run_id),
        done.get(base.run_id) if base else None,
        stale[cell.run_id],
        stale[base.run_id] if base else (),
        base.run_id if base else None,
        cell.run_id in ended.pruned,
        cell.run_id in ended.diverged,
    )
