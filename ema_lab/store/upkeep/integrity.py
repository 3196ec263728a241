"""Whether a store is whole: every file of every run is read, and held against the others."""

import io
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ema_lab.errors import StoreError
from ema_lab.files import DAMAGED, PARTIAL, NoRegularFileError, read_bytes
from ema_lab.specs.run import RunSpec
from ema_lab.store import layout
from ema_lab.store.curve import curve_rows
from ema_lab.store.quarantine import supersede
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore

LoadCheckpoint = Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True)
class Finding:
    """Something to know about a file of a run; `damaged` if a result or a checkpoint suffers by it."""

    run_id: str
    file: str
    damaged: bool
    problem: str


def check_store(
    store: RunStore,
    load_checkpoint: LoadCheckpoint | None = None,
    watch: Callable[[int, int], None] = lambda checked, total: None,
) -> Iterator[Finding]:
    """Yield what is wrong with a store, run by run; a run that a process works on is left out.

    Args:
        store: The store.
        load_checkpoint: Returns a checkpoint, or raises if that cannot be; None leaves checkpoints out.
        watch: Told after each run how many of how many are checked.
    """
    names = sorted(store.folder_names())
    for number, name in enumerate(names, 1):
        if not layout.RUN_ID.fullmatch(name):
            yield Finding("", name, damaged=False, problem="is no run folder")
        elif store.is_locked(name):
            yield Finding(name, "", damaged=False, problem="a process works on it: not checked")
        else:
            yield from _check_run(store, name, load_checkpoint)
        watch(number, len(names))
    locks = {path.stem for path in (store.root / layout.LOCKS).glob("*.lock")}
    for run_id in sorted(name for name in locks - set(names) if layout.RUN_ID.fullmatch(name)):
        yield Finding(run_id, f"{layout.LOCKS}/{run_id}.lock", damaged=False, problem="a lock without a run")


def set_damaged_runs_aside(
    store: RunStore, run_ids: Iterable[str], load_checkpoint: LoadCheckpoint | None = None
) -> list[str]:
    """Move all files of damaged runs aside, so that the runs are pending; return the ids of those.

    Each is checked again under its lock. A run that a process works on, or whose files another user or a
    later version of this package can read, stays as it is.
    """
    moved = []
    for run_id in run_ids:
        with store.claim(run_id) as claimed:
            if not claimed or store.facts(run_id).unreadable:
                continue
            if not all(os.access(path, os.R_OK) for path in _entries(store.folder(run_id))):
                continue
            if any(finding.damaged for finding in _check_run(store, run_id, load_checkpoint)):
                supersede(store.folder(run_id))
                moved.append(run_id)
    return moved


def _check_run(store: RunStore, run_id: str, load: LoadCheckpoint | None) -> Iterator[Finding]:
    folder = store.folder(run_id)
    spec, record, problems = _documents(store, run_id)
    if record is not None and record.status == "done" and spec is not None:
        problems += _result_problems(folder, spec, record)
    if load is not None:
        found = (
            (path.name, _checkpoint_problem(path, load))
            for path in sorted(folder.glob(layout.ALL_CHECKPOINTS))
        )
        problems += [(name, problem) for name, problem in found if problem]
    yield from (Finding(run_id, file, damaged=True, problem=problem) for file, problem in problems)
    yield from _leftovers(run_id, folder)


def _documents(
    store: RunStore, run_id: str
) -> tuple[RunSpec | None, RunRecord | None, list[tuple[str, str]]]:
    """Return a run's spec and record, as far as they can be read, and what is wrong with its documents."""
    spec = record = None
    problems = []
    try:
        spec = store.spec(run_id)
    except StoreError as error:
        problems.append((layout.SPEC, str(error)))
    try:
        record = store.record(run_id)
    except StoreError as error:
        problems.append((layout.RECORD, str(error)))
    try:
        numbers = [attempt.number for attempt in store.attempts(run_id)]
    except StoreError as error:
        problems.append((layout.ATTEMPTS, str(error)))
    else:
        if record is not None and record.attempt not in numbers:
            problems.append(
                (layout.ATTEMPTS, f"attempt {record.attempt}, which made the record, is not there")
            )
    if record is not None:
        problems += [(layout.RECORD, problem) for problem in _record_problems(record)]
    return spec, record, problems


def _result_problems(folder: Path, spec: RunSpec, record: RunRecord) -> list[tuple[str, str]]:
    checks = {layout.CURVE: _curve_problem, layout.PREDICTIONS: _predictions_problem}
    found = [(file, _guarded(check, folder / file, spec, record)) for file, check in checks.items()]
    problems = [(file, problem) for file, problem in found if problem]
    weights = layout.weights_file(spec)
    if not (folder / weights).exists() and not (folder / layout.DROPPED).exists():
        problems.append((weights, "is not there: the run has no weights to load"))
    return problems


def _record_problems(record: RunRecord) -> Iterator[str]:
    if record.status == "done" and not record.metrics:
        yield "is done without a metric"


def _guarded(
    check: Callable[[Path, RunSpec, RunRecord], str | None], path: Path, spec: RunSpec, record: RunRecord
) -> str | None:
    try:
        return check(path, spec, record)
    except FileNotFoundError:
        return "is not there"
    except NoRegularFileError as error:
        return str(error.strerror)
    except StoreError as error:
        return str(error)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        return f"cannot be read: {error}"


def _curve_problem(path: Path, spec: RunSpec, _record: RunRecord) -> str | None:
    epochs = [row["epoch"] for row in curve_rows(path.parent)]
    if epochs == [str(number) for number in range(1, spec.recipe.epochs + 1)]:
        return None
    return f"has {len(epochs)} rows, not one for each of {spec.recipe.epochs} epochs"


def _predictions_problem(path: Path, spec: RunSpec, record: RunRecord) -> str | None:
    """Hold the predictions against the data set and the record.

    Where several classes share the largest logit, as they do in bf16, libraries choose differently
    among them: the top-1 may then be any that a choice gives.
    """
    import numpy as np

    with np.load(io.BytesIO(read_bytes(path))) as saved:
        logits, labels = saved["logits"], saved["labels"]
        run_id = str(saved[layout.RUN_ID_FIELD]) if layout.RUN_ID_FIELD in saved else spec.run_id
    if run_id != spec.run_id:
        return f"holds the predictions of {run_id!r}"
    facts = spec.data.facts
    if logits.shape != (facts.test_images, facts.classes) or labels.shape != (facts.test_images,):
        found = f"{logits.shape} logits and {len(labels)} labels"
        return f"has {found}, not {facts.test_images} images of {facts.classes} classes"
    if not np.isfinite(logits).all():
        return "has logits that are no finite numbers"
    mine = np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)[:, 0]
    possible = mine >= logits.max(axis=1)
    certain = possible & ((logits == mine[:, None]).sum(axis=1) == 1)
    low, high = 100 * float(certain.mean()), 100 * float(possible.mean())
    top1 = record.metrics.get("top1", math.nan)
    if low - 1e-9 <= top1 <= high + 1e-9:
        return None
    return f"gives a top-1 of {high:.6g}, and the record says {top1:.6g}"


def _checkpoint_problem(path: Path, load: LoadCheckpoint) -> str | None:
    if not path.is_file():
        return "is no regular file"
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not compare the checksums that it writes
            if wrong := archive.testzip():
                return f"is damaged: the checksum of {wrong} is wrong"
        run_id = load(path).get(layout.RUN_ID_FIELD, path.parent.name)
    except Exception as error:  # torch raises what its readers raise
        reason = str(error).strip().splitlines()
        return f"cannot be loaded: {reason[0] if reason else type(error).__name__}"
    return None if run_id == path.parent.name else f"is the checkpoint of {run_id!r}"


def _leftovers(run_id: str, folder: Path) -> Iterator[Finding]:
    for path in [*_entries(folder), *_entries(folder / layout.ATTEMPTS)]:
        if path.name.endswith(PARTIAL):
            problem = "was left half-written"
        elif DAMAGED in path.name:
            problem = "was set aside"
        elif not _is_ours(folder, path):
            problem = "is no file of ours"
        else:
            continue
        yield Finding(run_id, str(path.relative_to(folder)), damaged=False, problem=problem)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # `_documents` has named what is wrong with it
        return []


def _is_ours(folder: Path, path: Path) -> bool:
    if path.parent == folder:
        return path.name in layout.RUN_FILES
    return layout.attempt_number(path.name) is not None
