"""Making of the resized copies of images that an ablation's runs read, before the first run."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import DamagedDataError, DataError, SpecError
from ema_lab.execution.threads import available_cores
from ema_lab.workflow.data_files import copies_of, data_of, unwritable_text
from ema_lab.workflow.events import ImagesPrepared, recipe_remarks
from ema_lab.workflow.execution import DEFAULT_DATA, Watch, ignore
from ema_lab.workflow.selection import Changes, Conditions, selected
from ema_lab.workflow.train.pack import Shards, shards_of, write

if TYPE_CHECKING:
    from ema_lab.data.copies import Made


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
    folders: "tuple[Made, ...]"
    shards: Shards | None = None
    shards_size: int = 0

    def total(self, what: str) -> int:
        """Return the sum over all folders of `made`, `kept`, `small` or `size`."""
        return sum(getattr(each, what) for each in self.folders)

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat object per folder, as `ema-lab prepare --json` prints them."""
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
        SpecError: If no run reads resized images, or the folder of the shards is there.
        DataError: If the data cannot be loaded, an image is damaged, or the disk is too small.
    """
    chosen = selected(ablation, only, changes=changes)
    for remark in recipe_remarks(chosen):
        watch(remark)
    from ema_lab.data.copies import make_copies
    from ema_lab.data.whole_files import broken_text
    from ema_lab.tasks.task import check_data
    from ema_lab.training.disk import copies_needs

    root = Path(data)
    for each in data_of(chosen.runs()):
        check_data(each, root)
    copies = copies_of(data_of(chosen.runs()), root)
    if not copies:
        rule = "there is nothing to prepare; data.shorter_side sets the size of resized images in files"
        raise SpecError(f"{chosen.name}: no run reads resized images: {rule}")
    planned = None if shards is None else shards_of(chosen.runs(), root, shards)
    for some in copies:
        if not some.can_be_kept:
            raise DataError(unwritable_text(some))
    for need in copies_needs(copies):
        if need.is_short:
            raise DataError(need.refusal)
    total = sum(map(len, copies))
    folders: list[Made] = []
    for some in copies:
        before = sum(len(each.copies) for each in folders)
        seen = partial(_report, watch, before, total)
        folders.append(make_copies(some, workers or available_cores(), seen))
    if broken := [problem for each in folders for problem in each.broken]:
        raise DamagedDataError(broken_text(chosen.name, broken, total))
    if planned is None:
        return Prepared(chosen, tuple(folders))
    return Prepared(
        chosen, tuple(folders), planned, write(planned, sum(each.size for each in folders), watch)
    )


def _report(watch: Watch, before: int, total: int, number: int) -> None:
    watch(ImagesPrepared("resized", before + number, total))
