"""Whether files of images end where their format says. A file that was cut off still has a valid header.

JPEG and PNG end with a marker, and WebP states its length, so that a few bytes tell. Only a file without
these, or of another format, has to be decoded to know.
"""

import os
from pathlib import Path

KEPT = 16  # bytes of either end that are read
JPEG = (b"\xff\xd8\xff", b"\xff\xd9")
PNG = (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")


def ends_of(path: Path | str, offset: int = 0, length: int | None = None) -> tuple[bytes, bytes, int]:
    """Return the first and last bytes of a file, or of an image inside it, and the number of all its bytes.

    Raises:
        OSError: If the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe does not wait
    try:
        size = os.fstat(descriptor).st_size - offset if length is None else length
        kept = min(KEPT, max(0, size))
        return os.pread(descriptor, kept, offset), os.pread(descriptor, kept, offset + size - kept), size
    finally:
        os.close(descriptor)


def is_whole(head: bytes, tail: bytes, size: int) -> bool:
    """Return whether an image ends as its format says; False where only decoding can tell."""
    if any(head.startswith(start) and tail.endswith(end) for start, end in (JPEG, PNG)):
        return True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return size >= 8 + int.from_bytes(head[4:8], "little")
    return False
