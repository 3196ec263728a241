"""Check before training that the image files of a classification set are whole.

A file that was cut off is listed like any other and fails when a batch asks for it, after hours perhaps.
The ends of each file are read. Files that these do not vouch for are decoded.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from ema_lab.data.file_ends import ends_of, is_whole
from ema_lab.data.image_folder import ImageFolderImages
from ema_lab.data.images import ImageSplits
from ema_lab.data.load import build_dataset
from ema_lab.data.shards import ShardImages
from ema_lab.errors import DamagedDataError, DataError
from ema_lab.specs.run import DataSpec
from ema_lab.wording import number_of

THREADS = 16  # that wait for a slow file system
CHUNK = 512
SHOWN = 10  # broken files that a message names
Files = ImageFolderImages | ShardImages


def check_whole(data: DataSpec, root: Path) -> None:
    """Check that every image file of a classification set is whole: of folders, lists and shards.

    Detection sets check their files when they are read. A user's own kind of source is not checked.

    Raises:
        DamagedDataError: If files are broken: how many, the reason of the first, and the names of others.
    """
    splits = build_dataset(data, root)
    if not isinstance(splits, ImageSplits):
        return
    parts = [part for part in (splits.train, splits.test) if isinstance(part, Files)]
    problems = [problem for part in parts for problem in broken_images(part)]
    if not problems:
        return
    raise DamagedDataError(broken_text(data.name, problems, sum(len(part.labels) for part in parts)))


def broken_text(where: str, problems: Sequence[tuple[str, str]], total: int) -> str:
    """Return the line about images that cannot be read.

    Args:
        where: Data set or folder.
        problems: Name of each broken image, and the reason.
        total: Number of images, broken or not.
    """
    (_, first), *others = problems
    count = len(problems)
    names = [name for name, _ in others[: SHOWN - 1]] + ["..."] * (count > SHOWN)
    more = f"; and {count - 1} more: {', '.join(names)}" if others else ""
    rule = "replace or remove them" if others else "replace or remove it"
    return f"{where}: {count:,} of {number_of(total, 'image')} cannot be read: {first}{more}; {rule}"


def broken_images(images: Files) -> list[tuple[str, str]]:
    """Return the name of each image that cannot be read, and the reason, in their order."""

    def suspects(indices: Sequence[int]) -> list[int]:
        return [index for index in indices if not _is_vouched_for(images, index)]

    count = len(images.labels)
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = [index for chunk in pool.map(suspects, chunks) for index in chunk]
        return [
            problem
            for each in pool.map(lambda one: list(_undecodable(images, one)), found)
            for problem in each
        ]


def _is_vouched_for(images: Files, index: int) -> bool:
    try:
        if isinstance(images, ImageFolderImages):
            return is_whole(*ends_of(images.name(index)))
        shard, offset, size = images.places[index, :3].tolist()
        return is_whole(*ends_of(images.folder / images.shards[shard], offset, size))
    except OSError:
        return False  # decoding says what is wrong


def _undecodable(images: Files, index: int) -> Iterator[tuple[str, str]]:
    """Yield the name of an image and the reason why it cannot be decoded, if so."""
    try:
        _decode(images, index)
    except DataError as error:
        yield images.name(index), str(error)


def _decode(images: Files, index: int) -> None:
    """Decode an image, without the making of a resized copy. One that has its copy is not read again."""
    if isinstance(images, ImageFolderImages) and (copies := images.copies) is not None:
        if copies.has(os.fsdecode(images.files[index])):
            return
        images = replace(images, shorter_side=None)
    images.pixels(index)
