"""Shards of the resized images that an ablation's runs read, and the data set that reads them."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ema_lab.errors import DataError, SpecError
from ema_lab.specs.run import DataSpec, RunSpec
from ema_lab.store.disk import DiskNeed, disk_number, free_bytes
from ema_lab.wording import number_of
from ema_lab.workflow.data_files import copies_of, data_of
from ema_lab.workflow.events import ImagesPrepared
from ema_lab.workflow.execution import Watch


@dataclass(frozen=True)
class Shards:
    """Shards to write in a new folder.

    Attributes:
        data: Data set of the images.
        root: Folder of the data sets.
        name: Folder of the shards below that.
    """

    data: DataSpec
    root: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.root / self.name

    @property
    def spec(self) -> DataSpec:
        """Data set that reads the shards: the same images, labels and validation split."""
        facts = self.data.facts
        options = {"folder": self.name, "classes": facts.classes, "image_size": facts.image_size}
        options |= {"train_images": facts.train_images, "test_images": facts.test_images}
        options |= {"channels": facts.channels, "upright": self.data.options.get("upright", False)}
        own = {"val_images": self.data.val_images, "split_seed": self.data.split_seed}
        return DataSpec.model_validate({"name": "shards", **options, **own})

    def lines(self) -> list[str]:
        """Return the lines of a definition with which runs read the shards, and get the same pixels."""
        facts, own = self.data.facts, self.spec.facts
        lines = [f"data: {_flow(self.spec.resolved())}"]
        if (facts.mean, facts.std) != (own.mean, own.std):
            values = {"mean": list(facts.mean), "std": list(facts.std)}
            lines.append(f"recipe.normalise: {_flow(values)}")
        return lines


def shards_of(specs: Sequence[RunSpec], root: Path, name: str) -> Shards:
    """Return the shards of the images that runs read, before anything is written.

    Raises:
        SpecError: If the runs read several data sets, or the folder is there.
    """
    sets = {repr((data.name, data.options)): data for data in data_of(specs) if copies_of([data], root)}
    if len(sets) > 1:
        rule = f"the runs read {len(sets)}: choose rows by --only"
        raise SpecError(f"--shards takes the resized images of one data set, and {rule}")
    (data,) = sets.values()
    shards = Shards(data, root, name)
    if shards.folder.exists():
        raise SpecError(
            f"--shards writes a new folder, and {shards.folder} is there: name another, or remove it"
        )
    return shards


def write(shards: Shards, size: int, watch: Watch) -> int:
    """Write shards whose images take about `size` bytes; return their bytes. A stop leaves nothing.

    Raises:
        DataError: If the disk is too small, or a shard cannot be written.
    """
    from ema_lab.data.image_folder import ImageFolderImages
    from ema_lab.data.load import load_splits
    from ema_lab.data.packing import write_shards

    splits = load_splits(shards.data, shards.root)
    parts = {"train": splits.train, "val": splits.test}
    total, done = shards.data.facts.train_images + shards.data.facts.test_images, 0
    what, root = f"shards of {number_of(total, 'image')}", shards.root
    need = DiskNeed(what, size, free_bytes(root), disk_number(root), str(root), "free some")
    if need.is_short:
        raise DataError(need.refusal)

    def seen() -> None:
        nonlocal done
        done += 1
        watch(ImagesPrepared("packed", done, total))

    written = 0
    try:
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{Path(shards.name).name}-") as unfinished:
            folder = Path(unfinished) / "shards"
            folder.mkdir()
            for split, images in parts.items():
                assert isinstance(images, ImageFolderImages)  # which alone has resized copies
                written += write_shards(images, folder, split, seen)
            shards.folder.parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder, shards.folder)
    except OSError as error:
        raise DataError(f"{shards.folder}: shards cannot be written: {error.strerror}") from None
    return written


def _flow(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=10_000).strip()
