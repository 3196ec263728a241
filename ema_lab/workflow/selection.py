"""Selection of cells of an ablation by conditions and seeds, and of the metric to compare."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.ablation.grid import ABSENT, value_of
from ema_lab.errors import SpecError
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.document import read_value
from ema_lab.specs.metric import Metric
from ema_lab.specs.scalar import read_scalar

Conditions = Sequence[str] | Mapping[str, Any]
Changes = Sequence[str] | Mapping[str, Any]
SeedChoice = int | Sequence[int]


class CellChoice(TypedDict):
    """Keyword arguments that choose cells of an ablation; see `selected`."""

    only: Conditions | None
    seeds: SeedChoice | None
    changes: Changes | None


def selected(
    name: str | Path | Ablation,
    only: Conditions | None = None,
    seeds: SeedChoice | None = None,
    changes: Changes | None = None,
) -> Ablation:
    """Load an ablation and keep the cells that meet the conditions.

    Args:
        name: A path, the name of a definition, or a loaded ablation.
        only: "KEY=VALUE" texts, or values (or lists of values) by key: {"variant": ["se", "ema"]}.
        seeds: The first so many seeds of the file, or a list of seeds; None keeps all.
        changes: "KEY=VALUE" texts, or values by dotted key, that change the file's base.

    Raises:
        SpecError: If no cell is left.
    """
    if isinstance(name, Ablation):
        ablation = load_ablation(name.path, read_changes(changes)) if changes else name
    else:
        ablation = load_ablation(name, read_changes(changes))
    if isinstance(seeds, int):
        ablation = ablation.first_seeds(seeds)
    elif seeds is not None:
        ablation = ablation.these_seeds(seeds)
    return ablation.only(conditions(only, ablation)) if only else ablation


def read_seeds(option: str, text: str | None) -> SeedChoice | None:
    """Return the seeds of an option: `3` is a number of seeds, `0,2` and `2,` are seeds.

    Raises:
        SpecError: If the text is neither.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.removesuffix(",").split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts) or len({*map(int, parts)}) < len(parts):
        rule = "takes a number of seeds, such as 3, or different seeds, such as 0,2 or 2,"
        raise SpecError(f"{option} {rule} got {text!r}")
    return [int(part) for part in parts] if "," in text else int(text)


def read_changes(changes: Changes | None) -> dict[str, Any]:
    """Return values by dotted key from "KEY=VALUE" texts; a value is read as YAML.

    Raises:
        SpecError: If a text is not KEY=VALUE, or its value is not YAML.
    """
    if changes is None or isinstance(changes, Mapping):
        return dict(changes or {})
    read: dict[str, Any] = {}
    for item in changes:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise SpecError(f"--set takes KEY=VALUE, such as recipe.epochs=1, got {item!r}")
        if key in read:
            raise SpecError(f"--set {key} is given twice")
        read[key] = read_value(value, f"--set {key}")
    return read


def chosen_metric(ablation: Ablation, name: str | None) -> tuple[str, Metric]:
    """Return the named metric of an ablation's task; without a name, its primary one.

    Raises:
        SpecError: If the task has no such metric.
    """
    task = ablation.task
    try:
        return name or task.primary, task.require_metric(name or task.primary)
    except SpecError as error:
        raise SpecError(f"--metric: {error}") from None


def conditions(only: Conditions, ablation: Ablation) -> dict[str, list[Any]]:
    """Return the allowed values by key. A comma separates values, and a repeated KEY=VALUE adds one.

    A text without a key is a row, as tables print it, or a variant.

    Raises:
        SpecError: If a text is not KEY=VALUE and no row, or no cell has the key.
    """
    if isinstance(only, Mapping):
        allowed = {
            key: list(value) if isinstance(value, list | tuple) else [value] for key, value in only.items()
        }
    else:
        allowed = {}
        for item in only:
            key, values = _condition(item, ablation)
            allowed.setdefault(key, []).extend(values)
    for key in allowed:
        if all(value_of(cell, key) is ABSENT for cell in ablation.cells):
            raise SpecError(
                f"--only: {unknown_name('key', key, _keys(ablation))}, or any dotted key of a run spec"
            )
    return allowed


def _condition(item: str, ablation: Ablation) -> tuple[str, list[Any]]:
    """Return the key of a condition, and the values that it allows."""
    names = {name for cell in ablation.cells for name in (cell.variant, cell.row)}
    if item in names:
        return "variant", [item]
    key, equals, value = item.partition("=")
    if not equals or not key:
        rule = "--only takes KEY=VALUE, such as variant=ema or seed=0, or a row"
        raise SpecError(f"{rule}, got {item!r}; rows: {', '.join(ablation.rows())}")
    if value in names:  # which may have commas
        return key, [value]
    return key, [read_scalar(part) for part in value.split(",")]


def _keys(ablation: Ablation) -> list[str]:
    axes = (name for cell in ablation.cells for name, _ in (*cell.own_axes, *cell.axes))
    return list(dict.fromkeys(["variant", "row", "seed", *axes]))
