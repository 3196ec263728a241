"""What a search improves: a validation metric, or a cost of the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ema_lab.errors import SpecError, StoreError
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.metric import COSTS, METRICS
from ema_lab.specs.sweep import VALIDATION, VALIDATION_METRICS, SweepSpec
from ema_lab.store.curve import read_curve
from ema_lab.store.store import RunStore

SIGNS: Mapping[str, int] = {"max": +1, "min": -1}


@dataclass(frozen=True)
class Objective:
    """A number of a run and the way it should go: +1 up, -1 down."""

    name: str
    sign: int

    def __str__(self) -> str:
        return f"{self.name}:{'max' if self.sign > 0 else 'min'}"

    @property
    def is_metric(self) -> bool:
        """Whether it is a validation metric, which every epoch has; else it is a cost."""
        return self.name in VALIDATION_METRICS

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
        metric = METRICS[self.name.removeprefix(VALIDATION)]
        return f"Validation {metric.label.lower()} ({metric.unit})"

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


def read_objectives(spec: SweepSpec, options: Sequence[str]) -> tuple[Objective, ...]:
    """Return what `--objective NAME:max|min` asks for; without it, the file's metric.

    A metric's name, such as top1, means that of the validation split.

    Raises:
        SpecError: If a name is unknown, or the way is not that metric's.
    """
    if not options:
        return (Objective(spec.goal.name, +1 if spec.goal.goal == "maximize" else -1),)
    found = tuple(map(_read, options))
    if len({one.name for one in found}) < len(found):
        raise SpecError(f"--objective: each stands once, got {' '.join(map(str, found))}")
    if not any(one.is_metric for one in found):
        raise SpecError(
            f"--objective: one must be a metric ({', '.join(METRICS)}), which only training gives"
        )
    return found


def _read(option: str) -> Objective:
    name, colon, way = option.partition(":")
    if not colon or way not in SIGNS:
        raise SpecError(
            f"--objective takes NAME:max or NAME:min, such as top1:max or macs:min, got {option!r}"
        )
    if name in COSTS:
        if way != "min":
            raise SpecError(f"--objective: {name} is a cost: write {name}:min")
        return Objective(name, -1)
    metric = name.removeprefix(VALIDATION)
    if metric not in METRICS:
        raise SpecError(f"--objective: {unknown_name('objective', name, (*METRICS, *COSTS))}")
    if METRICS[metric].sign != SIGNS[way]:
        raise SpecError(f"--objective: write {name}:{'max' if METRICS[metric].sign > 0 else 'min'}")
    return Objective(f"{VALIDATION}{metric}", SIGNS[way])
