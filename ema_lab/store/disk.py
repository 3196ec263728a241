"""Disk space that the checkpoints of pending runs need, and free space."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from ema_lab.wording import number_of

SHOWN_SHARE = 0.01  # of the free space: less is not worth a line


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that the checkpoints of some runs will take, and the free bytes of the store's disk."""

    runs: int
    needed: int
    free: int

    @property
    def is_short(self) -> bool:
        """Whether the checkpoints do not fit."""
        return self.needed > self.free

    @property
    def is_notable(self) -> bool:
        """Whether the checkpoints take a large enough share of the free space to print a line about it."""
        return self.needed > SHOWN_SHARE * self.free

    @property
    def sentence(self) -> str:
        """Sentence with the needed and the free space."""
        needed = f"checkpoints of {number_of(self.runs, 'run')} take about {size_text(self.needed)}"
        return f"{needed}, {size_text(self.free)} free"


def free_bytes(root: Path) -> int:
    """Return the free bytes of the disk that holds a folder, or will hold it."""
    folder = root.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def size_text(size: int) -> str:
    """Return a number of bytes in the largest unit that it fills, in powers of 1,000."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if size >= 1000**power:
            return f"{size / 1000**power:.3g} {unit}"
    return f"{size} B"
