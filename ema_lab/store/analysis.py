"""Analyses of a run's predictions, kept beside them so that reports compute each only once.

An entry is valid for the predictions and the code that made it. A bundle has no predictions: its entries
count for whatever code reads them.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ema_lab.errors import StoreError
from ema_lab.store.document import read_json, write_json
from ema_lab.store.layout import ANALYSIS, PREDICTIONS
from ema_lab.store.record import RunRecord

Analysis = Mapping[str, Any]


def analysis_key(kind: str, settings: Mapping[str, Any]) -> str:
    """Return the name of an analysis in its file, such as `curves {"iou": 0.5}`."""
    return f"{kind} {json.dumps(dict(settings), sort_keys=True)}"


def read_analyses(folder: Path, record: RunRecord, code: str) -> dict[str, Analysis]:
    """Return the valid analyses of a run by key. A damaged file counts as absent.

    Args:
        folder: Folder of the run.
        record: The run's record, which says of what predictions the entries must be.
        code: Hash of the code that computes analyses.
    """
    try:
        content = read_json(folder / ANALYSIS)
    except (FileNotFoundError, StoreError):
        return {}
    facts = _facts(record)
    entries = content.get("entries")
    if not record.predictions_sha256 or not isinstance(entries, dict):
        return {}
    if any(content.get(key) != value for key, value in facts.items()):
        return {}
    if content.get("code") != code and (folder / PREDICTIONS).exists():
        return {}
    return {key: entry for key, entry in entries.items() if isinstance(entry, dict)}


def analysis_document(record: RunRecord, code: str, entries: Mapping[str, Analysis]) -> dict[str, Any]:
    """Return the content of a run's file of analyses."""
    return {**_facts(record), "code": code, "entries": dict(entries)}


def write_analyses(folder: Path, record: RunRecord, code: str, entries: Mapping[str, Analysis]) -> None:
    """Keep the analyses of a run. A store that cannot be written keeps none, and loses only time."""
    if record.predictions_sha256:
        with suppress(OSError):
            write_json(folder / ANALYSIS, analysis_document(record, code, entries), durable=False)


def _facts(record: RunRecord) -> dict[str, str]:
    return {"run_id": record.run_id, "predictions_sha256": record.predictions_sha256}
