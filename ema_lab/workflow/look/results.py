"""Comparison and evaluation of single runs from Python: the same as `ema-lab diff` and `ema-lab eval`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ema_lab.errors import StoreError
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.export import flattened
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE
from ema_lab.workflow.folders import existing_store

RECORDED = ("metrics", "chosen_epoch", "cost", "environment", "data_sha256", "source")


@dataclass(frozen=True)
class Differences:
    """Facts in which two runs differ, as flat objects, and the number of facts that were compared."""

    rows: list[dict[str, Any]]
    num_keys: int


def diff(first: str, second: str, store: Path | str = DEFAULT_STORE) -> Differences:
    """Compare spec, environment, source and metrics of two runs, named by id or an unambiguous prefix.

    Raises:
        StoreError: If a run or the store does not exist.
    """
    runs = existing_store(store)
    left, right = (_facts(runs, runs.find(run_id)) for run_id in (first, second))
    keys = list(dict.fromkeys([*left, *right]))
    rows = [
        {"key": key, "first": left.get(key), "second": right.get(key)}
        for key in keys
        if left.get(key) != right.get(key)
    ]
    return Differences(rows, len(keys))


def _facts(store: RunStore, run_id: str) -> dict[str, Any]:
    record = store.record(run_id)
    facts = flattened(store.spec(run_id).resolved())
    facts["status"] = store.state(run_id)
    if record is not None:
        facts |= flattened({key: record.model_dump(mode="json")[key] for key in RECORDED})
    return facts


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a finished run's model on a split.

    Attributes:
        run_id: Id of the run.
        split: test, val or train.
        num_images: Number of evaluated images.
        metrics: Metrics by name.
        primary: Name of the task's primary metric.
        recorded: Value of the primary metric in the record; None where the split is not the recorded one.
    """

    run_id: str
    split: str
    num_images: int
    metrics: dict[str, float]
    primary: str
    recorded: float | None

    @property
    def agrees(self) -> bool:
        """Whether the primary metric equals the recorded one, if there is one."""
        return self.recorded is None or self.recorded == self.metrics[self.primary]

    def row(self) -> dict[str, Any]:
        """Return the evaluation as a flat object."""
        return {"run_id": self.run_id, "split": self.split, "images": self.num_images, **self.metrics}


def evaluate(
    run_id: str,
    split: str = "test",
    *,
    device: str = "auto",
    store: Path | str = DEFAULT_STORE,
    data: Path | str = DEFAULT_DATA,
) -> Evaluation:
    """Evaluate a finished run's model again, from its checkpoint.

    Args:
        run_id: The run's id, or an unambiguous prefix.
        split: test, val or train.
        device: "auto", "cpu" or "cuda".
        store: Folder of the runs.
        data: Folder of the data sets.

    Raises:
        EmaLabError: If the run is not done, or its checkpoint or the split does not exist.
    """
    runs = existing_store(store)
    run_id = runs.find(run_id)
    if (state := runs.state(run_id)) != "done":
        raise StoreError(f"the run {run_id} is {state}, so it has no model to evaluate")
    from ema_lab.one_run.model import load_model
    from ema_lab.tasks.task import load_data, load_task
    from ema_lab.training.evaluation import INDICES
    from ema_lab.training.evaluation import evaluate as predict
    from ema_lab.training.machine import choose_device

    spec = runs.spec(run_id)
    model, task = load_model(run_id, runs), load_task(spec.data)
    predictions = predict(model, task, load_data(spec, Path(data)), split, choose_device(device))
    record, primary = runs.record(run_id), spec.data.task.primary
    recorded = record.metrics.get(primary) if record is not None and split == "test" else None
    return Evaluation(run_id, split, len(predictions[INDICES]), task.metrics(predictions), primary, recorded)
