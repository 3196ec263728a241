"""Objectives of a search: a validation metric, or a cost of the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from ema_lab.errors import SpecError, StoreError
from ema_lab.registry.registry import unknown_name
from ema_lab.search.sweep import Sweep
from ema_lab.specs.metric import COSTS, Metric
from ema_lab.specs.sweep import VALIDATION
from ema_lab.specs.task import TaskDescription
from ema_lab.store.curve import read_curve
from ema_lab.store.store import RunStore

SIGNS: Mapping[str, int] = {"max": +1, "min": -1}


@dataclass(frozen=True)
class Objective:
    """Number of a run and its direction: +1 up, -1 down. `metric` describes a validation metric."""

    name: str
    sign: int
    metric: Metric | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.name}:{'max' if self.sign > 0 else 'min'}"

    @property
    def is_metric(self) -> bool:
        """Whether the objective is a validation metric, which every epoch has. Otherwise it is a cost."""
        return self.name.startswith(VALIDATION)

    @property
    def direction(self) -> str:
        """Optuna's name of the direction."""
        return "maximize" if self.sign > 0 else "minimize"

    @property
    def label(self) -> str:
        """Label of an axis or a column, with the unit."""
        if not self.is_metric:
            cost = COSTS[self.name]
            return f"{cost.label} ({cost.unit})" if cost.unit else cost.label
        metric = self.metric or Metric(self.name.removeprefix(VALIDATION), "", self.sign)
        return metric.prefixed("Validation").header

    @property
    def scale(self) -> float:
        """Divisor that turns a recorded number into the unit of `label`."""
        return 1.0 if self.is_metric else COSTS[self.name].scale

    def of_run(self, store: RunStore, run_id: str) -> float:
        """Return the value of a finished run, at the epoch whose weights the run reports.

        Raises:
            StoreError: If the run is not done or lacks the value.
        """
        record = store.record(run_id)
        if record is None or record.status != "done":
            raise StoreError(f"the run {run_id} is not done")
        if not self.is_metric:
            if self.name not in record.cost:
                raise StoreError(f"the record of {run_id} has no {self.name}")
            return float(record.cost[self.name])
        for row in read_curve(store.folder(run_id)):
            if row.get("epoch") == record.chosen_epoch and self.name in row:
                return row[self.name]
        raise StoreError(f"the curve of {run_id} has no {self.name} at epoch {record.chosen_epoch}")

    def of_runs(self, store: RunStore, run_ids: Sequence[str]) -> float:
        """Return the mean over finished runs."""
        return fmean(self.of_run(store, run_id) for run_id in run_ids)


def read_objectives(sweep: Sweep, options: Sequence[str]) -> tuple[Objective, ...]:
    """Parse `--objective NAME:max|min`; the file's metric is the default.

    The name of a metric, such as top1, means its value on the validation split.

    Raises:
        SpecError: If a name is unknown, or the direction is wrong for the metric.
    """
    task = sweep.task
    if not options:
        return (_of_metric(sweep.goal.name.removeprefix(VALIDATION), task),)
    objectives = tuple(_read(option, task) for option in options)
    if len({objective.name for objective in objectives}) < len(objectives):
        raise SpecError(f"--objective: give each objective once, got {' '.join(map(str, objectives))}")
    if not any(objective.is_metric for objective in objectives):
        raise SpecError(
            f"--objective: at least one must be a metric that training gives ({', '.join(task.metrics)})"
        )
    return objectives


def _of_metric(name: str, task: TaskDescription) -> Objective:
    metric = task.metrics[name]
    return Objective(f"{VALIDATION}{name}", metric.sign, metric)


def _read(option: str, task: TaskDescription) -> Objective:
    name, colon, direction = option.partition(":")
    if not colon or direction not in SIGNS:
        raise SpecError(
            "--objective takes NAME:max or NAME:min, such as "
            f"{Objective(task.primary, task.metrics[task.primary].sign)} or macs:min, got {option!r}"
        )
    if name in COSTS:
        if direction != "min":
            raise SpecError(f"--objective: {name} is a cost: write {name}:min")
        return Objective(name, -1)
    metric = name.removeprefix(VALIDATION)
    if metric not in task.metrics:
        raise SpecError(f"--objective: {unknown_name('objective', name, (*task.metrics, *COSTS))}")
    if task.metrics[metric].sign != SIGNS[direction]:
        raise SpecError(f"--objective: write {Objective(name, task.metrics[metric].sign)}")
    return _of_metric(metric, task)
