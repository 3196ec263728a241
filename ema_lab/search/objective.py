"""What a search improves: a validation metric, or a cost of the model."""

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
    """A number of a run and the way it should go: +1 up, -1 down. `metric` describes a validation metric."""

    name: str
    sign: int
    metric: Metric | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.name}:{'max' if self.sign > 0 else 'min'}"

    @property
    def is_metric(self) -> bool:
        """Whether it is a validation metric, which every epoch has; else it is a cost."""
        return self.name.startswith(VALIDATION)

    @property
    def direction(self) -> str:
        """Optuna's word for the way."""
        return "maximize" if self.sign > 0 else "minimize"

    @property
    def label(self) -> str:
        """What an axis or a column is called, with its unit."""
        if not self.is_metric:
            cost = COSTS[self.name]
            return f"{cost.label} ({cost.unit})" if cost.unit else cost.label
        metric = self.metric or Metric(self.name.removeprefix(VALIDATION), "", self.sign)
        label = f"Validation {metric.label[:1].lower()}{metric.label[1:]}"
        return f"{label} ({metric.unit})" if metric.unit else label

    @property
    def scale(self) -> float:
        """What a recorded number is divided by for `label`'s unit."""
        return 1.0 if self.is_metric else COSTS[self.name].scale

    def of_run(self, store: RunStore, run_id: str) -> float:
        """Return its value for a finished run: at the epoch whose weights the run reports.

        Raises:
            StoreError: If the run does not have it.
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
    """Return what `--objective NAME:max|min` asks for; without it, the file's metric.

    A metric's name, such as top1, means that of the validation split.

    Raises:
        SpecError: If a name is unknown, or the way is not that metric's.
    """
    task = sweep.task
    if not options:
        return (_of_metric(sweep.goal.name.removeprefix(VALIDATION), task),)
    found = tuple(_read(option, task) for option in options)
    if len({one.name for one in found}) < len(found):
        raise SpecError(f"--objective: each stands once, got {' '.join(map(str, found))}")
    if not any(one.is_metric for one in found):
        raise SpecError(
            f"--objective: one must be a metric ({', '.join(task.metrics)}), which only training gives"
        )
    return found


def _of_metric(name: str, task: TaskDescription) -> Objective:
    metric = task.metrics[name]
    return Objective(f"{VALIDATION}{name}", metric.sign, metric)


def _read(option: str, task: TaskDescription) -> Objective:
    name, colon, way = option.partition(":")
    if not colon or way not in SIGNS:
        raise SpecError(
            "--objective takes NAME:max or NAME:min, such as "
            f"{Objective(task.primary, task.metrics[task.primary].sign)} or macs:min, got {option!r}"
        )
    if name in COSTS:
        if way != "min":
            raise SpecError(f"--objective: {name} is a cost: write {name}:min")
        return Objective(name, -1)
    metric = name.removeprefix(VALIDATION)
    if metric not in task.metrics:
        raise SpecError(f"--objective: {unknown_name('objective', name, (*task.metrics, *COSTS))}")
    if task.metrics[metric].sign != SIGNS[way]:
        raise SpecError(f"--objective: write {Objective(name, task.metrics[metric].sign)}")
    return _of_metric(metric, task)
