"""The options that choose cells of an ablation, alike in every command."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.errors import SpecError
from ema_lab.specs.metric import Metric
from ema_lab.specs.scalar import read_scalar

Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="KEY=VALUE", help="Only cells with this value; may be repeated."),
]
Seeds = Annotated[int | None, typer.Option("--seeds", min=1, help="Only the first N seeds of the file.")]
Attempts = Annotated[int, typer.Option("--max-attempts", min=1, help="Tries before a run is left alone.")]


def selected(name: str, only: Sequence[str] | None, seeds: int | None) -> Ablation:
    """Load an ablation and keep the cells that the options ask for."""
    ablation = load_ablation(name)
    if seeds is not None:
        ablation = ablation.first_seeds(seeds)
    return ablation.only(conditions(only)) if only else ablation


def chosen_metric(ablation: Ablation, name: str | None) -> tuple[str, Metric]:
    """Return the metric that --metric names; without it, the primary one of the ablation's task.

    Raises:
        SpecError: If the task has no such metric.
    """
    task = ablation.task
    try:
        return name or task.primary, task.require_metric(name or task.primary)
    except SpecError as error:
        raise SpecError(f"--metric: {error}") from None


def conditions(only: Sequence[str]) -> dict[str, list[Any]]:
    """Read KEY=VALUE options; a repeated key allows each of its values."""
    found: dict[str, list[Any]] = {}
    for item in only:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise SpecError(f"--only takes KEY=VALUE, such as variant=ema or seed=0, got {item!r}")
        found.setdefault(key, []).append(read_scalar(value))
    return found
