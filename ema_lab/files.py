"""Atomic file writes, reads that never block, and limits on the files a bundle may name."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO

PARTIAL = ".partial"
DAMAGED = ".damaged-"  # suffix of quarantined files, followed by a number
_CHUNK_BYTES = 2**20
_PACKAGE = Path(__file__).resolve().parent
_reading_root: ContextVar[Path | None] = ContextVar("_below", default=None)


class NotRegularFileError(OSError):
    """Folder, pipe or device in place of a regular file, or a file above the size limit."""


@contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path and rename it to `path` on success. Readers see the old file or the new one.

    Args:
        path: Destination of the file.
        durable: Whether to flush the file to disk before the rename, which takes milliseconds.

    Raises:
        OSError: If the file cannot be written. The temporary file is removed.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        if durable:
            _flush_to_disk(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(path, durable=durable) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def open_regular(path: Path | str) -> Iterator[IO[bytes]]:
    """Open a regular file for a block. Opening never blocks, not even on a pipe.

    Raises:
        NotRegularFileError: If the path is not a regular file.
        OSError: If the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a plain open of a pipe blocks
    try:
        _size_of_regular(descriptor)
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_text(path: Path | str) -> str:
    """Return the UTF-8 text of a regular file, with line breaks as Python's. Opening never blocks.

    Raises:
        UnicodeDecodeError: If the file is not UTF-8.
        OSError: As for `read_bytes`.
    """
    return read_bytes(path).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: Path | str, limit: int | None = None) -> bytes:
    """Return the content of a regular file. Opening never blocks, not even on a pipe.

    Args:
        path: The file. A symbolic link is followed.
        limit: Maximum size in bytes.

    Raises:
        NotRegularFileError: If the path is not a regular file, or the file is larger than `limit`.
        OSError: If the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a file object needs four more system calls
    try:
        size = _size_of_regular(descriptor)
        if limit is not None and size > limit:
            raise NotRegularFileError(0, f"it has {size:,} B, more than {limit}")
        content = os.read(descriptor, size + 1)
        if len(content) == size:
            return content
        chunks = [content]  # the file is growing, or too large for one call
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)


def read_part(path: Path | str, size: int, *, at_end: bool = False) -> bytes:
    """Return the first or the last bytes of a regular file, at most `size`. Opening never blocks.

    Raises:
        OSError: As for `read_bytes`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        total = _size_of_regular(descriptor)
        return os.pread(descriptor, size, max(0, total - size) if at_end else 0)
    finally:
        os.close(descriptor)


def _size_of_regular(descriptor: int) -> int:
    """Return the size of an open file.

    Raises:
        NotRegularFileError: If the file is not a regular one.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularFileError(0, "it is not a regular file")
    return status.st_size


def quarantine_file(path: Path) -> Path:
    """Rename an unreadable file to `NAME.damaged-N`, which keeps its content, and return the new path."""
    number = 1
    while os.path.lexists(target := path.with_name(f"{path.name}{DAMAGED}{number}")):
        number += 1
    return path.rename(target)


def remove_leftovers(folder: Path) -> None:
    """Remove partial files of killed processes. The caller must hold the folder's lock."""
    for path in folder.glob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)


@contextmanager
def restrict_reading(folder: Path) -> Iterator[None]:
    """Make `is_readable` reject files outside `folder` and this package within a `with` block."""
    token = _reading_root.set(folder.resolve())
    try:
        yield
    finally:
        _reading_root.reset(token)


def is_readable(path: Path, *more: Path) -> bool:
    """Return whether a definition or module may be read under `restrict_reading`.

    An untrusted bundle may name only files inside its own folder, so that it reveals no others.

    Args:
        path: The file to read.
        more: Further readable folders, such as those of the bundled definitions.
    """
    if (folder := _reading_root.get()) is None:
        return True
    real = path.resolve()
    return any(real.is_relative_to(root) for root in (folder, _PACKAGE, *more))
