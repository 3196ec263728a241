"""Resized copies of images, made before training: which are missing, what they take, and their making."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, Dataset

from ema_lab.data.pictures import file_status
from ema_lab.data.resized import CopyState, ResizedFiles
from ema_lab.errors import DataError, WorkersDiedError

BATCH = 64
SAMPLE = 64  # images that are resized to estimate the size of all
GOES_ON = "the copies made so far stay, and the same command goes on"


@dataclass(frozen=True)
class CopyResult:
    """Result of making the copy of one image.

    Attributes:
        state: As `ResizedFiles.ensure` returns it; "damaged" for an image, "unwritable" for a copy.
        size: Bytes of the copy.
        name: Path of a damaged image.
        problem: Reason why there is no copy.
    """

    state: CopyState | Literal["damaged", "unwritable"]
    size: int = 0
    name: str = ""
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Copies(Dataset[CopyResult]):
    """The resized copies that runs read of one folder of images.

    Attributes:
        files: The copies.
        names: Paths of the images below the folder, as bytes in one array.
    """

    files: ResizedFiles
    names: npt.NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> CopyResult:
        """Make one copy unless it is there."""
        name = os.fsdecode(self.names[index])
        try:
            return CopyResult(*self.files.ensure(name))
        except DataError as error:
            return CopyResult("damaged", name=str(self.files.folder / name), problem=str(error))
        except OSError as error:
            return CopyResult("unwritable", problem=str(error.strerror or error))

    @property
    def can_be_kept(self) -> bool:
        """Whether the folder of the copies, or the one that it will be in, can be written."""
        folder = self.files.cache if self.files.cache.is_dir() else self.files.cache.parent
        return os.access(folder, os.W_OK | os.X_OK)

    @cached_property
    def missing(self) -> "MissingCopies":
        """Number and size of the copies that are not there yet, estimated from a sample of their images."""
        names = self._without_copy()
        sizes = [self._size(name) for name in names[_sample(len(names))]]
        if not any(sizes):
            return MissingCopies(0, 0)
        share = len(names) / len(sizes)
        return MissingCopies(round(share * sum(map(bool, sizes))), round(share * sum(sizes)))

    @cached_property
    def packed_size(self) -> int:
        """Bytes of all images in shards, estimated from a sample: as resized, or a small image's file."""
        sizes = [self._packed_size(os.fsdecode(name)) for name in self.names[_sample(len(self))].tolist()]
        return round(len(self) / len(sizes) * sum(sizes))

    def _packed_size(self, name: str) -> int:
        try:
            content = self.files.content(name)
            return file_status(self.files.folder / name).st_size if content is None else len(content)
        except DataError:
            return 0  # the making of the copies names it

    def _size(self, name: str) -> int:
        """Return the bytes of an image as resized now; 0 for a small one, or one that cannot be read."""
        try:
            return len(self.files.encoded(name) or b"")
        except DataError:
            return 0  # training, or the making of the copies, names it

    def _without_copy(self) -> list[str]:
        """Return the names of the images that have no copy, not even an old or a damaged one."""
        listed: dict[str, set[str]] = {}
        found = []
        for name in map(os.fsdecode, self.names.tolist()):
            folder, _, file = name.rpartition("/")
            if folder not in listed:
                listed[folder] = set(_listing(self.files.cache / folder))
            if f"{file}.jpeg" not in listed[folder]:
                found.append(name)
        return found


@dataclass(frozen=True)
class MissingCopies:
    """Copies that are still to be made: number of images, and bytes."""

    images: int
    size: int


@dataclass(frozen=True)
class CopyCounts:
    """Counts of the copies of one folder after all were tried.

    Attributes:
        copies: The copies.
        made: Number of copies that were written.
        kept: Number of copies that were there.
        small: Number of images that are small enough without one.
        size: Bytes of all copies.
        broken: Name of each image that cannot be read, and the reason.
    """

    copies: Copies
    made: int
    kept: int
    small: int
    size: int
    broken: tuple[tuple[str, str], ...] = ()


def make_copies(
    copies: Copies, workers: int = 1, seen: Callable[[int], None] = lambda number: None
) -> CopyCounts:
    """Make the copies of a folder that are not there yet. All that were made stay if this is stopped.

    Args:
        copies: The copies.
        workers: Number of processes.
        seen: Receives the number of images that were looked at so far.

    Raises:
        DataError: If a copy cannot be written.
        WorkersDiedError: If a process was killed.
    """
    states: Counter[str] = Counter()
    broken: list[tuple[str, str]] = []
    size = 0
    with _loading(copies):
        for batch in DataLoader(copies, BATCH, num_workers=workers if workers > 1 else 0, collate_fn=list):
            for each in batch:
                if each.state == "unwritable":
                    raise DataError(
                        f"{copies.files.cache}: copies cannot be written: {each.problem}; {GOES_ON}"
                    )
                if each.state == "damaged":
                    broken.append((each.name, each.problem))
                size += each.size
            states.update(each.state for each in batch)
            seen(states.total())
    return CopyCounts(copies, states["made"], states["kept"], states["small"], size, tuple(broken))


@contextmanager
def _loading(copies: Copies) -> Iterator[None]:
    """Turn torch's error about a killed process into a `WorkersDiedError`.

    A signal handler raises it, so that it may come from any line of the block.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        reason = "a process was killed, perhaps for want of memory"
        raise WorkersDiedError(f"{copies.files.cache}: {reason}; {GOES_ON}") from error


def _sample(count: int) -> slice:
    """Return the places of at most `SAMPLE` of so many names, at equal distances."""
    return slice(0, count, max(1, -(-count // SAMPLE)))


def _listing(folder: os.PathLike[str]) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
