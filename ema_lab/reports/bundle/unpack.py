"""Safe unpacking of untrusted bundles: no member leaves the folder or fills the disk."""

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

# Errors that reading a zip file may raise.
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
MOST_BYTES = 256 * 2**20  # limit of the unpacked size; for a large file, MOST_TIMES its own size
MOST_TIMES = 50


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield the folder of a bundle: the path itself, or a temporary folder with the unpacked zip file.

    Raises:
        StoreError: If the file is not a zip file, would write outside the folder, or is too large.
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
                        raise StoreError(f"{path} is not a bundle: it holds {entry!r}")
                archive.extractall(folder)
        except UNREADABLE as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise StoreError(f"{path} cannot be read: {reason}") from None
        yield Path(folder).resolve()


def require_modest(archive: zipfile.ZipFile, name: str, size: int) -> None:
    """Check the declared sizes and names of a zip file of `size` bytes before unpacking.

    Raises:
        StoreError: If the members together are too large, or two have the same name.
    """
    total = sum(entry.file_size for entry in archive.infolist())
    most = max(MOST_BYTES, MOST_TIMES * size)
    if total > most:
        sizes = f"{total / 2**20:,.0f} MiB, more than {most / 2**20:,.0f} MiB for a file of its size"
        raise StoreError(f"{name} is not unpacked: it would be {sizes}")
    names = archive.namelist()
    if len(set(names)) < len(names):
        twice = next(entry for number, entry in enumerate(names) if entry in names[:number])
        raise StoreError(f"{name} is not a bundle: it holds {twice!r} twice")


def require_plain_files(folder: Path, ignored: Collection[str]) -> None:
    """Check that a folder holds only files and folders: links lead outside, and reading a pipe never ends.

    Raises:
        StoreError: With the first other entry.
    """
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = [name for name in folders if name not in ignored]
        for name in (*folders, *names):
            path = Path(parent, name)
            if not stat.S_ISDIR(mode := path.lstat().st_mode) and not stat.S_ISREG(mode):
                kind = "a link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
                raise StoreError(f"{path} is {kind}, but a bundle may hold only files and folders")


def _leaves(entry: str) -> bool:
    path = PurePosixPath(entry.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts
