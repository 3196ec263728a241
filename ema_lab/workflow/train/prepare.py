"""Making of the resized copies of images that an ablation's runs read, before the first run."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import DamagedDataError, DataError, SpecError
from ema_lab.execution.threads import available_cores
from ema_lab.store.disk import by_disk
from ema_lab.workflow.data_files import copies_of, data_of, may_have_copies, unwritable_text
from ema_lab.workflow.events import ImagesPrepared, recipe_remarks
from ema_lab.workflow.execution import DEFAULT_DATA, Watch, ignore
from ema_lab.workflow.selection import Changes, Conditions, selected
from ema_lab.workflow.train.pack import Shards, shards_of, write_shard_folder

if TYPE_CHECKING:
    from ema_lab.data.copies import Copies, CopyCounts


@dataclass(frozen=True)
class Prepared:
    """The copies that the runs of an ablation read, all of them made.

    Attributes:
        ablation: The ablation.
        folders: Its copies, folder by folder.
        shards: The shards that were written, if any.
        shards_size: Their bytes.
    """

    ablation: Ablation
    folders: "tuple[CopyCounts, ...]"
    shards: Shards | None = None
    shards_size: int = 0

    @property
    def made(self) -> int:
        """Number of copies that were written."""
        return sum(each.made for each in self.folders)

    @property
    def kept(self) -> int:
        """Number of copies that were there."""
        return sum(each.kept for each in self.folders)

    @property
    def small(self) -> int:
        """Number of images that are small enough without a copy."""
        return sum(each.small for each in self.folders)

    @property
    def size(self) -> int:
        """Bytes of all copies."""
        return sum(each.size for each in self.folders)

    def rows(self) -> list[dict[str, Any]]:
        """Return one object per folder, as `ema-lab prepare --json` prints them."""
        reads = {} if self.shards is None else {"reads": self.shards.reads}
        return [
            {
                "folder": str(each.copies.files.folder),
                "shorter_side": each.copies.files.side,
                "images": len(each.copies),
                "made": each.made,
                "kept": each.kept,
                "small": each.small,
                "bytes": each.size,
                "copies": str(each.copies.files.cache),
            }
            | reads
            for each in self.folders
        ]


def prepare(
    ablation: str | Path,
    *,
    only: Conditions | None = None,
    changes: Changes | None = None,
    workers: int | None = None,
    data: Path | str = DEFAULT_DATA,
    shards: str | None = None,
    watch: Watch = ignore,
) -> Prepared:
    """Make the resized copies of images that the runs of an ablation read (`data.shorter_side`).

    Copies that are there are kept, so that a call that was stopped goes on where it was.

    Args:
        ablation: A path, or the name of a definition.
        only: Conditions on cells: values by key, or "KEY=VALUE" texts.
        changes: "KEY=VALUE" texts, or values by dotted key, that change the file's base.
        workers: Number of processes; by default one for each core.
        data: Folder of the data sets.
        shards: New folder below `data` into which all images are also written as tar shards.
        watch: Observer of the events of `ema_lab.workflow.events`.

    Raises:
        SpecError: If no run reads resized images, or shards cannot hold those that runs read.
        DataError: If the data cannot be loaded, an image is damaged, or the disk is too small.
    """
    chosen = selected(ablation, only, changes=changes)
    for remark in recipe_remarks(chosen):
        watch(remark)
    root = Path(data)
    copies = _checked_copies(chosen, root)
    planned = None if shards is None else shards_of(chosen.runs(), root, shards)
    _check_disks(copies, planned)
    folders = _make(chosen, copies, workers or available_cores(), watch)
    if planned is None:
        return Prepared(chosen, folders)
    return Prepared(chosen, folders, planned, write_shard_folder(planned, watch))


def _checked_copies(chosen: Ablation, root: Path) -> "list[Copies]":
    """Check the data sets that have resized images; return the copies that runs read of them."""
    from ema_lab.tasks.task import check_data

    sets = [each for each in data_of(chosen.runs()) if may_have_copies(each)]
    for each in sets:
        check_data(each, root)
    copies = copies_of(sets, root)
    if not copies:
        rule = "there is nothing to prepare; data.shorter_side sets the size of resized images in files"
        raise SpecError(f"{chosen.name}: no run reads resized images: {rule}")
    return copies


def _check_disks(copies: "Sequence[Copies]", shards: Shards | None) -> None:
    """Refuse folders that cannot be written, and disks that are too small."""
    from ema_lab.training.disk import copies_needs

    for each in copies:
        if not each.can_be_kept:
            raise DataError(unwritable_text(each))
    for need in by_disk([*copies_needs(copies), *([] if shards is None else [shards.need])]):
        if need.is_short:
            raise DataError(need.refusal)


def _make(
    chosen: Ablation, copies: "Sequence[Copies]", workers: int, watch: Watch
) -> "tuple[CopyCounts, ...]":
    """Make copies folder by folder; damaged images are an error once all others have theirs."""
    from ema_lab.data.copies import make_copies
    from ema_lab.data.whole_files import broken_text

    total = sum(map(len, copies))
    folders: list[CopyCounts] = []
    for some in copies:
        before = sum(len(each.copies) for each in folders)
        folders.append(make_copies(some, workers, partial(_report, watch, before, total)))
    if broken := [problem for each in folders for problem in each.broken]:
        raise DamagedDataError(broken_text(chosen.name, broken, total))
    return tuple(folders)


def _report(watch: Watch, before: int, total: int, number: int) -> None:
    watch(ImagesPrepared("resized", before + number, total))
