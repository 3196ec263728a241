"""Verification of a bundle: rebuild derived files, and check the records for consistency."""

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from statistics import StatisticsError, fmean
from typing import Any

from ema_lab.errors import EmaLabError, StoreError, error_summary
from ema_lab.files import restrict_reading
from ema_lab.reports.bundle.bundle import FACTS, RUNS, SUMS, WHEELS, built_files
from ema_lab.reports.bundle.unpack import UNREADABLE, require_plain_files, unpacked
from ema_lab.reports.bundle.wheel import package_files, wheel_files
from ema_lab.reports.check.compare import compare
from ema_lab.specs.report_form import REPORT_NAME
from ema_lab.specs.run import RunSpec
from ema_lab.store.analysis import analysis_key, read_analyses
from ema_lab.store.curve import read_curve
from ema_lab.store.layout import ANALYSIS, RECORD, START
from ema_lab.store.record import RunRecord
from ema_lab.store.start import start_problem
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of

MADE = {".venv", "again", "data"}  # folders that reproduce.sh creates
# Split by which a protocol chooses the epoch.
WATCHED = {"best-val": "val", "best-test": "test"}
COMPUTED = (
    "rebuilt and compared: the run ids from the specs; every table, the page, the figures, bundle.json, "
    "requirements.txt and reproduce.sh from specs, records, curves and definitions"
)
SUMMED = (
    f"checked only by {SUMS}, which anyone who edits a file can recompute: what runs measured "
    "(other metrics, costs, times, curves, what was derived from predictions), attempts, logs, definitions, "
    "the wheel"
)


@dataclass(frozen=True)
class Verification:
    """Result of a verification: the problems, one line each, and remarks on the scope of the check.

    Attributes:
        problems: Differences.
        remarks: What could not be compared, what was rebuilt, and what was not.
    """

    problems: tuple[str, ...]
    remarks: tuple[str, ...]


def verify_bundle(path: Path) -> Verification:
    """Rebuild a bundle's report and compare everything that can be compared.

    Args:
        path: Bundle, or the folder that it was unpacked into.

    Raises:
        StoreError: If the path is not a bundle.
    """
    with unpacked(path) as folder, restrict_reading(folder):
        require_plain_files(folder, MADE if path.is_dir() else ())
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            name, made_with = str(facts["report"]), str(facts["ema_lab"])
            sums = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise StoreError(f"{path} is not a bundle: {FACTS} or {SUMS} is missing or damaged") from None
        if not re.fullmatch(REPORT_NAME, name):
            raise StoreError(f"{path} is not a bundle: {FACTS} has the invalid report name {name!r:.80}")
        listed = {file: digest for digest, _, file in (line.partition("  ") for line in sums)}
        problems = list(_changed_files(folder, listed, ignored=MADE if path.is_dir() else ()))
        if made_with != version("ema-lab"):
            problems.append(f"made with ema-lab {made_with}, checked with {version('ema-lab')}")
        remarks = [*_other_package(folder)]
        with chdir(folder):
            runs = _Runs(RunStore(RUNS))
            problems += runs.problems()
            try:
                built = built_files(name, made_with)
            except Exception as error:  # an edited record can break any code that reads it
                reason = str(error) if isinstance(error, EmaLabError) else error_summary(error)
                problems.append(f"the report cannot be built again: {reason}")
            else:
                present = {file: built[file] for file in built if file not in listed or Path(file).is_file()}
                differences, not_compared = compare(Path(), present)
                problems += map(str, differences)
                remarks += [*not_compared, COMPUTED]
        return Verification(tuple(problems), (*remarks, runs.cross_checks(), SUMMED))


def _changed_files(folder: Path, listed: Mapping[str, str], ignored: Collection[str]) -> Iterator[str]:
    """Yield a line for each file that differs from its checksum, or has no checksum."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name, digest in listed.items():
        if name not in names:
            yield f"{name} is missing"
        elif hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            yield f"{name} was changed"
    for name in sorted(names - listed.keys() - {SUMS}):
        if PurePosixPath(name).parts[0] not in ignored:
            yield f"{name} is not listed in {SUMS}"


def _other_package(folder: Path) -> Iterator[str]:
    """Yield a line for each wheel with another package than the running one."""
    for path in sorted((folder / WHEELS).glob("*.whl")):
        try:
            is_ours = wheel_files(path.read_bytes()) == package_files()
        except (*UNREADABLE, StoreError):
            is_ours = False
        if not is_ours:
            yield f"{WHEELS}/{path.name}: not compared: the wheel holds another version of ema-lab's code"


class _Runs:
    """Runs of a bundle, checked against their ids, their curves and each other."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.done: dict[str, tuple[RunSpec, RunRecord]] = {}
        self.unread: list[str] = []
        self.with_curve = 0
        for run_id in sorted(store.folder_names()):
            try:
                spec, record = store.spec(run_id), store.record(run_id)
            except EmaLabError as error:
                self.unread.append(str(error))
                continue
            if record is not None and record.run_id != run_id:
                self.unread.append(f"{self._path(run_id)}: is the record of the run {record.run_id}")
            elif record is not None and record.status == "done":
                self.done[run_id] = spec, record

    def problems(self) -> Iterator[str]:
        yield from self.unread
        for run_id, (spec, record) in self.done.items():
            yield from self._against_curve(run_id, spec, record)
            yield from self._against_classes(run_id, record)
            yield from self._against_images(run_id, record)
            yield from self._against_start(run_id, spec, record)
        yield from self._unequal_costs()

    def cross_checks(self) -> str:
        """Return a remark on the consistency checks."""
        known = f"{self.with_curve} of {number_of(len(self.done), 'run')}"
        return (
            "cross-checked: each record's chosen epoch with its recipe and curve; its metrics with its "
            f"curve, which has them for {known}, and with its results by class and test "
            "image; its numbers of start weights with their table; the costs of equal models"
        )

    def _path(self, run_id: str) -> str:
        return f"{RUNS}/{run_id}/{RECORD}"

    def _against_curve(self, run_id: str, spec: RunSpec, record: RunRecord) -> Iterator[str]:
        try:
            rows = read_curve(self.store.folder(run_id), strict=True)
        except StoreError as error:
            yield str(error)
            return
        chosen = _chosen_epoch(spec, rows)
        if chosen is not None and record.chosen_epoch != chosen:
            written = f"chosen_epoch: {record.chosen_epoch} is written"
            yield f"{self._path(run_id)}: {written}, {spec.recipe.protocol} gives {chosen}"
            return
        row = next((row for row in rows if row.get("epoch") == record.chosen_epoch), {})
        known = {name: row[f"test_{name}"] for name in record.metrics if f"test_{name}" in row}
        self.with_curve += bool(known)
        for name, value in known.items():
            if not math.isclose(record.metrics[name], value, rel_tol=1e-6, abs_tol=1e-9):
                metric, at_epoch = f"{name}: {record.metrics[name]!r}", f"at epoch {record.chosen_epoch}"
                yield f"{self._path(run_id)}: metrics.{metric} is written, the curve has {value!r} {at_epoch}"

    def _against_classes(self, run_id: str, record: RunRecord) -> Iterator[str]:
        """Compare the means over classes, as far as the bundle has results by class, with the record."""
        for key, entry in read_analyses(self.store.folder(run_id), record, "").items():
            for name, values in entry.items() if key.startswith("classes ") else ():
                if name not in record.metrics:
                    continue
                mean = _class_mean(values, entry.get("weights"))
                if not math.isclose(record.metrics[name], mean, abs_tol=1e-3):
                    path = f"{RUNS}/{run_id}/{ANALYSIS}"
                    text = f"the mean of {name} over classes is {mean:.6g}"
                    yield f"{path}: {text}, the record has {record.metrics[name]:.6g}"

    def _against_images(self, run_id: str, record: RunRecord) -> Iterator[str]:
        """Compare the metrics by test image, as far as the bundle has them, with the record."""
        entries = read_analyses(self.store.folder(run_id), record, "")
        for name, known in record.metrics.items():
            if (entry := entries.get(analysis_key("images", {"metric": name}))) is None:
                continue
            value = entry.get("value")
            if not isinstance(value, int | float) or not math.isclose(known, value, abs_tol=1e-3):
                path = f"{RUNS}/{run_id}/{ANALYSIS}"
                yield f"{path}: {name} over all test images is {value!r:.80}, the record has {known:.6g}"

    def _against_start(self, run_id: str, spec: RunSpec, record: RunRecord) -> Iterator[str]:
        """Compare the record's numbers of start weights with the spec and the table of tensors."""
        try:
            problem = start_problem(self.store.folder(run_id), spec, record)
        except FileNotFoundError:
            yield f"{RUNS}/{run_id}/{START} is missing: the run starts from a file of weights"
        except (OSError, StoreError) as error:
            yield str(error)
        else:
            if problem:
                yield f"{self._path(run_id)}: {problem}"

    def _unequal_costs(self) -> Iterator[str]:
        first: dict[str, tuple[str, Mapping[str, Any]]] = {}
        for run_id, (spec, record) in self.done.items():
            other, cost = first.setdefault(spec.model_key, (run_id, record.cost))
            for name in sorted({*cost, *record.cost}):
                if cost.get(name) != record.cost.get(name):
                    written = f"cost.{name}: {record.cost.get(name)!r} is written"
                    yield f"{self._path(run_id)}: {written}, {cost.get(name)!r} for the same model in {other}"


def _class_mean(values: Any, weights: Any) -> float:
    """Return the weighted mean over the classes that have a value; NaN if the lists are damaged."""
    try:
        known = [(float(v), float(w)) for v, w in zip(values, weights, strict=True) if v is not None]
        return fmean([value for value, _ in known], [weight for _, weight in known])
    except (TypeError, ValueError, StatisticsError):
        return math.nan


def _chosen_epoch(spec: RunSpec, rows: Sequence[Mapping[str, float]]) -> int | None:
    """Return the epoch that a run's protocol chooses; None if its curve lacks the column."""
    if spec.recipe.protocol == "last":
        return spec.recipe.epochs
    task = spec.data.task
    column = f"{WATCHED[spec.recipe.protocol]}_{task.primary}"
    known = [row for row in rows if column in row and "epoch" in row]
    if not known:
        return None
    best = max(known, key=lambda row: task.metrics[task.primary].sign * row[column])  # of equals, the first
    return int(best["epoch"])
