"""Whether a store is whole: every file of every run is read, and held against the others."""

import csv
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ema_lab.errors import DamagedFileError, StoreError
from ema_lab.files import PARTIAL
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import HEARTBEAT
from ema_lab.store.predictions import FILE as PREDICTIONS
from ema_lab.store.predictions import content_sha256, read_predictions
from ema_lab.store.quarantine import SUPERSEDED
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.remeasure import CheckMetrics

DROPPED = "weights.dropped"  # left by `store gc --drop-weights`: no weights are no damage then
KNOWN = {
    "spec.json", "record.json", "curve.csv", PREDICTIONS, "attempts", "last.ckpt", "best.ckpt",
    "log.txt", HEARTBEAT, SUPERSEDED, DROPPED,
}  # fmt: skip
RUN_ID = re.compile(r"[0-9a-f]{16}")
LoadCheckpoint = Callable[[Path], object]
Check = Callable[[Path, RunSpec, RunRecord], str | None]


@dataclass(frozen=True)
class Finding:
    """Something to know about a file of a run; `damaged` if a result or a checkpoint suffers by it."""

    run_id: str
    file: str
    damaged: bool
    problem: str


def check_store(
    store: RunStore,
    check_metrics: CheckMetrics,
    load_checkpoint: LoadCheckpoint | None = None,
    watch: Callable[[int, int], None] = lambda checked, total: None,
) -> Iterator[Finding]:
    """Yield what is wrong with a store, run by run; a run that a process works on is left out.

    Args:
        store: The store.
        check_metrics: Returns why predictions do not fit the metrics of a record, or None.
        load_checkpoint: Loads a checkpoint and raises if that cannot be; None leaves checkpoints out.
        watch: Told after each run how many of how many are checked.
    """
    names = sorted(store.folder_names())
    for number, name in enumerate(names, 1):
        if not RUN_ID.fullmatch(name):
            yield Finding("", name, damaged=False, problem="is no run folder")
        elif store.is_locked(name):
            yield Finding(name, "", damaged=False, problem="a process works on it: not checked")
        else:
            yield from _check_run(store, name, check_metrics, load_checkpoint)
        watch(number, len(names))
    locks = {path.stem for path in (store.root / ".locks").glob("*.lock")}
    for run_id in sorted(name for name in locks - set(names) if RUN_ID.fullmatch(name)):
        yield Finding(run_id, f".locks/{run_id}.lock", damaged=False, problem="a lock without a run")


def _check_run(
    store: RunStore, run_id: str, check_metrics: CheckMetrics, load: LoadCheckpoint | None
) -> Iterator[Finding]:
    folder = store.folder(run_id)
    spec, record, problems = _documents(store, run_id)
    if record is not None and record.status == "done" and spec is not None:
        problems += _result_problems(folder, spec, record, check_metrics)
    if load is not None:
        found = ((path.name, _checkpoint_problem(path, load)) for path in sorted(folder.glob("*.ckpt")))
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
        problems.append(("spec.json", str(error)))
    try:
        record = store.record(run_id)
    except StoreError as error:
        problems.append(("record.json", str(error)))
    try:
        numbers = [attempt.number for attempt in store.attempts(run_id)]
    except StoreError as error:
        problems.append(("attempts", str(error)))
    else:
        if record is not None and record.attempt not in numbers:
            problems.append(("attempts", f"attempt {record.attempt}, which made the record, is not there"))
    if record is not None:
        problems += [("record.json", problem) for problem in _record_problems(run_id, record)]
    return spec, record, problems


def _result_problems(
    folder: Path, spec: RunSpec, record: RunRecord, check_metrics: CheckMetrics
) -> list[tuple[str, str]]:
    predictions = partial(_predictions_problem, check_metrics=check_metrics)
    checks: dict[str, Check] = {"curve.csv": _curve_problem, PREDICTIONS: predictions}
    found = [(file, _guarded(check, folder / file, spec, record)) for file, check in checks.items()]
    problems = [(file, problem) for file, problem in found if problem]
    if not (folder / weights_file(spec)).exists() and not (folder / DROPPED).exists():
        problems.append((weights_file(spec), "is not there: the run has no weights to load"))
    return problems


def weights_file(spec: RunSpec) -> str:
    """Return the name of the checkpoint that holds the weights which a run reports."""
    return "last.ckpt" if spec.recipe.protocol == "last" else "best.ckpt"


def _record_problems(run_id: str, record: RunRecord) -> Iterator[str]:
    if record.run_id != run_id:
        yield f"is the record of {record.run_id}"
    if record.status == "done" and not record.metrics:
        yield "is done without a metric"
    for name, value in record.metrics.items():
        if not math.isfinite(value):
            yield f"{name} is {value}"


def _guarded(check: Check, path: Path, spec: RunSpec, record: RunRecord) -> str | None:
    try:
        return check(path, spec, record)
    except FileNotFoundError:
        return "is not there"
    except DamagedFileError as error:
        return str(error).removeprefix(f"{path} ")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        return f"cannot be read: {error}"


def _curve_problem(path: Path, spec: RunSpec, _record: RunRecord) -> str | None:
    with path.open(newline="", encoding="utf-8") as file:
        epochs = [row["epoch"] for row in csv.DictReader(file)]
    if epochs == [str(number) for number in range(1, spec.recipe.epochs + 1)]:
        return None
    return f"has {len(epochs)} rows, not one for each of {spec.recipe.epochs} epochs"


def _predictions_problem(
    path: Path, spec: RunSpec, record: RunRecord, check_metrics: CheckMetrics
) -> str | None:
    """Compare the predictions with the metrics and with the hash in the record, which older ones lack."""
    arrays = read_predictions(path.parent)
    if problem := check_metrics(arrays, spec, record.metrics):
        return problem
    found = content_sha256(arrays)
    if record.predictions_sha256 in {"", found}:
        return None
    return f"has contents of the hash {found[:16]}, and the record says {record.predictions_sha256[:16]}"


def _checkpoint_problem(path: Path, load: LoadCheckpoint) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not compare the checksums that it writes
            if wrong := archive.testzip():
                return f"is damaged: the checksum of {wrong} is wrong"
        load(path)
    except Exception as error:  # torch raises what its readers raise
        reason = str(error).strip().splitlines()
        return f"cannot be loaded: {reason[0] if reason else type(error).__name__}"
    return None


def _leftovers(run_id: str, folder: Path) -> Iterator[Finding]:
    for path in sorted([*folder.iterdir(), *folder.glob(f"attempts/*{PARTIAL}")]):
        if path.name.endswith(PARTIAL):
            problem = "was left half-written"
        elif ".damaged-" in path.name:
            problem = "was set aside"
        elif path.name not in KNOWN and path.parent == folder:
            problem = "is no file of ours"
        else:
            continue
        yield Finding(run_id, str(path.relative_to(folder)), damaged=False, problem=problem)
