"""Fast decoder of JPEG files, used only where its pixels equal those of Pillow.

Both use libjpeg-turbo; simplejpeg avoids Pillow's copies. Files that the two treat differently are left to
Pillow: CMYK, damage that libjpeg can repair, and very large pictures, for which Pillow warns.
"""

import io
import warnings
from functools import cache

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from ema_lab.data.memory import ReusedMemory

Pixels = npt.NDArray[np.uint8]
START = b"\xff\xd8\xff"  # first bytes of a JPEG file
LARGEST_KEPT = 2**24  # bytes of a decoded picture whose memory is used again
RGB_SOURCES = {"YCbCr", "RGB", "Gray"}  # colour spaces that both libraries decode to the same RGB

_pictures = ReusedMemory(most=2)


def decode_jpeg(content: bytes, channels: int = 3) -> Pixels | None:
    """Return the pixels (H, W, `channels`) of a JPEG file; None if Pillow must read it.

    Args:
        content: The bytes of the file.
        channels: 3 for RGB, 1 for grey.
    """
    if not content.startswith(START) or not _agrees_with_pillow():
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        limit = Image.MAX_IMAGE_PIXELS
        if colours not in RGB_SOURCES or (limit is not None and height * width > limit):
            return None
        if channels == 1 and colours != "Gray":  # Pillow's grey is a sum of RGB, not JPEG's luminance
            return None
        size = height * width * channels
        memory = _pictures.take(size) if size <= LARGEST_KEPT else None
        pixels: Pixels = simplejpeg.decode_jpeg(content, "GRAY" if channels == 1 else "RGB", buffer=memory)
    except ValueError:
        return None
    return pixels


@cache
def _agrees_with_pillow() -> bool:
    """Return whether both decoders give equal pixels here, once per process; warn if not."""
    values = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(values).resize((61, 47), Image.Resampling.BICUBIC)
    for mode, subsampling in (("RGB", 0), ("RGB", 2), ("L", 0)):
        file = io.BytesIO()
        picture.convert(mode).save(file, "JPEG", quality=90, subsampling=subsampling)
        with Image.open(file) as reference:
            expected = np.asarray(reference.convert("RGB"))
        if not np.array_equal(simplejpeg.decode_jpeg(file.getvalue(), "RGB"), expected):
            rule = "so Pillow decodes JPEG files, which is slower"
            warnings.warn(f"simplejpeg and Pillow decode to different pixels here, {rule}", stacklevel=2)
            return False
    return True
