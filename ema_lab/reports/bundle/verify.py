"""The check of a bundle: what follows from its records is built again, they are held against each other."""

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from ema_lab.errors import EmaLabError, StoreError, error_summary
from ema_lab.files import restrict_reading
from ema_lab.reports.bundle.bundle import FACTS, RUNS, SUMS, WHEELS, built_files
from ema_lab.reports.bundle.unpack import UNREADABLE, require_plain_files, unpacked
from ema_lab.reports.bundle.wheel import package_files, wheel_files
from ema_lab.reports.check.compare import compare
from ema_lab.specs.report import REPORT_NAME
from ema_lab.specs.run import RunSpec
from ema_lab.store.curve import read_curve
from ema_lab.store.layout import RECORD
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore

MADE = {".venv", "again", "data"}  # what reproduce.sh leaves in the folder that it runs in
# The split that a protocol chooses the epoch by.
WATCHED = {"best-val": "val", "best-test": "test"}
COMPUTED = (
    "computed again: the run ids from the specs; every table, the page, the figures, bundle.json, "
    "requirements.txt and reproduce.sh from specs, records, curves and definitions"
)
SUMMED = (
    f"compared with {SUMS} alone, which whoever changes a file can write anew: what runs measured "
    "(other metrics, costs, times, curves), attempts, logs, definitions, the wheel"
)


@dataclass(frozen=True)
class Verification:
    """What is wrong with a bundle, one line each, and what is to be said of the check itself.

    Attributes:
        problems: Differences.
        words: On what could not be compared, then on what was computed again and what was not.
    """

    problems: tuple[str, ...]
    words: tuple[str, ...]


def verify_bundle(path: Path) -> Verification:
    """Build a bundle's report again, and compare all that can be compared.

    Args:
        path: A bundle, or the folder that one was unpacked into.

    Raises:
        StoreError: If it is no bundle.
    """
    with unpacked(path) as folder, restrict_reading(folder):
        require_plain_files(folder, MADE if path.is_dir() else ())
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            name, made_with = str(facts["report"]), str(facts["ema_lab"])
            sums = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise StoreError(f"{path} is no bundle: {FACTS} or {SUMS} is not there or not whole") from None
        if not re.fullmatch(REPORT_NAME, name):
            raise StoreError(f"{path} is no bundle: {FACTS} names the report {name!r:.80}, which is no name")
        listed = {file: digest for digest, _, file in (line.partition("  ") for line in sums)}
        problems = list(_changed_files(folder, listed, ignored=MADE if path.is_dir() else ()))
        if made_with != version("ema-lab"):
            problems.append(f"made with ema-lab {made_with}, checked with {version('ema-lab')}")
        words = [*_other_package(folder)]
        with chdir(folder):
            runs = _Runs(RunStore(RUNS))
            problems += runs.problems()
            try:
                built = built_files(name, made_with)
            except Exception as error:  # whoever changed a record may have broken all that reads it
                reason = str(error) if isinstance(error, EmaLabError) else error_summary(error)
                problems.append(f"the report cannot be built again: {reason}")
            else:
                there = {file: built[file] for file in built if file not in listed or Path(file).is_file()}
                found, not_compared = compare(Path(), there)
                problems += map(str, found)
                words += [*not_compared, COMPUTED]
        return Verification(tuple(problems), (*words, runs.held(), SUMMED))


def _changed_files(folder: Path, listed: Mapping[str, str], ignored: Collection[str]) -> Iterator[str]:
    """Yield a line for each file that is not as the checksums (by name) have it, or that they do not have."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name, digest in listed.items():
        if name not in names:
            yield f"{name} is not there"
        elif hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            yield f"{name} was changed"
    for name in sorted(names - listed.keys() - {SUMS}):
        if PurePosixPath(name).parts[0] not in ignored:
            yield f"{name} is not listed in {SUMS}"


def _other_package(folder: Path) -> Iterator[str]:
    """Yield a line for each wheel that holds another package than the one that checks."""
    for path in sorted((folder / WHEELS).glob("*.whl")):
        try:
            is_ours = wheel_files(path.read_bytes()) == package_files()
        except (*UNREADABLE, StoreError):
            is_ours = False
        if not is_ours:
            yield f"{WHEELS}/{path.name}: not compared: it holds another ema-lab than the one that checks"


class _Runs:
    """The runs of a bundle, held against their ids, their curves and each other."""

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
        yield from self._unequal_costs()

    def held(self) -> str:
        """Return what was held against each other."""
        known = f"{self.with_curve} of {len(self.done)} runs"
        return (
            "held against each other: each record's chosen epoch and its recipe and curve; its metrics and "
            f"its curve, which has them of {known}; the costs of equal models"
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
            given = f"chosen_epoch: {record.chosen_epoch} is written"
            yield f"{self._path(run_id)}: {given}, {spec.recipe.protocol} gives {chosen}"
            return
        row = next((row for row in rows if row.get("epoch") == record.chosen_epoch), {})
        known = {name: row[f"test_{name}"] for name in record.metrics if f"test_{name}" in row}
        self.with_curve += bool(known)
        for name, value in known.items():
            if not math.isclose(record.metrics[name], value, rel_tol=1e-6, abs_tol=1e-9):
                given = f"metrics.{name}: {record.metrics[name]!r} is written"
                yield f"{self._path(run_id)}: {given}, the curve has {value!r} at epoch {record.chosen_epoch}"

    def _unequal_costs(self) -> Iterator[str]:
        first: dict[str, tuple[str, Mapping[str, Any]]] = {}
        for run_id, (spec, record) in self.done.items():
            other, cost = first.setdefault(spec.model_key, (run_id, record.cost))
            for name in sorted({*cost, *record.cost}):
                if cost.get(name) != record.cost.get(name):
                    given = f"cost.{name}: {record.cost.get(name)!r} is written"
                    yield f"{self._path(run_id)}: {given}, {cost.get(name)!r} for the same model in {other}"


def _chosen_epoch(spec: RunSpec, rows: Sequence[Mapping[str, float]]) -> int | None:
    """Return the epoch that a run's protocol chooses; None if its curve does not tell."""
    if spec.recipe.protocol == "last":
        return spec.recipe.epochs
    task = spec.data.task
    column = f"{WATCHED[spec.recipe.protocol]}_{task.primary}"
    known = [row for row in rows if column in row and "epoch" in row]
    if not known:
        return None
    best = max(known, key=lambda row: task.metrics[task.primary].sign * row[column])  # of equals, the first
    return int(best["epoch"])
