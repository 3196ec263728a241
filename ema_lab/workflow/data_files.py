"""Check of data sets before anything is trained on them, and the resized copies of images that runs read."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ema_lab.errors import AbsentDataError
from ema_lab.registry.catalogue import DATASETS
from ema_lab.specs.run import DataSpec, RunSpec
from ema_lab.store.disk import size_text
from ema_lab.wording import number_of
from ema_lab.workflow.base_event import Remark
from ema_lab.workflow.execution import Watch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ema_lab.data.copies import Copies
    from ema_lab.data.image_folder import ImageFolderImages
    from ema_lab.data.resized import ResizedFiles

SHOWN = 8  # folders that a remark names
PLACES = ("folder", "file")  # options that say where a data set's files are


def data_of(specs: Iterable[RunSpec]) -> list[DataSpec]:
    """Return the distinct data of runs."""
    return list({spec.data.canonical: spec.data for spec in specs}.values())


def check_files(data: DataSpec, root: Path) -> None:
    """Load a data set, downloaded where it is absent, and check its targets and that its files are whole.

    Raises:
        DataError: If it cannot be loaded, the task cannot learn from the targets, or a file is broken.
    """
    from ema_lab.data.whole_files import check_whole
    from ema_lab.tasks.task import check_data

    check_data(data, root)
    check_whole(data, root)


def check_present(specs: Sequence[RunSpec], root: Path, watch: Watch) -> list[DataSpec]:
    """Check the data of runs as far as its files are on this machine; return what was checked.

    What the package itself makes or downloads is left to training, which downloads it again where it is
    damaged. A data set that is not on this machine is a `Remark`.

    Raises:
        DataError: If a data set cannot be trained on.
    """
    present = []
    for data in data_of(specs):
        if _is_of_package(data) and not _has_place(data):
            continue
        try:
            check_files(data, root)
        except AbsentDataError as error:
            found = _folders_text(root)
            watch(Remark(data.name, f"not checked, because it is not on this machine: {error}{found}"))
        else:
            present.append(data)
    return present


def _folders_text(root: Path) -> str:
    """Return which folders there are, among which a mistyped one may be recognised."""
    try:
        names = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    except OSError:
        return ""
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"; {root} has {shown or 'no folder'}"


def copies_remarks(copies: "Iterable[Copies]") -> Iterator[Remark]:
    """Yield a remark if training will make copies, and one for each folder of copies that it cannot write."""
    copies = list(copies)
    for each in copies:
        if not each.can_be_kept and each.missing.images:
            yield Remark("data", f"{unwritable_text(each)}; until then images are resized in every epoch")
    missing = [each.missing for each in copies if each.can_be_kept]
    if images := sum(each.images for each in missing):
        size = size_text(sum(each.size for each in missing))
        rule = "so that it is slower than the others; `ema-lab prepare` makes them beforehand"
        yield Remark(
            "data",
            f"the first epoch makes resized copies of {number_of(images, 'image')} (about {size}), {rule}",
        )


def unwritable_text(copies: "Copies") -> str:
    """Return the sentence about a folder of copies that cannot be written."""
    files = copies.files
    rule = f"a folder of your own with links to {files.folder.name} and the others in it takes them"
    return f"resized copies cannot be kept beside {files.folder}: {rule}"


def _is_of_package(data: DataSpec) -> bool:
    return DATASETS[data.name].target.startswith("ema_lab.")


def _has_place(data: DataSpec) -> bool:
    return any(place in DATASETS.options(data.name) for place in PLACES)


def may_have_copies(data: DataSpec) -> bool:
    """Return whether a data set may read resized copies.

    The package's own data sets do if `shorter_side` is set. A user's data set may in any case.
    """
    return data.options.get("shorter_side") is not None or not _is_of_package(data)


def copies_of(sets: Iterable[DataSpec], root: Path) -> "list[Copies]":
    """Return the resized copies that runs read of data sets, folder by folder.

    Raises:
        DataError: If a data set cannot be loaded.
    """
    resizable = list(filter(may_have_copies, sets))
    if not resizable:  # the imports take seconds
        return []
    from ema_lab.data.image_folder import ImageFolderImages
    from ema_lab.data.images import ImageSplits
    from ema_lab.data.load import build_dataset

    names: dict[ResizedFiles, list[npt.NDArray[np.bytes_]]] = {}
    for data in resizable:
        splits = build_dataset(data, root)
        if not isinstance(splits, ImageSplits):
            continue
        for part in (splits.train, splits.test):
            if isinstance(part, ImageFolderImages) and part.copies is not None:
                chosen = _training_files(data, part) if part is splits.train else part.files
                names.setdefault(part.copies, []).append(chosen)
    return [_copies(files, listed) for files, listed in names.items()]


def _copies(files: "ResizedFiles", listed: "Sequence[npt.NDArray[np.bytes_]]") -> "Copies":
    import numpy as np

    from ema_lab.data.copies import Copies

    return Copies(files, listed[0] if len(listed) == 1 else np.unique(np.concatenate(listed)))


def _training_files(data: DataSpec, images: "ImageFolderImages") -> "npt.NDArray[np.bytes_]":
    """Return the files of the training and the validation images of a run."""
    if data.train_images is None:
        return images.files
    from ema_lab.data.module import split_indices  # loads Lightning
    from ema_lab.tasks.task import load_task

    train, val = split_indices(load_task(data).strata(images), data)
    return images.files[sorted([*train.tolist(), *val.tolist()])]
