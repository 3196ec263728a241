"""Reader of image files as 8-bit RGB or grey pictures, for every data set in files.

Conversion of pixels:

- 8 bits per channel: unchanged. Grey to RGB repeats the value; RGB to grey is a weighted sum (ITU-R 601).
- 16-bit grey: scaled from 0..65535 to 0..255 and rounded, 12-bit grey from 0..4095; inverted if the file says
  that white is 0. Of 16-bit RGB, Pillow keeps the upper 8 bits.
- 32-bit or signed integers and floating-point numbers: an error, because their range is not defined.
- Transparency, as a channel or in a palette: dropped; the underlying colour stays.
- CMYK: converted by Pillow's formula. Colour profiles are never applied.
- EXIF orientation: ignored, unless `upright` is set.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ema_lab.data.jpeg import Pixels, decode_jpeg
from ema_lab.errors import DamagedDataError, DataError, UnreadableDataError
from ema_lab.files import NotRegularFileError, read_bytes

Picture = Any  # PIL.Image.Image
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF files
WHITE_IS_ZERO, SIGNED = 0, 2  # values of the last two
SIXTEEN_BIT_FORMATS = {"PNG", "PPM"}  # formats in which Pillow's mode I means values from 0 to 65535


def read_picture(path: Path, channels: int = 3, *, upright: bool = False) -> Picture:
    """Return a file's picture with 8 bits per channel.

    Args:
        path: The image file.
        channels: 3 for RGB, 1 for grey.
        upright: Whether to rotate the picture by its EXIF orientation.

    Raises:
        UnreadableDataError: If the file is gone, or cannot be opened.
        DamagedDataError: If the file cannot be decoded, or the range of its values is not defined.
    """
    with open_picture(path) as file:
        return _converted(path, file, channels, upright=upright)


def _converted(name: Path | str, file: Picture, channels: int, *, upright: bool) -> Picture:
    file.info.pop("transparency", None)  # dropped; Pillow would warn of a palette's
    picture = ImageOps.exif_transpose(file) if upright else file
    colour = _eight_bits(name, file, picture).convert("RGB")
    return colour if channels == 3 else colour.convert("L")


def read_pixels(path: Path, channels: int = 3, *, upright: bool = False) -> Pixels:
    """Return the pixels of `read_picture`, uint8 (H, W, `channels`). JPEG files are decoded faster.

    Raises:
        UnreadableDataError: If the file is gone, or cannot be opened.
        DamagedDataError: If the file cannot be decoded, or the range of its values is not defined.
    """
    pixels = None if upright else decode_jpeg(_content(path), channels)
    return _array(read_picture(path, channels, upright=upright)) if pixels is None else pixels


def decode_pixels(content: bytes, name: str, channels: int = 3, *, upright: bool = False) -> Pixels:
    """Return the pixels of an encoded image, uint8 (H, W, `channels`), as `read_pixels` does.

    Args:
        content: Bytes of the image's file.
        name: Place of the image, for messages.
        channels: 3 for RGB, 1 for grey.
        upright: Whether to rotate the picture by its EXIF orientation.

    Raises:
        DamagedDataError: If the image cannot be decoded, or the range of its values is not defined.
    """
    pixels = None if upright else decode_jpeg(content, channels)
    if pixels is not None:
        return pixels
    with _errors_of(name), Image.open(io.BytesIO(content)) as file:
        return _array(_converted(name, file, channels, upright=upright))


def _array(picture: Picture) -> Pixels:
    values: Pixels = np.array(picture)
    return values[:, :, None] if values.ndim == 2 else values


def _content(path: Path) -> bytes:
    """Return the bytes of a regular file; none of another kind, which `read_picture` refuses."""
    try:
        return read_bytes(path)
    except NotRegularFileError:
        return b""
    except OSError as error:
        raise _unreadable(path, error) from None


@contextmanager
def open_picture(path: Path) -> Iterator[Picture]:
    """Open an image file for a block. Errors inside the block count as errors of the file.

    Raises:
        UnreadableDataError: If the file is gone, or cannot be opened.
        DamagedDataError: If the file cannot be decoded.
    """
    with _errors_of(path):
        if not stat.S_ISREG(file_status(path).st_mode):
            raise ValueError("it is no regular file")  # opening a pipe would wait for ever
        with Image.open(path) as file:
            yield file


@contextmanager
def _errors_of(path: Path | str) -> Iterator[None]:
    """Turn errors inside a block into those of an image's file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # Pillow raises nearly any class for a malformed file
        if isinstance(error, OSError) and error.errno is not None:
            raise _unreadable(path, error) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = reason.replace(f" {str(path)!r}", "")  # which Pillow repeats
        raise DamagedDataError(f"{path} cannot be decoded: {reason}") from None


def file_status(path: Path) -> os.stat_result:
    """Return the status of a listed file, such as its size.

    Raises:
        UnreadableDataError: If the file is gone.
    """
    try:
        return path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path | str, error: OSError) -> UnreadableDataError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        rule = "although it is listed (removed since, or a link to nothing): put it back"
        return UnreadableDataError(f"{path} is not there, {rule}")
    return UnreadableDataError(f"{path} cannot be opened: {error.strerror}")


def _eight_bits(path: Path | str, file: Picture, picture: Picture) -> Picture:
    """Return the picture, which may be a rotated copy of the file's, with 8 bits per channel."""
    tags = file.tag_v2 if file.format == "TIFF" else {}
    wide = picture.mode.startswith("I;16")
    if wide or (picture.mode == "I" and file.format in SIXTEEN_BIT_FORMATS):
        largest = (1 << max(tags.get(BITS_PER_SAMPLE, (16,)))) - 1
        values = np.asarray(picture).astype(np.float64)
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow inverts up to 8 bits only
            values = largest - values
        return Image.fromarray(np.rint(values * 255 / largest).astype(np.uint8))
    if picture.mode in {"I", "F"} or SIGNED in tags.get(SAMPLE_FORMAT, ()):
        kinds = {"I": "32-bit integers", "F": "floating-point numbers"}
        kind = kinds.get(picture.mode, "signed integers")
        rule = "their range is not defined; save it with 8 or 16 bits per channel"
        raise DamagedDataError(f"{path} holds {kind}: {rule}")
    return picture
