"""Differences between a written file and the records."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any, TypeVar

ABSENT = "(nothing)"
Item = TypeVar("Item")


@dataclass(frozen=True)
class Difference:
    """Difference at one position of one file.

    Attributes:
        where: Position in words; empty where `problem` concerns the whole file.
        row: Table row, or run of the page's data, with its `column`. None where neither applies.
        written: Value in the file; `built`: value that the records give.
    """

    file: str
    where: str = ""
    row: str | None = None
    column: str | None = None
    written: Any = ABSENT
    built: Any = ABSENT
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"{self.file}: {self.problem}"
        return f"{self.file}: {self.where}: {self.written!r} is written, the records give {self.built!r}"

    def flat(self) -> dict[str, Any]:
        """Return the difference for `--json`, with null where a key does not apply."""
        position = {"file": self.file, "row": self.row, "column": self.column}
        return {**position, "written": _scalar(self.written), "built": _scalar(self.built)}


def _scalar(value: Any) -> Any:
    if value == ABSENT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def is_equal(written: Any, built: Any) -> bool:
    """Return whether two values are equal; numbers may differ by rounding of library versions."""
    if written == built:
        return not isinstance(written, bool) or isinstance(built, bool)
    try:
        return math.isclose(float(written), float(built), rel_tol=1e-9, abs_tol=1e-12)
    except (TypeError, ValueError, OverflowError):
        return False


def aligned(
    written: Sequence[Item], built: Sequence[Item], key: Callable[[Item], Any] = lambda item: item
) -> Iterator[tuple[Item | None, Item | None]]:
    """Pair items with equal keys, in order; an item of only one sequence is paired with None."""
    written_keys, built_keys = list(map(key, written)), list(map(key, built))
    start = common(written_keys, built_keys)
    end = common(written_keys[start:][::-1], built_keys[start:][::-1])
    yield from zip(written[:start], built[:start], strict=True)
    written_middle, built_middle = written[start : len(written) - end], built[start : len(built) - end]
    matcher = SequenceMatcher(None, list(map(key, written_middle)), list(map(key, built_middle)))
    for _, a, b, c, d in matcher.get_opcodes():
        yield from zip_longest(written_middle[a:b], built_middle[c:d])
    yield from zip(written[len(written) - end :], built[len(built) - end :], strict=True)


def common(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return the length of the common prefix of two sequences."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(first), len(second)))


def line_differences(
    file: str, where: str, written: Sequence[str], built: Sequence[str]
) -> Iterator[Difference]:
    """Yield each line that differs, shortened to the differing part."""
    for line, wanted in aligned(written, built):
        if line != wanted:
            written_part, built_part = _apart(
                ABSENT if line is None else line, ABSENT if wanted is None else wanted
            )
            yield Difference(file, where, written=written_part, built=built_part)


def _apart(written: str, built: str) -> tuple[str, str]:
    """Return the differing parts of two lines, with some context before."""
    if ABSENT in (written, built):
        return written, built
    start = common(written, built)
    end = common(written[start:][::-1], built[start:][::-1])
    first = max(0, start - 20)
    last = max(0, end - 5)
    return written[first : len(written) - last], built[first : len(built) - last]
