"""Files that are there whole or not at all, whatever happens while they are written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

PARTIAL = ".partial"
_PACKAGE = Path(__file__).resolve().parent
_below: ContextVar[Path | None] = ContextVar("_below", default=None)


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


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be read, so that it is out of the way but not lost; return its new name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
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
