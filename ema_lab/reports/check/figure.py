"""Written figures against those that the records give."""

import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from ema_lab.reports.check.difference import Difference, common

DRAWN_BY = re.compile(rb"Matplotlib v(?:ersion)?(\d[\w.+]*)")  # as its SVG, PDF and PNG say
STREAM = re.compile(rb"(?<=\nstream\n).*?(?=\nendstream\n)", re.DOTALL)
# Of a PDF: how long each stream is, and where each object stands.
PLACES = re.compile(rb"(?<= 0 obj\n)\d+(?=\nendobj\n)|\d{10}(?= \d{5} [nf])|(?<=startxref\n)\d+")


def drawn_elsewhere(path: Path, built: bytes) -> str | None:
    """Return why a written figure cannot be compared: another matplotlib draws other bytes."""
    try:
        theirs, ours = DRAWN_BY.search(path.read_bytes()), DRAWN_BY.search(built)
    except OSError:
        return None
    if theirs is None or ours is None or theirs[1] == ours[1]:
        return None
    versions = f"matplotlib {theirs[1].decode()} drew it, and here is {ours[1].decode()}"
    return f"{path}: not compared: {versions}"


def figure_differences(path: Path, written: bytes, built: bytes) -> Iterator[Difference]:
    """Yield one difference where a figure is another; how well it is compressed does not count."""
    if written == built or _content(path.suffix, written) == _content(path.suffix, built):
        return
    line = common(written.splitlines(), built.splitlines()) + 1
    place = f", from line {line} on" if path.suffix == ".svg" else ""
    yield Difference(str(path), problem=f"is not the figure that the records give{place}")


def _content(suffix: str, figure: bytes) -> object:
    """Return what a figure holds, uncompressed; what cannot be read is held as it is."""
    read = {".png": _pixels, ".pdf": _objects}.get(suffix)
    try:
        return read(figure) if read else figure
    except Exception:  # what is no such file may raise anything in its reader
        return figure


def _pixels(figure: bytes) -> object:
    from PIL import Image  # which matplotlib writes them with

    image = Image.open(io.BytesIO(figure))
    return image.size, image.mode, image.tobytes(), image.info


def _objects(figure: bytes) -> object:
    return PLACES.sub(b"", STREAM.sub(lambda found: zlib.decompress(found[0]), figure))
