"""Costs that were measured before, in a folder of the store: a file per model, device and way of measuring.

An entry is found again only while nothing that it depends on has changed: the model, its source, the
source of the counting, the versions, the device.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ema_lab.errors import StoreError
from ema_lab.specs.run import RunSpec
from ema_lab.store.document import read_json, write_json
from ema_lab.store.layout import COSTS
from ema_lab.store.source import Sources
from ema_lab.store.syntax import package_hash

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class CostCache:
    """Costs below a store's folder.

    Attributes:
        root: The store's folder.
        versions: Of the packages that count and compute.
        fresh: Whether everything is measured again, and kept.
    """

    root: Path
    versions: Mapping[str, str]
    fresh: bool = False

    def get(
        self, specs: tuple[RunSpec, ...], how: Mapping[str, Any], measure: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return what was measured before, or measure it and keep it.

        Args:
            specs: The model, and what it was measured beside.
            how: Device, batch and the like, in JSON's types.
            measure: Measures; what it returns is JSON.
        """
        facts = self._facts(specs, how)
        path = self.root / COSTS / f"{_key(facts)}.json"
        if not self.fresh and (found := _read(path)) is not None:
            return found
        measured = measure()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"facts": facts, "measured": measured}, durable=False)
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be written: {error.strerror}") from None
        return measured

    def _facts(self, specs: tuple[RunSpec, ...], how: Mapping[str, Any]) -> dict[str, Any]:
        return {**_source_facts(specs), "versions": dict(self.versions), "how": dict(how)}


def _source_facts(specs: tuple[RunSpec, ...]) -> dict[str, Any]:
    """Return what of an entry's facts can be told without the packages that measure."""
    sources = Sources()
    return {
        "models": [spec.model_key for spec in specs],
        "source": [
            {key: part for key, part in sources.of(spec).items() if key in ("module", "backbone")}
            for spec in specs
        ],
        "counting": [
            package_hash(path.read_text(encoding="utf-8"))
            for path in (*_files("cost"), *_files("models"), _PACKAGE / "one_run/measurement.py")
        ],
    }


def _files(layer: str) -> list[Path]:
    return sorted((_PACKAGE / layer).glob("*.py"))


def _key(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _entry(path: Path) -> dict[str, Any] | None:
    """Return an entry with its facts, or None where the file is none of ours, or damaged."""
    try:
        value = read_json(path)
    except (OSError, StoreError):
        return None
    facts = value.get("facts")
    if not isinstance(value.get("measured"), dict) or not isinstance(facts, dict):
        return None
    return value if isinstance(facts.get("how"), dict) and "versions" in facts else None


def _read(path: Path) -> dict[str, Any] | None:
    entry = _entry(path)
    return entry["measured"] if entry else None


@dataclass(frozen=True)
class Kept:
    """Measurements that were made in one way, by the name of what was measured. `how`: device, batch, ..."""

    how: Mapping[str, Any]
    measured: Mapping[str, Mapping[str, Any]]


def kept_latencies(root: Path, pairs: Mapping[str, tuple[RunSpec, RunSpec]]) -> Kept | None:
    """Return the kept times of models beside their baselines, all measured in one way, without torch.

    Of several ways (device, batch, mode, versions) the one that has most of the models is taken, and of
    those the latest. What was measured with another source than today's is left out.

    Args:
        root: The store's folder.
        pairs: A model and its baseline, by name.
    """
    wanted = {json.dumps(_source_facts(pair), sort_keys=True): name for name, pair in pairs.items()}
    ways: dict[str, dict[str, dict[str, Any]]] = {}
    latest: dict[str, float] = {}
    for path in sorted((root / COSTS).glob("*.json")):
        entry = _entry(path)
        if entry is None or entry["facts"]["how"].get("what") != "latency":
            continue
        facts = dict(entry["facts"])
        way = json.dumps([facts.pop("how"), facts.pop("versions")], sort_keys=True)
        name = wanted.get(json.dumps(facts, sort_keys=True))
        if name is not None:
            ways.setdefault(way, {})[name] = entry["measured"]
            latest[way] = max(latest.get(way, 0.0), path.stat().st_mtime)
    if not ways:
        return None
    best = max(ways, key=lambda way: (len(ways[way]), latest[way]))
    return Kept(json.loads(best)[0], ways[best])
