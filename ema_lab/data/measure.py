"""Facts of a user's images, measured once: layout, classes, sizes, channels, mean and deviation."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from ema_lab.data.encoded import EVALUATION_SCALE, EncodedImages
from ema_lab.data.image_folder import image_folder_splits, undivided
from ema_lab.data.image_list import image_list_splits
from ema_lab.data.images import ImageSource, ImageSplits
from ema_lab.data.jpeg import Pixels
from ema_lab.data.shards import shard_splits
from ema_lab.errors import DataError
from ema_lab.wording import number_of

TESTS = ("val", "test", "validation", "valid")  # names of a test split, the first that is there
USUAL_SIZE = 224
SHOWN = 5  # broken images that an error names
BATCH = 64
EXPECTED = "train/CLASS and val/CLASS, train.csv and test.csv, or train-*.tar and val-*.tar"


@dataclass(frozen=True)
class Layout:
    """Layout of an image folder: the function that reads the folder, and the names of its splits."""

    read: Callable[..., ImageSplits]
    train: str
    test: str


@dataclass(frozen=True)
class Look:
    """Facts of one image, or the problem that it cannot be read.

    Attributes:
        side: Shorter side in pixels.
        is_grey: Whether red, green and blue are equal everywhere.
        mean: Mean of the central pixels per channel, scaled to [0, 1].
        square: Mean of their squares.
        problem: Name of the file and reason; empty for an image that can be read.
    """

    side: int = 0
    is_grey: bool = True
    mean: tuple[float, ...] = ()
    square: tuple[float, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Measured:
    """Facts of a data set.

    Attributes:
        layout: How the folder holds its images.
        names: Names of the classes; none if the files have numbers alone.
        classes: Number of classes.
        channels: 1 if every image that was read is grey, else 3.
        image_size: Height and width of the resulting images, in pixels.
        train_images: Number of training images.
        test_images: Number of test images.
        mean: Mean of the training pixels per channel, scaled to [0, 1], of the square that evaluation sees.
            Each image counts once.
        std: Standard deviation of the training pixels per channel, scaled to [0, 1].
        sides: Least, median and greatest shorter side of the images that were read, in pixels.
        read: Number of images that were read.
        sha256: Checksum of names, sizes and labels of all files.
        unused: Files in folders of classes whose names do not end as an image's, from the data set's folder.
    """

    layout: Layout
    names: tuple[str, ...]
    classes: int
    channels: int
    image_size: int
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sides: tuple[int, int, int]
    read: int
    sha256: str
    unused: tuple[str, ...] = ()


def layout_of(folder: Path) -> Layout:
    """Detect the layout of an image folder.

    Raises:
        DataError: If the layout is unknown.
    """
    for test in TESTS:
        if (folder / "train").is_dir() and (folder / test).is_dir():
            return Layout(image_folder_splits, "train", test)
        if (folder / "train.csv").is_file() and (folder / f"{test}.csv").is_file():
            return Layout(image_list_splits, "train.csv", f"{test}.csv")
        if any(folder.glob("train-*.tar")) and any(folder.glob(f"{test}-*.tar")):
            return Layout(shard_splits, "train-*.tar", f"{test}-*.tar")
    if flat := undivided(folder):
        raise DataError(flat)
    found = "holds images in no known way" if folder.is_dir() else "is no folder"
    raise DataError(f"{folder} {found}: expected {EXPECTED} in it")


def measure(
    folder: Path,
    *,
    image_size: int | None = None,
    sample: int | None = None,
    workers: int = 0,
    seen: Callable[[int, int], None] = lambda done, total: None,
) -> Measured:
    """Read the images of a folder once and measure their facts.

    Args:
        folder: Folder of the data set.
        image_size: Height and width of the resulting images; by default 224, or less for smaller images.
        sample: Number of images to read of each split, evenly spaced; all by default.
        workers: Number of processes that read.
        seen: Receives the number of images that were read, and of all to read.

    Raises:
        DataError: If the layout is unknown, the splits do not fit each other, or images cannot be read.
    """
    layout = layout_of(folder)
    names = {"train": layout.train, "test": layout.test}
    splits = layout.read(folder, image_size=USUAL_SIZE, **names)
    parts = [_encoded(part) for part in (splits.train, splits.test)]
    chosen = [_spaced(len(part.labels), sample) for part in parts]
    total = sum(map(len, chosen))
    looks: list[list[Look]] = [[], []]
    for number, (part, indices) in enumerate(zip(parts, chosen, strict=True)):
        for batch in _looked(part, indices, workers):
            looks[number] += batch
            seen(sum(map(len, looks)), total)
    every = [look for part in looks for look in part]
    _require_whole(folder, every)
    channels = 1 if all(look.is_grey for look in every) else 3
    sides = [look.side for look in every]
    size = image_size or min(USUAL_SIZE, int(np.median(sides)))
    mean = np.mean([look.mean for look in looks[0]], axis=0)[:channels]
    square = np.mean([look.square for look in looks[0]], axis=0)[:channels]
    std = np.sqrt(np.maximum(square - mean**2, 1e-12))
    return Measured(
        layout,
        getattr(splits.train, "classes", ()),
        1 + max(int(part.labels.max()) for part in parts),
        channels,
        size,
        len(parts[0].labels),
        len(parts[1].labels),
        tuple(round(float(value), 4) for value in mean),
        tuple(round(float(value), 4) for value in std),
        (min(sides), int(np.median(sides)), max(sides)),
        total,
        layout.read(folder, image_size=size, channels=channels, **names).sha256,
        _unused(folder, layout),
    )


def _unused(folder: Path, layout: Layout) -> tuple[str, ...]:
    """Return the files in folders of classes that are not taken as images. Hidden files are left out."""
    if layout.read is not image_folder_splits:
        return ()
    found = [
        Path(path, file).relative_to(folder)
        for split in (layout.train, layout.test)
        for path, _, files in os.walk(folder / split, followlinks=False)
        for file in files
        if not file.lower().endswith(IMG_EXTENSIONS) and not file.startswith(".")
    ]
    return tuple(sorted(str(path) for path in found if len(path.parts) > 2))


@dataclass(frozen=True)
class _Looks(Dataset[Look]):
    """Looks at the images of a source."""

    images: EncodedImages

    def __getitem__(self, index: int) -> Look:
        try:
            pixels = self.images.pixels(index)
        except DataError as error:
            return Look(problem=str(error))
        values = _middle(pixels).astype(np.float64) / 255
        return Look(
            min(pixels.shape[:2]),
            bool((pixels == pixels[:, :, :1]).all()),
            tuple(values.mean((0, 1)).tolist()),
            tuple((values**2).mean((0, 1)).tolist()),
        )


def _middle(pixels: Pixels) -> Pixels:
    """Return the square that evaluation sees of an image, before it is resized."""
    height, width = pixels.shape[:2]
    side = max(1, round(min(height, width) / EVALUATION_SCALE))
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _looked(part: EncodedImages, indices: list[int], workers: int) -> Iterator[list[Look]]:
    yield from DataLoader(_Looks(part), BATCH, sampler=indices, num_workers=workers, collate_fn=list)


def _encoded(part: ImageSource) -> EncodedImages:
    assert isinstance(part, EncodedImages)
    return part


def _spaced(count: int, sample: int | None) -> list[int]:
    """Return the indices of all images, or of a sample at even distances."""
    wanted = count if sample is None else min(sample, count)
    return (torch.arange(wanted) * count // wanted).tolist()


def _require_whole(folder: Path, looks: list[Look]) -> None:
    broken = [look.problem for look in looks if look.problem]
    if broken:
        more = f"; and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        rule = f"{number_of(len(broken), 'image')} of {len(looks)} cannot be read, mend or remove them"
        raise DataError(f"{folder}: {rule}: {'; '.join(broken[:SHOWN])}{more}")
