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
        place = {"file": self.file, "row": self.row, "column": self.column}
        return {**place, "written": _scalar(self.written), "built": _scalar(self.built)}


def _scalar(value: Any) -> Any:
    if value == ABSENT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def same(written: Any, built: Any) -> bool:
    """Return whether two values are equal; numbers may differ by rounding of library versions."""
    if written == built:
        return not isinstance(written, bool) or isinstance(built, bool)
    try:
        return math.isclose(float(written), float(built), rel_tol=1e-9, abs_tol=1e-12)
    except (TypeError, ValueError, OverflowError):
        return False


def aligned(
    mine: Sequence[Item], right: Sequence[Item], key: Callable[[Item], Any] = lambda item: item
) -> Iterator[tuple[Item | None, Item | None]]:
    """Pair items with equal keys, in order; an item of only one sequence is paired with None."""
    one, other = list(map(key, mine)), list(map(key, right))
    start = common(one, other)
    end = common(one[start:][::-1], other[start:][::-1])
    yield from zip(mine[:start], right[:start], strict=True)
    middle, there = mine[start : len(mine) - end], right[start : len(right) - end]
    matcher = SequenceMatcher(None, list(map(key, middle)), list(map(key, there)))
    for _, a, b, c, d in matcher.get_opcodes():
        yield from zip_longest(middle[a:b], there[c:d])
    yield from zip(mine[len(mine) - end :], right[len(right) - end :], strict=True)


def common(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return the length of the common prefix of two sequences."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def line_differences(
    file: str, where: str, mine: Sequence[str], right: Sequence[str]
) -> Iterator[Difference]:
    """Yield each line that differs, shortened to the differing part."""
    for line, wanted in aligned(mine, right):
        if line != wanted:
            here, there = _apart(ABSENT if line is None else line, ABSENT if wanted is None else wanted)
            yield Difference(file, where, written=here, built=there)


def _apart(written: str, built: str) -> tuple[str, str]:
    """Return the differing parts of two lines, with some context before."""
    if ABSENT in (written, built):
        return written, built
    start = common(written, built)
    end = common(written[start:][::-1], built[start:][::-1])
    first = max(0, start - 20)
    last = max(0, end - 5)
    return written[first : len(written) - last], built[first : len(built) - last]
