"""Files that are there whole or not at all, whatever happens while they are written."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

PARTIAL = ".partial"
DAMAGED = ".damaged-"  # a number follows: files that were set aside
_PACKAGE = Path(__file__).resolve().parent
_below: ContextVar[Path | None] = ContextVar("_below", default=None)


class NoRegularFileError(OSError):
    """A folder, a pipe or a device lies where a file should be, or a file of absurd size."""


@contextmanager
def whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a name to write to, and rename it to `path` at the end: a reader sees the old file or the new.

    Args:
        path: Where the file goes.
        durable: Whether the content must outlast a power cut from then on, which costs milliseconds.

    Raises:
        OSError: If it cannot be written; nothing is left behind then.
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
    """Write UTF-8 text, whole or not at all."""
    with whole(path, durable=durable) as partial:
        partial.write_text(text, encoding="utf-8")


def read_bytes(path: Path | str, limit: int | None = None) -> bytes:
    """Return a file's content. Opening never waits, whatever lies at the path.

    Args:
        path: The file; a symbolic link is followed.
        limit: The largest size in bytes that is read.

    Raises:
        NoRegularFileError: If it is no regular file, or is larger than `limit`.
        OSError: If it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would make a plain open wait
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise NoRegularFileError(0, "it is no regular file")
        if limit is not None and about.st_size > limit:
            raise NoRegularFileError(0, f"it has {about.st_size} bytes, more than {limit}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be read, so that it is out of the way but not lost; return its new name."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}{DAMAGED}{number}")):
        number += 1
    return path.rename(aside)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left half-written. The caller holds the folder's lock."""
    for path in folder.glob(f"*{PARTIAL}"):
        path.unlink(missing_ok=True)


@contextmanager
def reading_below(folder: Path) -> Iterator[None]:
    """Let `is_readable` say no of what lies outside of a folder and of this package, for a block."""
    token = _below.set(folder.resolve())
    try:
        yield
    finally:
        _below.reset(token)


def is_readable(path: Path, *more: Path) -> bool:
    """Whether a definition or a module may be read: a stranger's files name only what lies beside them.

    `more`: further folders that may be read, such as those of the definitions that come with the package.
    """
    if (folder := _below.get()) is None:
        return True
    real = path.resolve()
    return any(real.is_relative_to(place) for place in (folder, _PACKAGE, *more))
