"""Safe unpacking of store archives: only regular files and folders, never outside the target.

Any other member is skipped and reported.
"""

import errno
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from ema_lab.errors import StoreError
from ema_lab.wording import shortened

RULE = "import takes a store's folder, or a .tar, .tar.gz or .zip archive of it"
DEEPEST = 100  # folders around a member; a store has two
_INVALID_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
_ERRORS = (
    *(ValueError, OSError, EOFError, RuntimeError, NotImplementedError),
    *(tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile),
)


def unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack an archive into a folder and return one line per skipped member.

    Raises:
        StoreError: If the file is no archive, or is truncated.
    """
    try:
        if tarfile.is_tarfile(
            archive
        ):  # first: a tar file whose last member is a zip file also looks like a zip file
            return list(_unpack_tar(archive, folder))
        if zipfile.is_zipfile(archive):
            return list(_unpack_zip(archive, folder))
        raise ValueError("the file is neither a tar nor a zip file")
    except Exception as error:  # zlib, lzma and bz2 raise errors of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"{archive} cannot be unpacked ({reason}): {RULE}") from None


def _unpack_tar(archive: Path, folder: Path) -> Iterator[str]:
    with tarfile.open(archive) as file:
        for member in file:
            if problem := _tar_problem(member):
                yield f"{shortened(repr(member.name))}: {problem}"
            elif member.isfile():
                content = file.extractfile(member)
                assert content is not None
                with content:
                    yield from _write(content, folder, member.name)


def _tar_problem(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return "a link is not followed"
    if not (member.isfile() or member.isdir()):
        return "is no regular file"
    return _name_problem(member.name)


def _unpack_zip(archive: Path, folder: Path) -> Iterator[str]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind == stat.S_IFLNK:
                yield f"{shortened(repr(member.filename))}: a link is not followed"
            elif kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                yield f"{shortened(repr(member.filename))}: is no regular file"
            elif problem := _name_problem(member.filename):
                yield f"{shortened(repr(member.filename))}: {problem}"
            elif not member.is_dir():
                try:
                    with file.open(member) as content:
                        yield from _write(content, folder, member.filename)
                except _ERRORS as error:  # encrypted, or with a wrong checksum
                    (folder / member.filename).unlink(missing_ok=True)
                    yield f"{shortened(repr(member.filename))}: {error}"


def _name_problem(name: str) -> str | None:
    path = PurePosixPath(name)
    if len(path.parts) > DEEPEST:
        return f"is nested in more than {DEEPEST} folders"
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        return "lies outside of the archive"
    return None


def _write(content: IO[bytes], folder: Path, name: str) -> Iterator[str]:
    """Write one member; yield a line if its path is taken, lies below a file, or is no valid path here."""
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.open("xb")
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        yield f"{shortened(repr(name))}: is in the archive twice, or below a file"
        return
    except OSError as error:
        if error.errno not in _INVALID_NAME:
            raise
        yield f"{shortened(repr(name))}: {error.strerror}"
        return
    with target:
        shutil.copyfileobj(content, target)
