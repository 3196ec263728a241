"""Disk space of what training writes: checkpoints, from models without weights, and resized images."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ema_lab.models.build import build_model
from ema_lab.specs.recipe import RecipeSpec, SgdSpec
from ema_lab.specs.run import RunSpec
from ema_lab.store.disk import DiskNeed, disk_number, free_bytes
from ema_lab.wording import number_of

if TYPE_CHECKING:
    from ema_lab.data.copies import Copies


def checkpoint_bytes(spec: RunSpec) -> int:
    """Return about how many bytes the checkpoints of a finished run take."""
    model = build_model(spec, device="meta")
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    parameters = sum(value.numel() * value.element_size() for value in model.parameters())
    copies = 1 + (spec.recipe.average is not None) + (spec.recipe.protocol != "last")
    total: int = copies * weights + _moments(spec.recipe) * parameters
    return total


def disk_need(specs: Sequence[RunSpec], root: Path, workers: int) -> DiskNeed:
    """Return what the checkpoints of pending runs need of a store's disk.

    A checkpoint is replaced by a complete new one, so that each worker needs the space of one run more.
    """
    sizes: dict[object, int] = {}
    for spec in specs:
        key = _key(spec)
        if key not in sizes:
            sizes[key] = checkpoint_bytes(spec)
    each = sorted((sizes[_key(spec)] for spec in specs), reverse=True)
    return DiskNeed(
        content=f"checkpoints of {number_of(len(each), 'run')}",
        needed=sum(each) + sum(each[:workers]),
        free=free_bytes(root),
        disk=disk_number(root),
        location=f"the store {root}",
        remedy="free some, name another folder by --store, or choose fewer runs by --seeds or --only",
    )


def copies_needs(copies: "Iterable[Copies]") -> list[DiskNeed]:
    """Return what the resized copies that are missing need, disk by disk."""
    disks: dict[int, list[Copies]] = {}
    for each in copies:
        if each.can_be_kept and each.missing.images:
            disks.setdefault(disk_number(each.files.cache), []).append(each)
    return [
        DiskNeed(
            content=f"resized copies of {number_of(sum(each.missing.images for each in some), 'image')}",
            needed=sum(each.missing.size for each in some),
            free=free_bytes(some[0].files.cache),
            disk=disk,
            location=str(some[0].files.folder.parent),
            remedy="free some, name another folder by --data, or leave out data.shorter_side",
        )
        for disk, some in disks.items()
    ]


def _key(spec: RunSpec) -> tuple[object, ...]:
    recipe = spec.recipe
    return spec.model_key, recipe.average is not None, recipe.protocol != "last", _moments(recipe)


def _moments(recipe: RecipeSpec) -> int:
    """Return how many numbers an optimizer keeps for each parameter."""
    if isinstance(recipe.optimizer, SgdSpec):
        return 1 if recipe.optimizer.momentum else 0
    return 2
