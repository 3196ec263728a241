"""Image folders: one folder per class, decoded on access, never all in memory.

The layout is that of torchvision's ImageFolder: FOLDER/train/CLASS/*.JPEG and FOLDER/val/CLASS/*.JPEG.
Labels number the classes in alphabetical order. `pictures` documents the conversion of pixels.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes

from ema_lab.data.encoded import EncodedImages
from ema_lab.data.images import ImageSplits
from ema_lab.data.jpeg import Pixels
from ema_lab.data.pictures import file_status, read_pixels
from ema_lab.data.resized import ResizedFiles
from ema_lab.errors import DamagedDataError, DataError, missing_data_error
from ema_lab.wording import are, number_of


def image_folder_splits(
    folder: Path,
    *,
    image_size: int,
    channels: int = 3,
    train: str = "train",
    test: str = "val",
    upright: bool = False,
    shorter_side: int | None = None,
) -> ImageSplits:
    """Return both splits of a data set of image files.

    Args:
        folder: Folder that contains the folders of the splits.
        image_size: Height and width of the resulting images, in pixels.
        channels: 3 for RGB, 1 for grey images.
        train: Name of the training split's folder.
        test: Name of the test split's folder.
        upright: Whether to rotate each image by its EXIF orientation.
        shorter_side: Shorter side to which larger images are resized once; see `resized`.

    Raises:
        DataError: If a folder is missing or empty, the splits have different classes, or `shorter_side` is
            below `image_size`.
    """
    check_shorter_side(folder, shorter_side, image_size)
    if not (folder / train).is_dir() and (flat := undivided(folder, train, test)):
        raise DataError(flat)
    parts = [
        ImageFolderImages.read(folder / name, image_size, channels, upright=upright) for name in (train, test)
    ]
    if parts[0].classes != parts[1].classes:
        unshared = sorted({*parts[0].classes} ^ {*parts[1].classes})
        raise DataError(
            f"{folder}: {train} and {test} must hold the same classes, but one lacks {unshared[0]!r}"
        )
    return ImageSplits(*(part.resized(shorter_side) for part in parts))


def check_shorter_side(folder: Path, shorter_side: int | None, image_size: int) -> None:
    """Refuse a shorter side below the size of the images, of which crops would be enlarged again.

    Raises:
        DataError: If it is.
    """
    if shorter_side is not None and shorter_side < image_size:
        rule = f"at least image_size, here {image_size}"
        raise DataError(f"{folder}: shorter_side must be {rule}, got {shorter_side}")


def undivided(folder: Path, train: str = "train", test: str = "val") -> str:
    """Return the problem of a folder whose class folders are not divided into splits; "" for another."""
    try:
        below = [path for path in sorted(folder.iterdir()) if path.is_dir()]
        classes = [path.name for path in below if next(_files_below(str(path)), None) is not None]
    except OSError:
        return ""
    if not classes or {train, test} & {path.name for path in below}:
        return ""
    shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    rule = f"divide them into {folder / train}/CLASS and {folder / test}/CLASS"
    return f"{folder} has its classes ({shown}) in one part, without {train} and {test}: {rule}"


@dataclass(frozen=True)
class ImageFolderImages(EncodedImages):
    """Labelled images in files of a folder.

    Attributes:
        folder: Folder that contains one folder per class.
        classes: Names of the classes, in the order of the labels.
        files: Paths below `folder`, as bytes in one array: loader processes share the array without copies.
        labels: int64 (N,).
        image_size: Height and width of the resulting images, in pixels.
        channels: 3 for RGB, 1 for grey images.
        upright: Whether each image is rotated by its EXIF orientation.
        shorter_side: Shorter side to which larger images are resized once; None reads the files as they are.
    """

    folder: Path
    classes: tuple[str, ...]
    files: npt.NDArray[np.bytes_] = field(repr=False)
    labels: Tensor = field(repr=False)
    image_size: int
    channels: int = 3
    upright: bool = False
    shorter_side: int | None = None

    @classmethod
    def read(
        cls, folder: Path, image_size: int, channels: int = 3, *, upright: bool = False
    ) -> "ImageFolderImages":
        """List the files below a folder, without opening them.

        Raises:
            AbsentDataError: If the folder around it is missing.
            DataError: If the folder has no images.
            DamagedDataError: If a class has no images.
            ValueError: If `channels` is neither 1 nor 3.
        """
        if channels not in {1, 3}:
            raise ValueError(f"files are read as 1 or 3 channels, got {channels=}")
        layout = f"expected {folder}/<class>/*.JPEG (the layout of torchvision's ImageFolder), not downloaded"
        try:
            classes, samples = _samples(str(folder))
        except (OSError, RuntimeError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0].rstrip(". ")
            raise missing_data_error(folder.parent)(f"no images in {folder}: {layout} ({reason})") from None
        if not samples:
            raise DataError(f"no images in {folder}: {layout} (none in {number_of(len(classes), 'folder')})")
        _require_filled(folder, classes, [label for _, label in samples])
        paths = [os.fsencode(os.path.relpath(path, folder)) for path, _ in samples]
        labels = torch.tensor([label for _, label in samples])
        return cls(folder, tuple(classes), np.array(paths), labels, image_size, channels, upright)

    def resized(self, shorter_side: int | None) -> "ImageFolderImages":
        """Return the same images, the larger of them resized once.

        Raises:
            DataError: If the shorter side is below `image_size`.
        """
        check_shorter_side(self.folder, shorter_side, self.image_size)
        return replace(self, shorter_side=shorter_side)

    @property
    def copies(self) -> ResizedFiles | None:
        """The resized copies that are read in place of larger files; None without a shorter side."""
        if self.shorter_side is None:
            return None
        return ResizedFiles(self.folder, self.shorter_side, self.channels, self.upright)

    def content(self) -> Iterator[bytes]:
        """Yield the resulting shape, then path, size in bytes and label of each file, sorted by path.

        Pixels are left out: reading a million files would take longer than many runs.

        Raises:
            UnreadableDataError: If a file is gone.
        """
        yield str(self.shape).encode()
        for path, label in sorted(zip(self.files.tolist(), self.labels.tolist(), strict=True)):
            size = file_status(self.folder / os.fsdecode(path)).st_size
            yield path + f"\0{size}\0{label}\n".encode()

    def name(self, index: int) -> str:
        return str(self.folder / os.fsdecode(self.files[index]))

    def pixels(self, index: int) -> Pixels:
        name = os.fsdecode(self.files[index])
        if (copies := self.copies) is not None:
            return copies.pixels(name)
        return read_pixels(self.folder / name, self.channels, upright=self.upright)


def _samples(folder: str) -> tuple[list[str], list[tuple[str, int]]]:
    """Return the classes and the (path, label) of each image, in the order of torchvision's ImageFolder.

    Raises:
        FileNotFoundError: If the folder has no class folders.
    """
    classes, labels = find_classes(folder)
    files = {name: list(_files_below(os.path.join(folder, name))) for name in classes}
    return classes, [(file, labels[name]) for name in classes for file in files[name]]


def _files_below(folder: str) -> Iterator[str]:
    """Yield the image files below a folder; follow links, except back to a folder on their own path."""
    if _is_loop(folder):
        return
    listings: list[tuple[str, list[str]]] = []
    for path, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not _is_loop(os.path.join(path, name))]
        listings.append((path, files))
    for path, files in sorted(listings):
        yield from (
            os.path.join(path, file) for file in sorted(files) if file.lower().endswith(IMG_EXTENSIONS)
        )


def _is_loop(path: str) -> bool:
    """Return whether a path ends in a link to one of its own parent folders, or to a folder around one."""
    if not os.path.islink(path):
        return False
    target = os.path.realpath(path)
    return any(Path(os.path.realpath(above)).is_relative_to(target) for above in Path(path).parents)


def _require_filled(folder: Path, classes: Sequence[str], labels: Sequence[int]) -> None:
    """Refuse a class folder without images, which would still count as a class."""
    filled = set(labels)
    for label, name in enumerate(classes):
        if label not in filled:
            others = f"{number_of(len(labels), 'image')} {are(len(labels))} in the other {len(filled)}"
            rule = "a class needs at least one: fill its folder or remove it"
            raise DamagedDataError(f"{folder}: the class folder {name!r} holds no image ({others}); {rule}")
