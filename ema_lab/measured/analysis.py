"""Analyses of finished runs: numbers that tables and figures derive from stored predictions."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from ema_lab.errors import StoreError
from ema_lab.measured.selection import Measured, Row
from ema_lab.registry.registry import Entry
from ema_lab.registry.signature import split_target
from ema_lab.specs.run import RunSpec
from ema_lab.specs.task import Analysis as Kind
from ema_lab.specs.task import TaskDescription
from ema_lab.store.analysis import Analysis, analysis_key, read_analyses, write_analyses
from ema_lab.store.imports import closure, source_of
from ema_lab.store.predictions import content_sha256, owner_of, read_predictions
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore
from ema_lab.store.syntax import package_hash

logger = logging.getLogger(__name__)
Settings = Mapping[str, Any]


class Analyses:
    """Analyses of one task's runs in a store, each computed once and kept beside the predictions.

    Args:
        store: The store.
        task: The task, which has analyses.
    """

    def __init__(self, store: RunStore, task: TaskDescription) -> None:
        assert task.analysis is not None
        self.store, self._target = store, task.analysis.code
        self._entries: dict[str, dict[str, Analysis]] = {}

    @cached_property
    def code(self) -> str:
        """Hash of the code that computes analyses."""
        sources = closure(
            [source_of(split_target(self._target)[0])], lambda path: path.read_text("utf-8"), lambda _: False
        )
        hashes = sorted(package_hash(source.path.read_text("utf-8")) for source in sources)
        return hashlib.sha256("".join(hashes).encode()).hexdigest()[:16]

    def of(self, spec: RunSpec, record: RunRecord | None, kind: Kind, settings: Settings) -> Analysis | None:
        """Return an analysis of a run; None if the run is not done, or its predictions cannot be read."""
        if record is None:
            return None
        folder, key = self.store.folder(record.run_id), analysis_key(kind, settings)
        if record.run_id not in self._entries:
            self._entries[record.run_id] = read_analyses(folder, record, self.code)
        entries = self._entries[record.run_id]
        if key not in entries:
            try:
                entries[key] = self._computed(spec, record, kind, settings)
            except (StoreError, FileNotFoundError) as error:
                reason = "the run has no predictions" if isinstance(error, FileNotFoundError) else str(error)
                logger.warning("run %s is left out: %s", record.run_id, reason)
                return None
            write_analyses(folder, record, self.code, entries)
        return entries[key]

    def _computed(self, spec: RunSpec, record: RunRecord, kind: Kind, settings: Settings) -> Analysis:
        arrays = read_predictions(self.store.folder(record.run_id))
        is_other = owner_of(arrays) not in {"", record.run_id}
        if is_other or record.predictions_sha256 not in {"", content_sha256(arrays)}:
            raise StoreError("its predictions are not those of its record; `ema-lab store check` says more")
        found: Analysis = Entry(self._target).load()(kind, arrays, spec.data.facts.classes, settings)
        return found


def class_rows(analyses: Analyses, rows: Sequence[Row], metric: str, protocol: str) -> list[list[Row]]:
    """Return the rows once for each class, with the class's value as the metric of every record.

    Args:
        analyses: Analyses of the rows' runs.
        rows: Rows of an ablation.
        metric: A metric of the task.
        protocol: The metric's protocol.
    """
    classes = max((item.cell.spec.data.facts.classes for row in rows for item in row.cells), default=0)
    values: dict[str, list[float | None]] = {}
    for item in (item for row in rows for item in row.cells):
        for spec, record in ((item.cell.spec, item.record), (item.cell.spec, item.baseline)):
            if record is not None and record.run_id not in values:
                found = analyses.of(spec, record, "classes", {"protocol": protocol})
                values[record.run_id] = list(found.get(metric, ())) if found else []

    def of_class(record: RunRecord | None, cls: int) -> RunRecord | None:
        if record is None:
            return None
        own = values[record.run_id]
        value = own[cls] if cls < len(own) else None
        return record.model_copy(update={"metrics": {} if value is None else {metric: value}})

    def measured(item: Measured, cls: int) -> Measured:
        return replace(item, record=of_class(item.record, cls), baseline=of_class(item.baseline, cls))

    return [
        [replace(row, cells=tuple(measured(item, cls) for item in row.cells)) for row in rows]
        for cls in range(classes)
    ]


def class_counts(analyses: Analyses, rows: Sequence[Row], protocol: str) -> list[int] | None:
    """Return the number of boxes or images of each class, which all runs share; None before any run."""
    for row in rows:
        for item in row.cells:
            found = analyses.of(item.cell.spec, item.record, "classes", {"protocol": protocol})
            if found is not None:
                return list(found["count"])
    return None
