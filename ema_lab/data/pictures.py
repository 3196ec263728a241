"""Image files as 8-bit RGB or grey pictures: one reader for every data set in files.

What becomes of a file's pixels:

- 8 bits a channel: as they are. Grey to RGB repeats the value; RGB to grey weighs it (ITU-R 601).
- 16 bits grey: scaled from 0..65535 to 0..255 and rounded. Pillow itself keeps the upper 8 of 16-bit RGB.
- Other numbers (32-bit integers, floating point) have no defined range: refused, by the file's name.
- Transparency, of a channel or of a palette's colours: left out; the colour below it counts.
- CMYK: converted by Pillow's formula, without a colour profile. Profiles are never applied.
- EXIF orientation: ignored, unless `upright` is asked for.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ema_lab.errors import DataError

Picture = Any  # PIL.Image.Image
WHOLE_NUMBERS_OF_16_BITS = {"PNG", "PPM"}  # whose pictures of Pillow's mode I go from 0 to 65535


def read_picture(path: Path, channels: int = 3, *, upright: bool = False) -> Picture:
    """Return a file's picture with 8 bits a channel.

    Args:
        path: The image file.
        channels: 3 gives RGB, 1 a grey picture.
        upright: Turn the picture as its EXIF orientation says.

    Raises:
        DataError: If it cannot be decoded, or its numbers have no defined range.
    """
    try:
        with Image.open(path) as file:
            file.info.pop("transparency", None)  # Pillow warns of a palette's, which is left out here
            picture = ImageOps.exif_transpose(file) if upright else file
            colour = _eight_bits(path, picture).convert("RGB")
    except DataError:
        raise
    except Exception as error:  # of a malformed file Pillow raises nearly any class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be decoded: {reason}") from None
    return colour if channels == 3 else colour.convert("L")


def _eight_bits(path: Path, picture: Picture) -> Picture:
    wide = picture.mode.startswith("I;16")
    if wide or (picture.mode == "I" and picture.format in WHOLE_NUMBERS_OF_16_BITS):
        values = np.asarray(picture).astype(np.float64)
        return Image.fromarray(np.rint(values / 257).astype(np.uint8))  # 65535 = 255 * 257
    if picture.mode in {"I", "F"}:
        kind = "32-bit integers" if picture.mode == "I" else "floating-point numbers"
        rule = "their range is not defined; save it with 8 or 16 bits a channel"
        raise DataError(f"{path} holds {kind}: {rule}")
    return picture
