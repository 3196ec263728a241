"""Stores that meet: all records in one file, and the runs of another store merged into this one."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ema_lab.errors import StoreError
from ema_lab.files import whole
from ema_lab.store.quarantine import RECORD, supersede
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.garbage import IMPORTING

Side = Literal["ours", "theirs"]
Result = Literal["new", "equal", "taken", "kept", "conflict", "busy", "unreadable"]


def flattened(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested data as one mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def flat_records(store: RunStore, unreadable: list[str]) -> Iterator[dict[str, Any]]:
    """Yield each record as one flat object, its spec under `spec.`; lists are JSON text.

    What cannot be read is left out, and told in a line of `unreadable`.
    """
    for run_id in store.run_ids():
        try:
            facts = store.facts(run_id)
            spec = store.spec(run_id) if facts.record is not None else None
        except StoreError as error:
            unreadable.append(str(error))
            continue
        unreadable += facts.damage
        if facts.record is not None and spec is not None:
            tree = {**facts.record.model_dump(mode="json"), "spec": spec.resolved()}
            flat = {"run_id": run_id, **flattened(tree)}
            yield {k: json.dumps(v) if isinstance(v, list) else v for k, v in flat.items()}


def export(store: RunStore, path: Path) -> tuple[int, list[str]]:
    """Write all records to a .jsonl or .parquet file, whole or not at all.

    Returns:
        Their number, and a line for each run that could not be read and is left out.

    Raises:
        StoreError: If the ending is another one, a package is missing, or the file cannot be written.
    """
    writers = {".jsonl": _write_jsonl, ".parquet": _write_parquet}
    if path.suffix not in writers:
        raise StoreError(f"export writes .jsonl or .parquet, got {path.name}")
    try:
        with whole(path) as partial:
            unreadable: list[str] = []
            rows = list(flat_records(store, unreadable))
            writers[path.suffix](rows, partial)
            return len(rows), unreadable
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from None


def _write_jsonl(rows: list[dict[str, Any]], path: Path) -> None:
    path.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), encoding="utf-8")


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        hint = "pip install 'ema-lab[parquet]', or export to a .jsonl file"
        raise StoreError(f"a .parquet file needs the package pyarrow: {hint}") from None
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = {key: _one_type([row.get(key) for row in rows]) for key in keys}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def _one_type(values: list[Any]) -> list[Any]:
    """Return a column's values in one type: a column of mixed ones is text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        return values
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]


@dataclass(frozen=True)
class Imported:
    """What became of one run of the other store; for a conflict, what differs."""

    run_id: str
    result: Result
    detail: str = ""


@contextmanager
def opened(path: Path, near: Path) -> Iterator[RunStore]:
    """Give the store at a folder, or in an archive (.tar, .tar.gz, .zip), which is unpacked near another.

    Raises:
        StoreError: If it is neither.
    """
    if path.is_dir():
        yield RunStore(path)
        return
    if not path.is_file():
        raise StoreError(f"{path} is not there")
    near.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=IMPORTING, dir=near) as folder:
        try:
            shutil.unpack_archive(path, folder, filter=None if path.suffix == ".zip" else "data")
        except (ValueError, OSError, EOFError, shutil.ReadError) as error:
            rule = "import takes a store's folder, or a .tar, .tar.gz or .zip archive of it"
            raise StoreError(f"{path} cannot be unpacked ({error}): {rule}") from None
        found = [file.parent.parent for file in sorted(Path(folder).rglob("spec.json"))]
        roots = [root for root in found if "superseded" not in root.parts]
        yield RunStore(roots[0] if roots else folder)


def import_store(store: RunStore, other: RunStore, prefer: Side | None = None) -> Iterator[Imported]:
    """Merge the runs of another store into this one, and yield what became of each.

    Equal runs have the same id and the same metrics. Where both are done and differ, nothing is taken
    unless `prefer` says whose counts; ours are then kept aside.
    """
    for run_id in other.run_ids():
        try:
            other.spec(run_id)
            theirs = other.record(run_id)
        except StoreError as error:
            yield Imported(run_id, "unreadable", str(error))
            continue
        if other.state(run_id) == "running":
            yield Imported(run_id, "busy", "a process works on it there")
            continue
        with store.claim(run_id) as claimed:
            yield _import_run(store, other, run_id, theirs, prefer) if claimed else Imported(run_id, "busy")


def _import_run(
    store: RunStore, other: RunStore, run_id: str, theirs: RunRecord | None, prefer: Side | None
) -> Imported:
    if not store.folder(run_id).exists():
        _copy(store, other, run_id)
        return Imported(run_id, "new")
    ours = store.facts(run_id).record
    if theirs is None or theirs.status != "done":
        return Imported(run_id, "kept", "theirs is not done")
    if ours is None or ours.status != "done":
        _replace(store, other, run_id)
        return Imported(run_id, "taken", "ours was not done")
    if dict(ours.metrics) == dict(theirs.metrics):
        return Imported(run_id, "equal")
    names = sorted(ours.metrics.keys() | theirs.metrics.keys())
    pairs = [(name, ours.metrics.get(name), theirs.metrics.get(name)) for name in names]
    detail = ", ".join(f"{name} {mine} here, {other} there" for name, mine, other in pairs if mine != other)
    if prefer == "theirs":
        _replace(store, other, run_id)
        return Imported(run_id, "taken", detail)
    return Imported(run_id, "kept" if prefer == "ours" else "conflict", detail)


def _copy(store: RunStore, other: RunStore, run_id: str) -> None:
    """Copy a whole run folder under another name, then rename it: it is there whole or not at all."""
    partial = _copied(store, other, run_id)
    partial.rename(store.folder(run_id))


def _copied(store: RunStore, other: RunStore, run_id: str) -> Path:
    partial = store.root / f"{IMPORTING}{run_id}.{os.getpid()}"
    if partial.exists():
        shutil.rmtree(partial)
    shutil.copytree(other.folder(run_id), partial)
    return partial


def _replace(store: RunStore, other: RunStore, run_id: str) -> None:
    """Keep our run's files aside and take theirs, the record last."""
    partial = _copied(store, other, run_id)
    folder = store.folder(run_id)
    supersede(folder)
    for path in sorted(partial.iterdir(), key=lambda path: path.name == RECORD):
        if path.name not in {"superseded", "spec.json"}:
            path.rename(folder / path.name)
    if not (folder / "spec.json").exists():
        (partial / "spec.json").rename(folder / "spec.json")
    shutil.rmtree(partial)
