"""Image lists: a CSV file per split names each image's path and class.

The header is `path,label`, in any order, among any other columns. Paths count from the file's folder.
Labels number the classes of the training list in alphabetical order, or in the order of the numbers if
every class is a whole number.
"""

import csv
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from ema_lab.data.image_folder import ImageFolderImages, check_shorter_side
from ema_lab.data.images import ImageSplits
from ema_lab.errors import DataError, missing_data_error
from ema_lab.files import read_text

COLUMNS = ("path", "label")


def image_list_splits(
    folder: Path,
    *,
    image_size: int,
    channels: int = 3,
    train: str = "train.csv",
    test: str = "test.csv",
    upright: bool = False,
    shorter_side: int | None = None,
) -> ImageSplits:
    """Return both splits of a data set that CSV files list.

    Args:
        folder: Folder of the CSV files.
        image_size: Height and width of the resulting images, in pixels.
        channels: 3 for RGB, 1 for grey images.
        train: Name of the training split's file.
        test: Name of the test split's file.
        upright: Whether to rotate each image by its EXIF orientation.
        shorter_side: Shorter side to which larger images are resized once; see `resized`.

    Raises:
        DataError: With file and line, if a file cannot be read, a path is listed twice or lies outside of the
            folder, a test image has a class that no training image has, or `shorter_side` is below
            `image_size`.
    """
    check_shorter_side(folder, shorter_side, image_size)
    listed = [dict(_listed(folder / name)) for name in (train, test)]
    names = _in_order({label for label, _ in listed[0].values()})
    numbers = {name: number for number, name in enumerate(names)}
    parts = []
    for name, images in zip((train, test), listed, strict=True):
        for label, line in images.values():
            if label not in numbers:
                raise DataError(f"{folder / name}:{line}: no image of {train} has the class {label!r}")
        labels = torch.tensor([numbers[label] for label, _ in images.values()])
        files = np.array([os.fsencode(path) for path in images])
        parts.append(ImageFolderImages(folder, names, files, labels, image_size, channels, upright))
    return ImageSplits(*(part.resized(shorter_side) for part in parts))


def _listed(path: Path) -> Iterator[tuple[str, tuple[str, int]]]:
    """Yield (path, (label, line)) of each image of a list."""
    try:
        rows = csv.DictReader(io.StringIO(read_text(path)), strict=True)
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise DataError(f"{path}:1: needs the columns path and label, but has no {missing[0]!r}")
        seen: dict[str, int] = {}
        for row in rows:
            image, label = _checked(path, rows.line_num, row)
            if image in seen:
                raise DataError(f"{path}:{rows.line_num}: {image} is listed before, in line {seen[image]}")
            seen[image] = rows.line_num
            yield image, (label, rows.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise missing_data_error(path.parent)(f"{path} cannot be read: {reason}") from None
    if not seen:
        raise DataError(f"{path}: lists no image")


def _checked(path: Path, line: int, row: Mapping[str, str | None]) -> tuple[str, str]:
    image, label = ((row[column] or "").strip() for column in COLUMNS)
    if not image or not label:
        raise DataError(f"{path}:{line}: needs a path and a label")
    parts = PurePosixPath(image)
    if parts.is_absolute() or ".." in parts.parts:
        raise DataError(f"{path}:{line}: {image} must lie below {path.parent}")
    return image, label


def _in_order(labels: set[str]) -> tuple[str, ...]:
    if all(label.isascii() and label.isdigit() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))
