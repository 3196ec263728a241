"""Export of all records of a store to one file."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ema_lab.errors import StoreError
from ema_lab.files import atomic_write
from ema_lab.store.store import RunStore

Names = Callable[[str], Mapping[str, Any]]


def flattened(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested data to one mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def flat_records(
    store: RunStore, unreadable: list[str], names: Names = lambda run_id: {}
) -> Iterator[dict[str, Any]]:
    """Yield each record as one flat object: its names, its spec under `spec.`, lists as JSON text.

    Unreadable runs are skipped; each adds one line to `unreadable`.
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
            flat = {"run_id": run_id, **names(run_id), **flattened(tree)}
            yield {k: json.dumps(v) if isinstance(v, list) else v for k, v in flat.items()}


def export(store: RunStore, path: Path, names: Names = lambda run_id: {}) -> tuple[int, list[str]]:
    """Write all records to a .jsonl, .csv or .parquet file, atomically.

    Args:
        store: The store.
        path: The file.
        names: Returns a run's ablations and rows as flat keys, which are written beside its id.

    Returns:
        The number of records, and one line per unreadable run.

    Raises:
        StoreError: If the file has another extension, a package is missing, or the file cannot be written.
    """
    writers = {".jsonl": _write_jsonl, ".csv": _write_csv, ".parquet": _write_parquet}
    if path.suffix not in writers:
        raise StoreError(f"export writes a .jsonl, .csv or .parquet file, got {path.name}")
    try:
        with atomic_write(path) as partial:
            unreadable: list[str] = []
            rows = list(flat_records(store, unreadable, names))
            writers[path.suffix](rows, partial)
            return len(rows), unreadable
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from None


def _write_jsonl(rows: list[dict[str, Any]], path: Path) -> None:
    path.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), encoding="utf-8")


def _write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        hint = "pip install 'ema-lab[parquet]', or export to a .jsonl file"
        raise StoreError(f"a .parquet file needs the package pyarrow: {hint}") from None
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = {key: _uniform([row.get(key) for row in rows]) for key in keys}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def _uniform(values: list[Any]) -> list[Any]:
    """Convert a column to one type, as Parquet requires: mixed types become text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1:
        return values
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
