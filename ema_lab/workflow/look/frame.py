"""Results of an ablation as a pandas DataFrame: the cells that `ema-lab status` shows, with their numbers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ema_lab.ablation.grid import Cell, format_value
from ema_lab.errors import EmaLabError
from ema_lab.specs.task import task_description
from ema_lab.store.curve import read_curve
from ema_lab.store.record import RunRecord
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.folders import existing_store
from ema_lab.workflow.selection import Changes, Conditions, SeedChoice, selected
from ema_lab.workflow.train.status import Status, survey

if TYPE_CHECKING:
    from pandas import DataFrame

Facts = dict[str, Any]
FIRST, LAST = ("ablation", "row", "seed", "status", "stale"), ("wall_seconds", "run_id")
EPOCH = "epoch"


def results(
    ablation: str | Path,
    *,
    curves: bool = False,
    only: Conditions | None = None,
    seeds: SeedChoice | None = None,
    changes: Changes | None = None,
    store: Path | str = DEFAULT_STORE,
) -> "DataFrame":
    """Return one row per cell of an ablation: ablation, row, axes, seed, status, metrics, costs, run id.

    A cell whose run is not done has no numbers. Metrics are in the units of the records, such as percent.

    Example:
        >>> _ = ema_lab.run("quickstart", seeds=1, only={"variant": "se"}, workers=1)
        >>> frame = ema_lab.results("quickstart")
        >>> list(frame.columns[:5])
        ['ablation', 'row', 'model.attention.groups', 'seed', 'status']
        >>> frame[frame.status == "done"].groupby("row").top1.count().to_dict()
        {'se': 1}

    Args:
        ablation: A path, or the name of a definition.
        curves: Return one row per run and epoch instead, with the columns of the runs' curves.
        only: Conditions on cells: values by key, or "KEY=VALUE" texts.
        seeds: The first so many seeds of the file, or a list of seeds.
        changes: "KEY=VALUE" texts, or values by dotted key, that change the file's base.
        store: Folder of the runs.

    Raises:
        EmaLabError: If there is no such ablation, cell or store, or pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise EmaLabError("results needs the package pandas: pip install 'ema-lab[notebook]'") from None
    runs = existing_store(store)
    state = survey(selected(ablation, only, seeds, changes), runs)
    if curves:
        rows = [
            {**facts, **epoch, "run_id": cell.run_id}
            for cell, facts in _cells(state)
            for epoch in _epochs(runs.folder(cell.run_id))
        ]
        return pandas.DataFrame(rows, columns=_columns(rows) if rows else [*FIRST, EPOCH, "run_id"])
    metrics, costs = _measured_names(state)
    rows = [
        {**facts, **_numbers(record, metrics, costs), "run_id": cell.run_id}
        for (cell, facts), record in zip(_cells(state), _records(state), strict=True)
    ]
    return pandas.DataFrame(rows, columns=_columns(rows))


def _cells(state: Status) -> Iterator[tuple[Cell, Facts]]:
    """Yield each cell with its names, axis values and state. An axis named as a column gets a prefix."""
    taken = {*FIRST, *LAST, EPOCH}.union(*_measured_names(state))
    for cell, status in state.cells:
        axes = {
            f"axes.{name}" if name in taken else name: format_value(value) if _is_nested(value) else value
            for name, value in (*cell.own_axes, *cell.axes)
        }
        yield (
            cell,
            {"ablation": state.ablation.name, "row": cell.row, **axes, "seed": cell.seed}
            | {"status": status.state, "stale": " ".join(status.stale) or None},
        )


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _records(state: Status) -> list[RunRecord | None]:
    return [status.facts.record if status.facts.done else None for _, status in state.cells]


def _measured_names(state: Status) -> tuple[list[str], list[str]]:
    """Return the metrics and costs that a record has; the primary metrics always."""
    records = [record for record in _records(state) if record is not None]
    tasks = [task_description(name) for name in dict.fromkeys(c.spec.data.facts.task for c, _ in state.cells)]
    known = dict.fromkeys(name for task in tasks for name in task.metrics)
    present = {name for record in records for name in record.metrics} | {task.primary for task in tasks}
    costs = {
        name: None
        for record in records
        for name, value in record.cost.items()
        if isinstance(value, int | float)
    }
    return [name for name in (*known, *sorted(present - known.keys())) if name in present], list(costs)


def _numbers(record: RunRecord | None, metrics: list[str], costs: list[str]) -> Facts:
    if record is None:
        return dict.fromkeys((*metrics, *costs, "wall_seconds"))
    numbers = {name: record.metrics.get(name) for name in metrics}
    return {**numbers, **{name: record.cost.get(name) for name in costs}, "wall_seconds": record.wall_seconds}


def _epochs(folder: Path) -> Iterator[Facts]:
    """Yield the epochs of a run's curve; the epoch comes first, as a whole number."""
    for row in read_curve(folder):
        if EPOCH in row:
            yield {EPOCH: int(row[EPOCH]), **{key: value for key, value in row.items() if key != EPOCH}}


def _columns(rows: list[Facts]) -> list[str]:
    """Return all keys in the order in which they appear: axes after the row, the run id last."""
    keys = dict.fromkeys(key for row in rows for key in row)
    first = ("ablation", "row")
    axes = [key for key in keys if key in _axes_of(rows)]
    rest = [key for key in keys if key not in (*first, *axes, "run_id")]
    return [*first, *axes, *rest, "run_id"]


def _axes_of(rows: list[Facts]) -> set[str]:
    """Return the keys between the row and the seed, which only some rows may have."""
    return {key for row in rows for key in list(row)[2 : list(row).index("seed")]}
