"""Bundles of unknown origin, unpacked: no member leaves the folder, and none fills the disk."""

import lzma
import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ema_lab.errors import StoreError

# What reading a zip file may raise.
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
MOST_BYTES = 256 * 2**20  # unpacked; of a large file, as many times its own size as text can shrink
MOST_TIMES = 50


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give the folder of a bundle: its own, or a temporary one that a zip file was unpacked into.

    Raises:
        StoreError: If it is no zip file, or one that would write elsewhere or without end.
    """
    if path.is_dir():
        yield path.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                require_modest(archive, str(path), path.stat().st_size)
                for entry in archive.namelist():
                    if _leaves(entry):
                        raise StoreError(f"{path} is no bundle: it holds {entry!r}")
                archive.extractall(folder)
        except UNREADABLE as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise StoreError(f"{path} cannot be read: {reason}") from None
        yield Path(folder).resolve()


def require_modest(archive: zipfile.ZipFile, name: str, size: int) -> None:
    """Check what a zip file of `size` bytes says of itself before anything is unpacked.

    Raises:
        StoreError: If its members are together too large, or one is there twice.
    """
    total = sum(entry.file_size for entry in archive.infolist())
    most = max(MOST_BYTES, MOST_TIMES * size)
    if total > most:
        words = f"{total / 2**20:,.0f} MiB, more than {most / 2**20:,.0f} MiB for a file of its size"
        raise StoreError(f"{name} is not unpacked: it would be {words}")
    names = archive.namelist()
    if len(set(names)) < len(names):
        twice = next(entry for number, entry in enumerate(names) if entry in names[:number])
        raise StoreError(f"{name} is no bundle: it holds {twice!r} twice")


def require_plain_files(folder: Path, ignored: Collection[str]) -> None:
    """Check that a folder holds files and folders alone: a link leads out of it, a pipe is never read out.

    Raises:
        StoreError: With the first that is something else.
    """
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = [name for name in folders if name not in ignored]
        for name in (*folders, *names):
            path = Path(parent, name)
            if not stat.S_ISDIR(mode := path.lstat().st_mode) and not stat.S_ISREG(mode):
                what = "a link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
                raise StoreError(f"{path} is {what}: a bundle holds files and folders alone")


def _leaves(entry: str) -> bool:
    path = PurePosixPath(entry.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts
