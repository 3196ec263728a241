"""Cache of measured costs in a folder of the store: one file per model, device and measurement setting.

An entry is valid only while its key is unchanged: the model, its source, the source of the counting code,
the package versions and the device.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    """Cache of measured costs below a store's folder.

    Attributes:
        root: The store's folder.
        versions: Versions of the packages that count and compute.
        fresh: Whether to ignore existing entries, measure again and replace them.
        losses: Grows by one line when the first measurement cannot be kept.
    """

    root: Path
    versions: Mapping[str, str]
    fresh: bool = False
    losses: list[str] = field(default_factory=list)

    def get(
        self, specs: tuple[RunSpec, ...], how: Mapping[str, Any], measure: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return a cached measurement, or measure and cache it.

        Args:
            specs: The model, and the baseline that was measured beside it.
            how: Measurement setting such as device and batch size, in JSON types.
            measure: Function that measures and returns JSON data.
        """
        facts = self._facts(specs, how)
        path = self.root / COSTS / f"{_key(facts)}.json"
        if not self.fresh and (cached := _read(path)) is not None:
            return cached
        measured = measure()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"facts": facts, "measured": measured}, durable=False)
        except OSError as error:  # the measurement may have taken minutes: it is returned all the same
            if not self.losses:
                rule = f"the store {self.root} cannot be written ({error.strerror})"
                self.losses.append(f"warning: measurements are not kept: {rule}")
        return measured

    def _facts(self, specs: tuple[RunSpec, ...], how: Mapping[str, Any]) -> dict[str, Any]:
        return {**_source_facts(specs), "versions": dict(self.versions), "how": dict(how)}


def _source_facts(specs: tuple[RunSpec, ...]) -> dict[str, Any]:
    """Return the facts of an entry that need none of the measuring packages, such as torch."""
    return _facts_of_sources(specs, Sources(), _counting())


def _facts_of_sources(
    specs: tuple[RunSpec, ...], sources: Sources, counting: Sequence[str]
) -> dict[str, Any]:
    return {
        "models": [spec.model_key for spec in specs],
        "source": [
            {key: part for key, part in sources.of(spec).items() if key in ("module", "backbone")}
            for spec in specs
        ],
        "counting": list(counting),
    }


def _counting() -> list[str]:
    """Return the hashes of the source that counts."""
    return [
        package_hash(path.read_text(encoding="utf-8"))
        for path in (*_files("profiling"), *_files("models"), _PACKAGE / "one_run/measurement.py")
    ]


def _files(layer: str) -> list[Path]:
    return sorted((_PACKAGE / layer).glob("*.py"))


def _key(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _entry(path: Path) -> dict[str, Any] | None:
    """Read a cache entry with its facts; None if the file is damaged or no cache entry."""
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
class CachedCosts:
    """Measurements by model name, all with the same setting `how` (device, batch size, ...)."""

    how: Mapping[str, Any]
    measured: Mapping[str, Mapping[str, Any]]


def cached_latencies(root: Path, pairs: Mapping[str, tuple[RunSpec, RunSpec]]) -> CachedCosts | None:
    """Return the cached latencies of models beside their baselines, without loading torch.

    Only latencies of one setting (device, batch, mode, versions) can be compared. The setting that covers
    most models wins, and among equals the latest. Entries of an older source are ignored.

    Args:
        root: The store's folder.
        pairs: A model and its baseline, by name.

    Returns:
        None if no model has a valid entry.
    """
    wanted = {json.dumps(_source_facts(pair), sort_keys=True): name for name, pair in pairs.items()}
    settings: dict[str, dict[str, dict[str, Any]]] = {}
    latest: dict[str, float] = {}
    for path in sorted((root / COSTS).glob("*.json")):
        entry = _entry(path)
        if entry is None or entry["facts"]["how"].get("what") != "latency":
            continue
        facts = dict(entry["facts"])
        setting = json.dumps([facts.pop("how"), facts.pop("versions")], sort_keys=True)
        name = wanted.get(json.dumps(facts, sort_keys=True))
        if name is not None:
            settings.setdefault(setting, {})[name] = entry["measured"]
            latest[setting] = max(latest.get(setting, 0.0), path.stat().st_mtime)
    if not settings:
        return None
    best = max(settings, key=lambda setting: (len(settings[setting]), latest[setting]))
    return CachedCosts(json.loads(best)[0], settings[best])


def cached_counts(root: Path, specs: Mapping[str, RunSpec]) -> dict[str, Mapping[str, Any]]:
    """Return the cached counts of models by name, without loading torch.

    Of entries under several versions of the counting packages, the latest wins. Entries of an older source
    are ignored.

    Args:
        root: The store's folder.
        specs: A run of each model, by name.
    """
    entries = [
        (path.stat().st_mtime, entry)
        for path in sorted((root / COSTS).glob("*.json"))
        if (entry := _entry(path)) is not None and entry["facts"]["how"].get("what") == "count"
    ]
    if not entries:
        return {}
    kept: dict[str, Mapping[str, Any]] = {}
    for _, entry in sorted(entries, key=lambda item: item[0]):
        facts = {key: value for key, value in entry["facts"].items() if key not in ("how", "versions")}
        kept[json.dumps(facts, sort_keys=True)] = entry["measured"]
    sources, counting = Sources(), _counting()
    wanted = {
        name: json.dumps(_facts_of_sources((spec,), sources, counting), sort_keys=True)
        for name, spec in specs.items()
    }
    return {name: kept[key] for name, key in wanted.items() if key in kept}
