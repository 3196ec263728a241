"""Runs of an ablation with other settings than its file's, such as those of `run --set recipe.epochs=1`."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import StoreError
from ema_lab.specs.strict import canonical_json
from ema_lab.store.document import read_json
from ema_lab.store.layout import RUN_ID, SPEC
from ema_lab.store.store import RunStore

PARTS = ("recipe", "data")  # of a run spec that `--set` changes for all rows alike
MOST = 6  # settings that a command can name
Settings = tuple[str, ...]


@dataclass(frozen=True)
class OtherSettings:
    """The settings that most of an ablation's other runs share.

    Attributes:
        runs: Number of these runs.
        changes: The settings as `--set` takes them: "recipe.epochs=1".
    """

    runs: int
    changes: Settings


def other_settings(ablation: Ablation, store: RunStore) -> OtherSettings | None:
    """Return the settings of the runs in a store that differ from an ablation's in these alone.

    Returns:
        None if a run of the ablation itself is there, or the store has no such runs.
    """
    folders = store.folder_names()
    if any(cell.run_id in folders for cell in ablation.cells):
        return None
    cells = {_identity(spec): spec for spec in (cell.spec.resolved() for cell in ablation.cells)}
    counts: Counter[Settings] = Counter()
    for name in sorted(folders):
        spec = _spec(store, name) if RUN_ID.fullmatch(name) else {}
        if spec and (own := cells.get(_identity(spec))) is not None:
            changes = _changes(own, spec, store, name)
            if changes and len(changes) <= MOST:
                counts[changes] += 1
    if not counts:
        return None
    changes, runs = counts.most_common(1)[0]
    return OtherSettings(runs, changes)


def _spec(store: RunStore, run_id: str) -> dict[str, Any]:
    """Return a run's spec as plain data; empty if it cannot be read."""
    try:
        spec = read_json(store.folder(run_id) / SPEC)
    except (OSError, StoreError):
        return {}
    return spec if all(isinstance(spec.get(part), dict) for part in ("model", *PARTS)) else {}


def _identity(spec: Mapping[str, Any]) -> str:
    """Return a text of what settings leave as it is: model, name of the data, seed."""
    return canonical_json(
        {"model": spec["model"], "data": spec["data"].get("name"), "seed": spec.get("seed")}
    )


def _changes(own: Mapping[str, Any], other: Mapping[str, Any], store: RunStore, run_id: str) -> Settings:
    """Return the settings that turn an ablation's spec into a run's; empty if they have no short text."""
    before, after = (
        {key: value for part in PARTS for key, value in _leaves(part, spec[part])} for spec in (own, other)
    )
    differing = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    values = {key: after[key] for key in differing if key in after}
    if missing := [key for key in differing if key not in after]:  # a default, which specs leave out
        try:
            whole = dict(_leaves("recipe", store.spec(run_id).recipe.model_dump(mode="json", warnings=False)))
        except StoreError:
            return ()
        values |= {key: whole[key] for key in missing if key in whole}
    if values.keys() != set(differing) or any(isinstance(value, list | dict) for value in values.values()):
        return ()
    return tuple(f"{key}={_text(value)}" for key, value in sorted(values.items()))


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(f"{key}.{name}", item)
    else:
        yield key, value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
