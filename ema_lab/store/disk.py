"""Disk space that files still to be written will need, and free space."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

SHOWN_SHARE = 0.01  # of the free space: less is not worth a line


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that files will take, and the free bytes of their disk.

    Attributes:
        content: Name of the files, in the plural, such as "checkpoints of 3 runs".
        needed: Bytes of the files.
        free: Free bytes of the disk.
        disk: Number of the disk.
        location: Name of a folder on the disk, such as "the store runs".
        remedy: Remedy if the disk is too small.
    """

    content: str
    needed: int
    free: int
    disk: int
    location: str
    remedy: str

    @property
    def is_short(self) -> bool:
        """Whether the files do not fit."""
        return self.needed > self.free

    @property
    def is_notable(self) -> bool:
        """Whether the files take a large enough share of the free space to print a line about them."""
        return self.needed > SHOWN_SHARE * self.free

    @property
    def sentence(self) -> str:
        """Sentence with the needed and the free space."""
        return f"{self.content} take about {size_text(self.needed)}, {size_text(self.free)} free"

    @property
    def refusal(self) -> str:
        """Message of the error that the disk is too small."""
        return f"the disk of {self.location} is too small: {self.sentence}; {self.remedy}"


def by_disk(needs: Iterable[DiskNeed]) -> list[DiskNeed]:
    """Add up the needs of each disk. The first need of a disk gives its location and its remedy."""
    disks: dict[int, DiskNeed] = {}
    for need in needs:
        other = disks.get(need.disk)
        if other is not None:
            need = replace(
                other, content=f"{other.content} and {need.content}", needed=other.needed + need.needed
            )
        disks[need.disk] = need
    return list(disks.values())


def free_bytes(root: Path) -> int:
    """Return the free bytes of the disk that holds a folder, or will hold it."""
    return shutil.disk_usage(existing_folder(root)).free


def disk_number(root: Path) -> int:
    """Return the number of the disk that holds a folder, or will hold it."""
    return existing_folder(root).stat().st_dev


def existing_folder(root: Path) -> Path:
    """Return a folder if it is there, else the nearest one above that is."""
    folder = root.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def size_text(size: int) -> str:
    """Return a number of bytes in the largest unit that it fills, in powers of 1,000."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if size >= 1000**power:
            return f"{size / 1000**power:.3g} {unit}"
    return f"{size} B"
