"""Ownership of a run's files: the run id that a file names, read from a few bytes of the file.

Every file of a result names its run. A file that names another run is a stranger's. A file that names no
run, as those of older versions, or that cannot be read, counts as the run's own: only `store check` reads
files to their end. No file is executed or unpickled, and neither torch nor numpy is needed.
"""

import csv
import re
import zlib
from collections.abc import Callable, Iterable

from ema_lab.files import open_regular, read_part
from ema_lab.store.layout import BEST, CURVE, LAST, PREDICTIONS, RUN_ID, RUN_ID_FIELD, START

RESULT_FILES = (CURVE, PREDICTIONS)  # with the record, they make the result
CHECKPOINTS = (LAST, BEST)
BYSTANDERS = (*CHECKPOINTS, START)  # they say nothing about a result's numbers
_HEAD_BYTES = 2**13
_TAIL_BYTES = 2**12
_CHUNK_BYTES = 2**17
_PICKLE_BYTES = 2**26  # a checkpoint's structure without its tensors
_END_OF_MEMBER = b"PK\x07\x08"
_ARRAY_NAME = f"{RUN_ID_FIELD}.npy".encode()
_TEXT_TYPE = re.compile(rb"'descr': '([<>])U(\d+)'")
_PICKLED_NAME = re.compile(rb"X\x10\x00\x00\x00([0-9a-f]{16})")  # a text of 16 characters
_UNREADABLE = (OSError, ValueError, csv.Error, zlib.error)


def stranger_in(folder: str, name: str, run_id: str) -> str | None:
    """Return a problem such as "PATH is the curve of 'OTHER'" if a file in a run's folder names another run.

    None if the file is the run's own, or cannot be read.

    Args:
        folder: The run's folder.
        name: Name of a curve, of predictions, of a checkpoint or of a table of start weights.
        run_id: The run.
    """
    path = f"{folder}/{name}"
    words, read_names = _READERS[name]
    try:
        names = [name for name in read_names(path) if RUN_ID.fullmatch(name)]
    except _UNREADABLE:
        return None
    return f"{path} {words} {names[0]!r}" if names and run_id not in names else None


def _named_in_table(path: str) -> Iterable[str]:
    """Return the run id in the first row of a CSV file. A row that was cut off names no run."""
    head = read_part(path, _HEAD_BYTES).decode("utf-8", errors="replace")
    names, row, *_ = csv.reader(head.splitlines()[:2])
    return (dict(zip(names, row, strict=True)).get(RUN_ID_FIELD, ""),)


def _named_in_predictions(path: str) -> Iterable[str]:
    """Return the run id in an npz file, whose last array holds one text.

    Reading the array's own header near the end is ten times as fast as `zipfile`, which every `status` of
    thousands of runs would feel.
    """
    tail = read_part(path, _TAIL_BYTES, at_end=True)
    at = tail.find(_ARRAY_NAME)
    header = tail[max(0, at - 30) : max(0, at)]
    if not header.startswith(b"PK\x03\x04"):
        return ()
    array = tail[at + len(_ARRAY_NAME) + int.from_bytes(header[28:30], "little") :]
    if header[8]:  # compressed
        array = zlib.decompressobj(-zlib.MAX_WBITS).decompress(array, _TAIL_BYTES)
    start = 10 + int.from_bytes(array[8:10], "little")
    kind = _TEXT_TYPE.search(array[:start])
    if not array.startswith(b"\x93NUMPY\x01") or kind is None:
        return ()
    text = array[start : start + 4 * int(kind[2])]
    return (text.decode("utf-32-le" if kind[1] == b"<" else "utf-32-be").rstrip("\0"),)


def _named_in_checkpoint(path: str) -> Iterable[str]:
    """Return all run ids in a checkpoint of torch, whose pickle is the first member and not compressed."""
    pickled = b""
    with open_regular(path) as file:
        while _END_OF_MEMBER not in pickled and len(pickled) < _PICKLE_BYTES:
            if not (chunk := file.read(_CHUNK_BYTES)):
                return ()
            pickled += chunk
    pickled = pickled.partition(_END_OF_MEMBER)[0]
    names = dict.fromkeys(_PICKLED_NAME.findall(pickled))
    return [name.decode() for name in names] if RUN_ID_FIELD.encode() in pickled else ()


_READERS: dict[str, tuple[str, Callable[[str], Iterable[str]]]] = {
    CURVE: ("is the curve of", _named_in_table),
    PREDICTIONS: ("holds the predictions of", _named_in_predictions),
    LAST: ("is the checkpoint of", _named_in_checkpoint),
    BEST: ("is the checkpoint of", _named_in_checkpoint),
    START: ("is the table of start weights of", _named_in_table),
}
