"""Costs that were measured before, in `<store>/.costs/`: a file per model, device and way of measuring.

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
from ema_lab.experiments.source import Sources, syntax_hash
from ema_lab.experiments.store import write_json
from ema_lab.specs.run import RunSpec

_COST = Path(__file__).resolve().parents[1] / "cost"
FOLDER = ".costs"


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
        path = self.root / FOLDER / f"{self._key(specs, how)}.json"
        if not self.fresh and (found := _read(path)) is not None:
            return found
        measured = measure()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, measured, durable=False)
        except OSError as error:
            raise StoreError(f"the store {self.root} cannot be written: {error.strerror}") from None
        return measured

    def _key(self, specs: tuple[RunSpec, ...], how: Mapping[str, Any]) -> str:
        sources = Sources()
        parts = [{k: v for k, v in sources.of(spec).items() if k in ("module", "backbone")} for spec in specs]
        facts = {
            "models": [spec.model_key for spec in specs],
            "source": parts,
            "counting": [
                syntax_hash(path.read_text(encoding="utf-8")) for path in sorted(_COST.glob("*.py"))
            ],
            "versions": dict(self.versions),
            "how": dict(how),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
