"""Recomputation of metrics from stored predictions, without training."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ema_lab.errors import StoreError
from ema_lab.specs.run import RunSpec
from ema_lab.specs.task import DEFAULT_TASK
from ema_lab.store.predictions import SPLIT, Arrays, content_sha256, read_predictions
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore

Metrics = Callable[[RunSpec, Arrays], Mapping[str, float]]
CheckMetrics = Callable[[Arrays, RunSpec, Mapping[str, float]], str | None]


@dataclass(frozen=True)
class Remeasured:
    """Result of remeasuring one run. A refused run keeps its record; `reason` says why."""

    run_id: str
    result: Literal["changed", "equal", "refused"]
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


def remeasure(
    store: RunStore, run_ids: Iterable[str], metrics: Metrics, check_metrics: CheckMetrics
) -> Iterator[Remeasured]:
    """Recompute the metrics of finished runs, each under its lock, and rewrite the records that change.

    Args:
        store: The store.
        run_ids: Ids of finished runs.
        metrics: Computes a run's metrics from its predictions.
        check_metrics: Returns the mismatch between predictions and the metrics of an older record without
            a hash of its predictions, or None.
    """
    for run_id in run_ids:
        with store.claim(run_id) as claimed:
            if not claimed:
                yield Remeasured(run_id, "refused", reason="a process works on the run")
                continue
            try:
                yield _remeasured(store, run_id, metrics, check_metrics)
            except (StoreError, FileNotFoundError) as error:
                reason = "the run has no predictions" if isinstance(error, FileNotFoundError) else str(error)
                yield Remeasured(run_id, "refused", reason=reason)


def _remeasured(store: RunStore, run_id: str, metrics: Metrics, check_metrics: CheckMetrics) -> Remeasured:
    record = store.record(run_id)  # read under the lock: the record may have changed since the run was chosen
    if record is None or record.status != "done":
        raise StoreError("the run is not done")
    spec = store.spec(run_id)
    arrays = read_predictions(store.folder(run_id))
    sha256 = content_sha256(arrays)
    if problem := _mismatch(arrays, sha256, spec, record, check_metrics):
        raise StoreError(problem)
    after = dict(metrics(spec, arrays))
    if wrong := [name for name, value in after.items() if not math.isfinite(value)]:
        raise StoreError(f"the metric {wrong[0]} is {after[wrong[0]]}, which is not finite")
    before = dict(record.metrics)
    changed = before != after
    if changed or not record.predictions_sha256:
        store.write(record.model_copy(update={"metrics": after, "predictions_sha256": sha256}))
    return Remeasured(run_id, "changed" if changed else "equal", before, after)


def _mismatch(
    arrays: Arrays, sha256: str, spec: RunSpec, record: RunRecord, check_metrics: CheckMetrics
) -> str | None:
    """Return the reason why predictions do not belong to a record, or None."""
    if SPLIT not in arrays or str(arrays[SPLIT]) != "test":
        return "its predictions are not those of the test split"
    if record.predictions_sha256:
        if sha256 == record.predictions_sha256:
            return None
        recorded = record.predictions_sha256[:16]
        return f"its predictions have the hash {sha256[:16]}, but its record says {recorded}"
    if spec.data.facts.task != DEFAULT_TASK:
        return "its record has no hash of its predictions"
    try:
        problem = check_metrics(arrays, spec, record.metrics)
    except (KeyError, ValueError, IndexError) as error:
        problem = f"cannot be compared with the record: {type(error).__name__}: {error}"
    return problem and f"its predictions do not fit its record: it {problem}"
