"""Shards of the resized images that an ablation's runs read, and the data set that reads them."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import yaml

from ema_lab.errors import DataError, SpecError
from ema_lab.specs.run import DataSpec, RunSpec
from ema_lab.specs.task import DEFAULT_TASK
from ema_lab.store.disk import DiskNeed, disk_number, existing_folder, free_bytes
from ema_lab.wording import number_of
from ema_lab.workflow.data_files import copies_of, data_of
from ema_lab.workflow.events import ImagesPrepared
from ema_lab.workflow.execution import Watch

if TYPE_CHECKING:
    from ema_lab.data.image_folder import ImageFolderImages

HEADERS = 2_048  # bytes of a shard beside each image: two headers, the label, and what fills up their blocks


@dataclass(frozen=True)
class Shards:
    """Shards to write in a new folder.

    Attributes:
        data: Data set of the images.
        root: Folder of the data sets.
        spec: Data set that reads the shards: the same images, labels and validation split.
        need: Disk space of the shards.
    """

    data: DataSpec
    root: Path
    spec: DataSpec
    need: DiskNeed

    @property
    def folder(self) -> Path:
        return self.root / str(self.spec.options["folder"])

    @property
    def reads(self) -> dict[str, Any]:
        """Keys of a definition with which runs read the shards, and get the same pixels."""
        facts, own = self.data.facts, self.spec.facts
        keys: dict[str, Any] = {"data": self.spec.resolved()}
        if (facts.mean, facts.std) != (own.mean, own.std):
            keys["recipe.normalise"] = {"mean": list(facts.mean), "std": list(facts.std)}
        return keys

    def lines(self) -> list[str]:
        """Return the keys of `reads` as lines of a definition."""
        return [f"{key}: {_flow(value)}" for key, value in self.reads.items()]


def shards_of(specs: Sequence[RunSpec], root: Path, name: str) -> Shards:
    """Return the shards of the images that runs read, before anything is written.

    Raises:
        SpecError: If the runs read several data sets, or one that shards cannot hold, or if the folder is
            there or not below `root`.
    """
    if (path := PurePath(name)).is_absolute() or ".." in path.parts or not path.parts:
        raise SpecError(f"--shards names a folder below --data, got {name!r}")
    sets = [data for data in data_of(specs) if copies_of([data], root)]
    if len(sets) > 1:
        rule = f"the runs read {len(sets)}: choose rows by --only"
        raise SpecError(f"--shards takes the resized images of one data set, and {rule}")
    [data] = sets
    if os.path.lexists(folder := root / name):
        raise SpecError(f"--shards writes a new folder, and {folder} is there: name another, or remove it")
    if data.train_images is not None:
        rule = f"data.train_images chooses {data.train_images} of them: leave it out"
        raise SpecError(f"--shards packs all images of a data set, and {rule}")
    if data.facts.task != DEFAULT_TASK:
        rule = f"{data.name} is for the task {data.facts.task}"
        raise SpecError(f"--shards packs images with their classes, and {rule}")
    return Shards(data, root, _reader(data, root, name), _need(data, root, folder))


def _reader(data: DataSpec, root: Path, name: str) -> DataSpec:
    """Return the data set that reads the shards."""
    upright = {images.upright for images in _parts(data, root).values()}
    if len(upright) > 1:
        rule = "upright is set for one split alone"
        raise SpecError(f"--shards packs images that are read in one way, and in {data.name} {rule}")
    facts = data.facts
    options = {"folder": name, "classes": facts.classes, "image_size": facts.image_size}
    options |= {"train_images": facts.train_images, "test_images": facts.test_images}
    options |= {"channels": facts.channels, "upright": upright.pop()}
    own = {"val_images": data.val_images, "split_seed": data.split_seed}
    return DataSpec.model_validate({"name": "shards", **options, **own})


def _need(data: DataSpec, root: Path, folder: Path) -> DiskNeed:
    total = data.facts.train_images + data.facts.test_images
    return DiskNeed(
        content=f"shards of {number_of(total, 'image')}",
        needed=sum(each.packed_size for each in copies_of([data], root)) + HEADERS * total,
        free=free_bytes(folder.parent),
        disk=disk_number(folder.parent),
        location=str(folder.parent),
        remedy="free some",
    )


def _parts(data: DataSpec, root: Path) -> "dict[str, ImageFolderImages]":
    """Return the images of each split, by the first part of the names of its shards.

    Raises:
        SpecError: If a split has other images than those in files.
    """
    from ema_lab.data.image_folder import ImageFolderImages
    from ema_lab.data.load import load_splits

    splits = load_splits(data, root)
    parts = {}
    for split, images in (("train", splits.train), ("val", splits.test)):
        if not isinstance(images, ImageFolderImages):
            raise SpecError(f"--shards packs images in files, and {data.name} has others, too")
        parts[split] = images
    return parts


def write_shard_folder(shards: Shards, watch: Watch) -> int:
    """Write shards; return their bytes. A stop leaves nothing.

    Raises:
        DataError: If an image cannot be read, or a shard cannot be written.
    """
    from ema_lab.data.packing import write_shards

    numbers, total = count(1), shards.data.facts.train_images + shards.data.facts.test_images
    seen = partial(_report, watch, numbers, total)
    parts, parent, written = _parts(shards.data, shards.root), shards.folder.parent, 0
    try:
        with tempfile.TemporaryDirectory(
            dir=existing_folder(parent), prefix=f".{shards.folder.name}-"
        ) as unfinished:
            folder = Path(unfinished) / "shards"
            folder.mkdir()
            for split, images in parts.items():
                written += write_shards(images, folder, split, seen)
            parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder, shards.folder)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{shards.folder}: shards cannot be written: {reason}") from None
    return written


def _report(watch: Watch, numbers: "count[int]", total: int) -> None:
    watch(ImagesPrepared("packed", next(numbers), total))


def _flow(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=10_000).strip()
