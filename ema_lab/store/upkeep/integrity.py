"""Integrity check of a store: reads every file of every run and compares it with the others."""

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ema_lab.errors import StoreError, StrangerError
from ema_lab.files import DAMAGED, PARTIAL, NotRegularFileError, quarantine_file
from ema_lab.specs.run import RunSpec
from ema_lab.store import layout
from ema_lab.store.curve import curve_rows
from ema_lab.store.ownership import CHECKPOINTS, RESULT_FILES, stranger_in
from ema_lab.store.predictions import content_sha256, owner_of, read_predictions
from ema_lab.store.quarantine import supersede
from ema_lab.store.record import RunRecord
from ema_lab.store.start import start_problem
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.remeasure import CheckMetrics
from ema_lab.wording import number_of

LoadCheckpoint = Callable[[Path], Mapping[str, Any]]
Check = Callable[[Path, RunSpec, RunRecord], str | None]


@dataclass(frozen=True)
class Finding:
    """Problem with a file of a run; `damaged` if the problem spoils a result or a checkpoint."""

    run_id: str
    file: str
    damaged: bool
    problem: str


@dataclass(frozen=True)
class Quarantined:
    """Ids of the superseded runs, and one line per file that was renamed."""

    superseded: tuple[str, ...]
    renamed: tuple[str, ...]


def check_store(
    store: RunStore,
    check_metrics: CheckMetrics,
    load_checkpoint: LoadCheckpoint | None = None,
    watch: Callable[[int, int], None] = lambda checked, total: None,
) -> Iterator[Finding]:
    """Yield the problems of a store, run by run, without the runs that a process works on.

    Args:
        store: The store.
        check_metrics: Returns the mismatch between predictions and the metrics of a record, or None.
        load_checkpoint: Loads a checkpoint, or raises; None skips all checkpoints.
        watch: Observer called after each run with the numbers of checked runs and of all runs.
    """
    names = sorted(store.folder_names())
    for number, name in enumerate(names, 1):
        if not layout.RUN_ID.fullmatch(name):
            yield Finding("", name, damaged=False, problem="is no run folder")
        elif store.is_locked(name):
            yield Finding(name, "", damaged=False, problem="a process works on it: not checked")
        else:
            yield from _check_run(store, name, check_metrics, load_checkpoint)
        watch(number, len(names))
    locks = {path.stem for path in (store.root / layout.LOCKS).glob("*.lock")}
    for run_id in sorted(name for name in locks - set(names) if layout.RUN_ID.fullmatch(name)):
        yield Finding(run_id, f"{layout.LOCKS}/{run_id}.lock", damaged=False, problem="a lock without a run")


def quarantine_damaged_runs(
    store: RunStore,
    run_ids: Iterable[str],
    check_metrics: CheckMetrics,
    load_checkpoint: LoadCheckpoint | None = None,
) -> Quarantined:
    """Supersede all files of damaged runs, which makes the runs pending.

    A finished run's table of start weights, or a checkpoint that no command reads, is renamed instead, and
    the result stays.

    Each run is checked again under its lock, because it may have changed since the first check. A run stays
    as it is if another process holds it, or if another user or a later version can read its files.
    """
    moved, renamed = list[str](), list[str]()
    for run_id in run_ids:
        with store.claim(run_id) as claimed:
            if not claimed or store.facts(run_id).unreadable:
                continue
            if not all(os.access(path, os.R_OK) for path in _entries(store.folder(run_id))):
                continue
            found = [one for one in _check_run(store, run_id, check_metrics, load_checkpoint) if one.damaged]
            if found and {one.file for one in found} <= _beside_the_result(store, run_id):
                renamed += [_renamed(store, finding) for finding in found]
            elif found:
                supersede(store.folder(run_id), is_damaged=True)
                moved.append(run_id)
    return Quarantined(tuple(moved), tuple(renamed))


def _beside_the_result(store: RunStore, run_id: str) -> set[str]:
    """Return the names of a finished run's files that say nothing about its numbers or its weights."""
    try:
        spec = store.spec(run_id)
    except StoreError:
        return set()
    beside = {*CHECKPOINTS, layout.START} - {layout.weights_file(spec)}
    return beside if store.facts(run_id).done else set()


def _renamed(store: RunStore, finding: Finding) -> str:
    path = store.folder(finding.run_id) / finding.file
    return f"{path} {finding.problem}; the file was renamed {quarantine_file(path).name}; the result stays"


def _check_run(
    store: RunStore, run_id: str, check_metrics: CheckMetrics, load: LoadCheckpoint | None
) -> Iterator[Finding]:
    folder = store.folder(run_id)
    spec, record, problems = _documents(store, run_id)
    if record is not None and record.status == "done" and spec is not None:
        problems += _result_problems(folder, spec, record, check_metrics)
        if problem := _guarded(_start_problem, folder / layout.START, spec, record):
            is_there = os.path.lexists(folder / layout.START)
            yield Finding(run_id, layout.START, damaged=is_there, problem=problem)
    if load is not None:
        checked = (
            (path.name, _checkpoint_problem(path, load))
            for path in sorted(folder.glob(layout.ALL_CHECKPOINTS))
        )
        problems += [(name, problem) for name, problem in checked if problem]
    yield from (Finding(run_id, file, damaged=True, problem=problem) for file, problem in problems)
    yield from _leftovers(run_id, folder)


def _documents(
    store: RunStore, run_id: str
) -> tuple[RunSpec | None, RunRecord | None, list[tuple[str, str]]]:
    """Return a run's spec and record (None if unreadable), and the problems of its documents."""
    spec = record = None
    problems = []
    try:
        spec = store.spec(run_id)
    except StoreError as error:
        problems.append((layout.SPEC, str(error)))
    try:
        record = store.record(run_id)
    except StrangerError:
        problems += _strangers(store, run_id)
    except StoreError as error:
        problems.append((layout.RECORD, str(error)))
    try:
        numbers = [attempt.number for attempt in store.attempts(run_id)]
    except StoreError as error:
        problems.append((layout.ATTEMPTS, str(error)))
    else:
        if record is not None and record.attempt not in numbers:
            problems.append((layout.ATTEMPTS, f"attempt {record.attempt}, which made the record, is missing"))
    if record is not None:
        problems += [(layout.RECORD, problem) for problem in _record_problems(record)]
    return spec, record, problems


def _strangers(store: RunStore, run_id: str) -> Iterator[tuple[str, str]]:
    folder = str(store.folder(run_id))
    for name in RESULT_FILES:
        if problem := stranger_in(folder, name, run_id):
            yield name, problem.removeprefix(f"{folder}/{name} ")


def _result_problems(
    folder: Path, spec: RunSpec, record: RunRecord, check_metrics: CheckMetrics
) -> list[tuple[str, str]]:
    predictions = partial(_predictions_problem, check_metrics=check_metrics)
    checks: dict[str, Check] = {layout.CURVE: _curve_problem, layout.PREDICTIONS: predictions}
    checked = [(file, _guarded(check, folder / file, spec, record)) for file, check in checks.items()]
    problems = [(file, problem) for file, problem in checked if problem]
    weights = layout.weights_file(spec)
    if not (folder / weights).exists() and not (folder / layout.DROPPED).exists():
        problems.append((weights, "is missing: the run has no weights to load"))
    return problems


def _record_problems(record: RunRecord) -> Iterator[str]:
    if record.status == "done" and not record.metrics:
        yield "is done without a metric"


def _guarded(check: Check, path: Path, spec: RunSpec, record: RunRecord) -> str | None:
    try:
        return check(path, spec, record)
    except FileNotFoundError:
        return "is missing"
    except NotRegularFileError as error:
        return str(error.strerror)
    except StoreError as error:
        return str(error).removeprefix(f"{path} ")
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        return f"cannot be read: {error}"


def _curve_problem(path: Path, spec: RunSpec, _record: RunRecord) -> str | None:
    epochs = [row["epoch"] for row in curve_rows(path.parent)]
    if epochs == [str(number) for number in range(1, spec.recipe.epochs + 1)]:
        return None
    return f"has {number_of(len(epochs), 'row')}, not one per epoch ({spec.recipe.epochs})"


def _start_problem(path: Path, spec: RunSpec, record: RunRecord) -> str | None:
    return start_problem(path.parent, spec, record)


def _predictions_problem(
    path: Path, spec: RunSpec, record: RunRecord, check_metrics: CheckMetrics
) -> str | None:
    """Compare predictions with the record's metrics and, except in older records, with its hash."""
    arrays = read_predictions(path.parent)
    if (owner := owner_of(arrays)) not in {"", spec.run_id}:
        return f"holds the predictions of {owner!r}"
    if problem := check_metrics(arrays, spec, record.metrics):
        return problem
    actual = content_sha256(arrays)
    if record.predictions_sha256 in {"", actual}:
        return None
    return f"has contents of the hash {actual[:16]}, but the record says {record.predictions_sha256[:16]}"


def _checkpoint_problem(path: Path, load: LoadCheckpoint) -> str | None:
    if not path.is_file():
        return "is no regular file"
    try:
        with zipfile.ZipFile(path) as archive:  # torch writes checksums but never compares them
            if wrong := archive.testzip():
                return f"is damaged: the checksum of {wrong} is wrong"
        run_id = load(path).get(layout.RUN_ID_FIELD, path.parent.name)
    except Exception as error:  # torch passes on the errors of its many readers
        reason = str(error).strip().splitlines()
        return f"cannot be loaded: {reason[0] if reason else type(error).__name__}"
    return None if run_id == path.parent.name else f"is the checkpoint of {run_id!r}"


def _leftovers(run_id: str, folder: Path) -> Iterator[Finding]:
    for path in [*_entries(folder), *_entries(folder / layout.ATTEMPTS)]:
        if path.name.endswith(PARTIAL):
            problem = "was left half-written"
        elif DAMAGED in path.name:
            problem = "is quarantined"
        elif not _is_store_file(folder, path):
            problem = "is not a file of the store"
        else:
            continue
        yield Finding(run_id, str(path.relative_to(folder)), damaged=False, problem=problem)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # `_documents` reports the problem
        return []


def _is_store_file(folder: Path, path: Path) -> bool:
    if path.parent == folder:
        return path.name in layout.RUN_FILES
    return layout.attempt_number(path.name) is not None
