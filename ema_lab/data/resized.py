"""Resized copies of image files, kept beside the data: smaller files are decoded faster.

An image whose shorter side is longer than `side` is resized (bilinear, antialiased), saved as JPEG of quality
95 without chroma subsampling, and decoded from that. These are its pixels from then on, whether its copy is
there or is only now made, so that no result depends on what is cached. Smaller images stay as they are.

Any number of processes fill a cache: each copy is renamed into place. A copy names size and time of its file,
and has a checksum. One that does not fit, or is damaged, is made anew. A cache may be removed at any time.
"""

import io
import os
import warnings
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from PIL import Image

from ema_lab.data.jpeg import Pixels
from ema_lab.data.pictures import decode_pixels, file_status, read_pixels
from ema_lab.errors import DamagedDataError
from ema_lab.files import atomic_write, read_bytes

QUALITY = 95
FORM = "ema-lab resized 1"  # another form of copies needs another number
CopyState = Literal["made", "kept", "small"]  # of a copy: written now, there before, or not needed


@dataclass(frozen=True)
class ResizedFiles:
    """Cache of the resized images of one split.

    Attributes:
        folder: Folder of the original files.
        side: Shorter side of a resized image, in pixels.
        channels: 3 for RGB, 1 for grey images.
        upright: Whether each image is rotated by its EXIF orientation.
    """

    folder: Path
    side: int
    channels: int = 3
    upright: bool = False

    @property
    def cache(self) -> Path:
        """Folder of the copies, beside that of the files, so that it is no class folder."""
        kind = ("-grey" if self.channels == 1 else "") + ("-upright" if self.upright else "")
        return self.folder.with_name(f".{self.folder.name}-resized-{self.side}{kind}")

    def pixels(self, name: str) -> Pixels:
        """Return the pixels of a resized image, uint8 (height, width, `channels`).

        Args:
            name: Path of the file below the folder.

        Raises:
            UnreadableDataError: If the file is gone, or cannot be opened.
            DamagedDataError: If the file cannot be decoded.
        """
        head, copy = self._head(name), self._copy(name)
        content = _kept(copy, head)
        if content is not None:
            try:
                return decode_pixels(content, str(copy), self.channels)
            except DamagedDataError:
                pass  # its checksum is right, so that another program wrote it: it is made anew
        pixels = self._original(name)
        if self._is_small(pixels):
            return pixels
        content = self._encoded(pixels)
        _keep(copy, _sealed(head, content))
        return decode_pixels(content, str(self.folder / name), self.channels)

    def ensure(self, name: str) -> tuple[CopyState, int]:
        """Make the copy of an image unless it is there; return its state and its size in bytes.

        Raises:
            UnreadableDataError: If the file is gone, or cannot be opened.
            DamagedDataError: If the file cannot be decoded.
            OSError: If the copy cannot be written.
        """
        head, copy = self._head(name), self._copy(name)
        content = _kept(copy, head)
        if content is not None:
            return "kept", len(_sealed(head, content))
        content = self.encoded(name)
        if content is None:
            return "small", 0
        sealed = _sealed(head, content)
        _write(copy, sealed)
        return "made", len(sealed)

    def has(self, name: str) -> bool:
        """Return whether the copy of an image is there, whole and up to date.

        Raises:
            UnreadableDataError: If the file of the image is gone.
        """
        return _kept(self._copy(name), self._head(name)) is not None

    def content(self, name: str) -> bytes | None:
        """Return the JPEG file of a resized image, from its copy or as made now; None for a small image.

        Raises:
            UnreadableDataError: If the file is gone, or cannot be opened.
            DamagedDataError: If the file cannot be decoded.
        """
        content = _kept(self._copy(name), self._head(name))
        return self.encoded(name) if content is None else content

    def encoded(self, name: str) -> bytes | None:
        """Return the JPEG file of an image as resized now; None for an image that is small enough.

        Raises:
            UnreadableDataError: If the file is gone, or cannot be opened.
            DamagedDataError: If the file cannot be decoded.
        """
        pixels = self._original(name)
        return None if self._is_small(pixels) else self._encoded(pixels)

    def _copy(self, name: str) -> Path:
        return self.cache / f"{name}.jpeg"

    def _head(self, name: str) -> bytes:
        """Return the first bytes of an image's copy, which name the version of the file."""
        status = file_status(self.folder / name)
        return f"{FORM} {status.st_size} {status.st_mtime_ns} ".encode()

    def _original(self, name: str) -> Pixels:
        return read_pixels(self.folder / name, self.channels, upright=self.upright)

    def _is_small(self, pixels: Pixels) -> bool:
        return bool(min(pixels.shape[:2]) <= self.side)

    def _encoded(self, pixels: Pixels) -> bytes:
        height, width = pixels.shape[:2]
        share = self.side / min(height, width)
        size = (max(self.side, round(width * share)), max(self.side, round(height * share)))
        picture = Image.fromarray(pixels[:, :, 0] if self.channels == 1 else pixels)
        file = io.BytesIO()
        picture.resize(size, Image.Resampling.BILINEAR).save(file, "JPEG", quality=QUALITY, subsampling=0)
        return file.getvalue()


def _kept(copy: Path, head: bytes) -> bytes | None:
    """Return the JPEG file in a copy; None if the copy is missing, damaged or older than the original."""
    try:
        content = read_bytes(copy)
    except OSError:
        return None
    if not content.startswith(head):
        return None
    checksum, _, picture = content[len(head) :].partition(b"\n")
    return picture if checksum == str(zlib.crc32(picture)).encode() else None


def _sealed(head: bytes, content: bytes) -> bytes:
    """Return a copy: a line with the version of its file and a checksum, then the JPEG file."""
    return head + f"{zlib.crc32(content)}\n".encode() + content


def _write(copy: Path, sealed: bytes) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic_write(copy, durable=False) as partial:
            partial.write_bytes(sealed)
    except FileNotFoundError:
        pass  # a process with the same number, on another machine, has renamed its own copy of the same bytes


def _keep(copy: Path, sealed: bytes) -> None:
    """Write a copy; warn, once per process, where that is not possible: images are resized each time then."""
    try:
        _write(copy, sealed)
    except OSError as error:
        _warn(os.fspath(copy.parent), error.strerror or str(error))


@cache
def _warn(folder: str, reason: str) -> None:
    rule = "so that images are resized again in every epoch, which is slower than without shorter_side"
    warnings.warn(f"resized images cannot be kept in {folder} ({reason}), {rule}", stacklevel=2)
