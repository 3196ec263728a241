"""Packing of images in files into tar shards, with the same pixels in the same order.

A resized image is its copy, which is made where it is missing; any other is its file as it is.
"""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

from ema_lab.data.image_folder import ImageFolderImages
from ema_lab.data.shards import IMAGES
from ema_lab.errors import UnreadableDataError
from ema_lab.files import read_bytes

SHARD = 10_000  # images of a shard


def write_shards(images: ImageFolderImages, folder: Path, split: str, seen: Callable[[], None]) -> int:
    """Write the images of a split to `SPLIT-000000.tar` and so on in a folder; return their bytes.

    Args:
        images: The images.
        folder: Folder of the shards.
        split: First part of the names of the shards.
        seen: Called after each image.

    Raises:
        DataError: If an image cannot be read.
        OSError: If a shard cannot be written.
    """
    count = len(images.labels)
    size = 0
    for start in range(0, count, SHARD):
        path = folder / f"{split}-{start // SHARD:06}.tar"
        with tarfile.open(path, "w") as shard:
            for index in range(start, min(start + SHARD, count)):
                ending, content = _encoded(images, index)
                _add(shard, f"{index:08}.{ending}", content)
                _add(shard, f"{index:08}.cls", str(int(images.labels[index])).encode())
                seen()
        size += path.stat().st_size
    return size


def _encoded(images: ImageFolderImages, index: int) -> tuple[str, bytes]:
    """Return the ending and the bytes of the file from which an image is decoded."""
    name = os.fsdecode(images.files[index])
    content = None if images.copies is None else images.copies.content(name)
    if content is not None:
        return "jpg", content
    path, ending = images.folder / name, name.rpartition(".")[2].lower()
    try:
        content = read_bytes(path)
    except OSError as error:  # of an image, not of the shards
        raise UnreadableDataError(f"{path} cannot be read: {error.strerror or error}") from None
    return ending if ending in IMAGES else IMAGES[-1], content


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))
