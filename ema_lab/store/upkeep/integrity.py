"""Whether a store is whole: every file of every run is read, and held against the others."""

import csv
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ema_lab.errors import StoreError
from ema_lab.files import PARTIAL
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import HEARTBEAT
from ema_lab.store.quarantine import SUPERSEDED
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore

DROPPED = "weights.dropped"  # left by `store gc --drop-weights`: no weights are no damage then
KNOWN = {
    "spec.json", "record.json", "curve.csv", "predictions.npz", "attempts", "last.ckpt", "best.ckpt",
    "log.txt", HEARTBEAT, SUPERSEDED, DROPPED,
}  # fmt: skip
RUN_ID = re.compile(r"[0-9a-f]{16}")
LoadCheckpoint = Callable[[Path], object]


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
            yield from _check_run(store, name, load_checkpoint)
        watch(number, len(names))
    locks = {path.stem for path in (store.root / ".locks").glob("*.lock")}
    for run_id in sorted(name for name in locks - set(names) if RUN_ID.fullmatch(name)):
        yield Finding(run_id, f".locks/{run_id}.lock", damaged=False, problem="a lock without a run")


def _check_run(store: RunStore, run_id: str, load: LoadCheckpoint | None) -> Iterator[Finding]:
    folder = store.folder(run_id)
    spec, record, problems = _documents(store, run_id)
    if record is not None and record.status == "done" and spec is not None:
        problems += _result_problems(folder, spec, record)
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


def _result_problems(folder: Path, spec: RunSpec, record: RunRecord) -> list[tuple[str, str]]:
    checks = {"curve.csv": _curve_problem, "predictions.npz": _predictions_problem}
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


def _guarded(
    check: Callable[[Path, RunSpec, RunRecord], str | None], path: Path, spec: RunSpec, record: RunRecord
) -> str | None:
    try:
        return check(path, spec, record)
    except FileNotFoundError:
        return "is not there"
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        return f"cannot be read: {error}"


def _curve_problem(path: Path, spec: RunSpec, _record: RunRecord) -> str | None:
    with path.open(newline="", encoding="utf-8") as file:
        epochs = [row["epoch"] for row in csv.DictReader(file)]
    if epochs == [str(number) for number in range(1, spec.recipe.epochs + 1)]:
        return None
    return f"has {len(epochs)} rows, not one for each of {spec.recipe.epochs} epochs"


def _predictions_problem(path: Path, spec: RunSpec, record: RunRecord) -> str | None:
    """Hold the predictions against the data set and the record.

    Where several classes share the largest logit, as they do in bf16, libraries choose differently
    among them: the top-1 may then be any that a choice gives.
    """
    import numpy as np

    with path.open("rb") as file, np.load(file) as saved:
        logits, labels = saved["logits"], saved["labels"]
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
