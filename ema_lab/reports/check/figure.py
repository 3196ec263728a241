"""Comparison of written figures with those drawn from the records."""

import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from ema_lab.reports.check.difference import Difference, common

DRAWN_BY = re.compile(rb"Matplotlib v(?:ersion)?(\d[\w.+]*)")  # version stamp in SVG, PDF and PNG
STREAM = re.compile(rb"(?<=\nstream\n).*?(?=\nendstream\n)", re.DOTALL)
# Stream lengths and object offsets of a PDF, which depend on the compression.
OFFSETS = re.compile(rb"(?<= 0 obj\n)\d+(?=\nendobj\n)|\d{10}(?= \d{5} [nf])|(?<=startxref\n)\d+")


def drawn_elsewhere(path: Path, built: bytes) -> str | None:
    """Return why a written figure cannot be compared, such as another version of matplotlib."""
    try:
        written_by, installed = DRAWN_BY.search(path.read_bytes()), DRAWN_BY.search(built)
    except OSError:
        return None
    if written_by is None or installed is None or written_by[1] == installed[1]:
        return None
    versions = f"drawn by matplotlib {written_by[1].decode()}, but {installed[1].decode()} is installed"
    return f"{path}: not compared: {versions}"


def figure_differences(path: Path, written: bytes, built: bytes) -> Iterator[Difference]:
    """Yield a difference if a figure's content differs; compression does not count."""
    if written == built or _content(path.suffix, written) == _content(path.suffix, built):
        return
    line = common(written.splitlines(), built.splitlines()) + 1
    position = f", from line {line} on" if path.suffix == ".svg" else ""
    yield Difference(str(path), problem=f"is not the figure that the records give{position}")


def _content(suffix: str, figure: bytes) -> object:
    """Return a figure's uncompressed content, or its bytes if the file cannot be read."""
    read = {".png": _pixels, ".pdf": _objects}.get(suffix)
    try:
        return read(figure) if read else figure
    except Exception:  # readers may raise anything for a damaged file
        return figure


def _pixels(figure: bytes) -> object:
    from PIL import Image  # matplotlib's own PNG writer

    image = Image.open(io.BytesIO(figure))
    return image.size, image.mode, image.tobytes(), image.info


def _objects(figure: bytes) -> object:
    return OFFSETS.sub(b"", STREAM.sub(lambda match: zlib.decompress(match[0]), figure))
