"""WebDataset's tar shards: an image and its class side by side in uncompressed tar files.

Members of one sample share their name up to the first dot: `000123.jpg` and `000123.cls`. The class is the
whole number in `.cls`, or the number `label` of `.json`. Any image is read by its position in its shard, so
that order and crops follow from (seed, epoch, index) as for files in folders. The positions are found once
and kept in a file `index-*.npz` beside the shards, with the shards' sizes and times.
"""

import glob
import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ema_lab.data.encoded import EncodedImages
from ema_lab.data.images import ImageSplits
from ema_lab.data.jpeg import Pixels
from ema_lab.data.pictures import decode_pixels
from ema_lab.errors import DamagedDataError, DataError, UnreadableDataError, missing_data_error
from ema_lab.files import atomic_write
from ema_lab.wording import number_of

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "ppm")
INDEX = "index-{}.npz"  # of one split
SHOWN = 5  # absent classes that an error names
Places = npt.NDArray[np.int64]  # shard, offset, size and label of each image (N, 4)


def shard_splits(
    folder: Path,
    *,
    image_size: int,
    channels: int = 3,
    train: str = "train-*.tar",
    test: str = "val-*.tar",
    upright: bool = False,
) -> ImageSplits:
    """Return both splits of a data set in tar shards.

    Args:
        folder: Folder of the shards.
        image_size: Height and width of the resulting images, in pixels.
        channels: 3 for RGB, 1 for grey images.
        train: Pattern of the names of the training split's shards.
        test: Pattern of the names of the test split's shards.
        upright: Whether to rotate each image by its EXIF orientation.

    Raises:
        DataError: If no shard matches a pattern, a shard cannot be read, or a sample lacks its image or
            class.
    """
    parts = [
        ShardImages.read(folder, pattern, image_size, channels, upright=upright) for pattern in (train, test)
    ]
    _require_filled(folder / train, parts[0].labels, 1 + max(int(part.labels.max()) for part in parts))
    return ImageSplits(*parts)


@dataclass(frozen=True)
class ShardImages(EncodedImages):
    """Labelled images in tar shards.

    Attributes:
        folder: Folder of the shards.
        shards: Names of the shards, in order.
        places: Shard, offset and size in bytes, and label of each image, int64 (N, 4).
        labels: int64 (N,).
        image_size: Height and width of the resulting images, in pixels.
        channels: 3 for RGB, 1 for grey images.
        upright: Whether each image is rotated by its EXIF orientation.
    """

    folder: Path
    shards: tuple[str, ...]
    places: Places = field(repr=False)
    labels: Tensor = field(repr=False)
    image_size: int
    channels: int = 3
    upright: bool = False

    @classmethod
    def read(
        cls, folder: Path, pattern: str, image_size: int, channels: int = 3, *, upright: bool = False
    ) -> "ShardImages":
        """Find the images of the shards whose names match a pattern, or read them from the index.

        Raises:
            AbsentDataError: If the folder is missing.
            DataError: If it has no shard, or one cannot be read.
        """
        shards = tuple(sorted(glob.glob(glob.escape(str(folder)) + "/" + pattern)))
        if not shards:
            raise missing_data_error(folder)(
                f"no shards {folder / pattern}: expected uncompressed tar files of WebDataset"
            )
        names = tuple(os.path.relpath(shard, folder) for shard in shards)
        places = _indexed(folder, names)
        if not len(places):
            raise DataError(f"{folder / pattern}: no image in {number_of(len(shards), 'shard')}")
        return cls(
            folder, names, places, torch.from_numpy(places[:, 3].copy()), image_size, channels, upright
        )

    def name(self, index: int) -> str:
        shard, offset = self.places[index, :2]
        return f"{self.folder / self.shards[shard]} at byte {offset}"

    def pixels(self, index: int) -> Pixels:
        shard, offset, size = self.places[index, :3].tolist()
        path = self.folder / self.shards[shard]
        try:
            content = os.pread(_descriptor(str(path)), size, offset)
        except OSError as error:
            raise UnreadableDataError(f"{path} cannot be read: {error.strerror}") from None
        return decode_pixels(content, self.name(index), self.channels, upright=self.upright)

    def content(self) -> Iterator[bytes]:
        """Yield the resulting shape, name and size of each shard, then the place and label of each image."""
        yield str(self.shape).encode()
        for shard in self.shards:
            yield f"{shard}\0{(self.folder / shard).stat().st_size}\n".encode()
        yield self.places.tobytes()


def _require_filled(shards: Path, labels: Tensor, classes: int) -> None:
    """Refuse a class that no training image has: it would still be an output of the model."""
    absent = sorted(set(range(classes)) - set(labels.unique().tolist()))
    if absent:
        named = ", ".join(map(str, absent[:SHOWN])) + (", ..." if len(absent) > SHOWN else "")
        rule = f"classes are numbered from 0, here to {classes - 1}, without gaps"
        raise DataError(f"{shards}: no training image has the class {named}: {rule}")


@lru_cache(maxsize=4096)
def _descriptor(path: str) -> int:
    """Return an open file of a shard, kept for the life of the process. `os.pread` shares no position."""
    return os.open(path, os.O_RDONLY)


def _indexed(folder: Path, shards: tuple[str, ...]) -> Places:
    """Return the places of all images, from an index of the shards as they are now or by a search."""
    facts = [(shard, (status := (folder / shard).stat()).st_size, status.st_mtime_ns) for shard in shards]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    path = folder / INDEX.format(hashlib.sha256(json.dumps(shards).encode()).hexdigest()[:12])
    try:
        with np.load(path, allow_pickle=False) as index:
            if str(index["key"]) == key:
                return np.asarray(index["places"], dtype=np.int64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # there is none yet, or it is damaged: the shards have all that it has
    rows = [row for number, shard in enumerate(shards) for row in _samples(folder / shard, number)]
    places = np.array(rows, dtype=np.int64).reshape(-1, 4)
    file = io.BytesIO()
    np.savez(file, key=key, places=places)
    try:
        with atomic_write(path) as partial:
            partial.write_bytes(file.getvalue())
    except OSError:
        pass  # the folder cannot be written: the next process searches again
    return places


def _samples(path: Path, number: int) -> list[tuple[int, int, int, int]]:
    """Return shard, offset, size and label of each sample of a shard, in order."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                key = f"{folder}/{stem}"
                if not member.isfile():
                    continue
                if ending.lower() in IMAGES:
                    if key in images:
                        raise DataError(f"{path}: {member.name}: the sample has a second image")
                    images[key] = (member.offset_data, member.size)
                elif ending in ("cls", "json") and (file := shard.extractfile(member)) is not None:
                    labels[key] = _label(f"{path}: {member.name}", ending, file.read())
    except tarfile.ReadError as error:
        rule = "shards are uncompressed tar files, of which any image can be read alone"
        raise DamagedDataError(f"{path} cannot be read ({error}): {rule}") from None
    except OSError as error:
        raise UnreadableDataError(f"{path} cannot be read: {error.strerror}") from None
    for key in images.keys() ^ labels.keys():
        lack = "a class (.cls, or `label` in .json)" if key in images else "an image"
        raise DataError(f"{path}: the sample {key.removeprefix('/')!r} lacks {lack}")
    return [(number, *place, labels[key]) for key, place in images.items()]


def _label(where: str, ending: str, content: bytes) -> int:
    try:
        label = int(content) if ending == "cls" else json.loads(content)["label"]
    except (ValueError, KeyError, TypeError):
        label = None
    if type(label) is not int or label < 0:
        subject = "the class" if ending == "cls" else "`label`"
        raise DataError(f"{where}: {subject} must be a whole number from 0 on")
    return label
