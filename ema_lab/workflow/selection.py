"""Selection of cells of an ablation by conditions and seeds, and of the metric to compare."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.errors import SpecError
from ema_lab.specs.metric import Metric
from ema_lab.specs.scalar import read_scalar

Conditions = Sequence[str] | Mapping[str, Any]


def selected(name: str | Path, only: Conditions | None = None, seeds: int | None = None) -> Ablation:
    """Load an ablation and keep the cells that meet the conditions.

    Args:
        name: A path, or the name of a definition.
        only: "KEY=VALUE" texts, or values (or lists of values) by key: {"variant": ["se", "ema"]}.
        seeds: The first so many seeds of the file; None keeps all.

    Raises:
        SpecError: If no cell is left.
    """
    ablation = load_ablation(name)
    if seeds is not None:
        ablation = ablation.first_seeds(seeds)
    return ablation.only(conditions(only)) if only else ablation


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


def conditions(only: Conditions) -> dict[str, list[Any]]:
    """Return the allowed values by key; a repeated KEY=VALUE allows each of its values.

    Raises:
        SpecError: If a text is not KEY=VALUE.
    """
    if isinstance(only, Mapping):
        return {
            key: list(value) if isinstance(value, list | tuple) else [value] for key, value in only.items()
        }
    allowed: dict[str, list[Any]] = {}
    for item in only:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise SpecError(f"--only takes KEY=VALUE, such as variant=ema or seed=0, got {item!r}")
        allowed.setdefault(key, []).append(read_scalar(value))
    return allowed
