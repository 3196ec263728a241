"""Annotations as read from files, and the problems found in them, each with its file and line."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ema_lab.data.detection.geometry import Size
from ema_lab.data.detection.scenes import Truth
from ema_lab.errors import DataError, Problem

SHOWN = 10  # problems whose places a message names


@dataclass(frozen=True)
class AnnotatedImage:
    """An image file, its size, and its boxes."""

    path: Path
    size: Size
    truth: Truth


@dataclass
class Problems:
    """Broken lines and images of one split. Reading fails if there are more than `limit`.

    Broken lines and images are left out and reported, never silently.

    Attributes:
        limit: Largest number of problems with which reading succeeds.
        option: Name of the limit in a run spec; "" if a user cannot set it.
        found: The problems, in the order of the files.
    """

    limit: int
    option: str = "data.max_broken"
    entries: list[Problem] = field(default_factory=list)

    def add(self, place: str | Path, rule: str) -> None:
        """Note a problem at a place such as `labels/7.txt:3`."""
        self.entries.append(Problem(str(place), rule))

    def check(self) -> None:
        """Raise DataError if there are more problems than the limit.

        The message is one line: the first problem, and the places of the others.
        """
        if len(self.entries) <= self.limit:
            return
        first, *others = self.entries
        notes = [f"{self.option}={self.limit}"] if self.option else []
        if others:
            places = [Path(problem.where).name for problem in others]
            more = ", ..." if len(self.entries) > SHOWN else ""
            notes.insert(0, f"and {len(others)} more: {', '.join(places[: SHOWN - 1])}{more}")
        raise DataError(f"{first} ({'; '.join(notes)})" if notes else str(first))


def box_problem(corners: Sequence[float], size: Size) -> str | None:
    """Return the problem of a box with corners in pixels; None for a valid box."""
    if not all(math.isfinite(value) for value in corners):
        return f"a box must be finite, got {_listed(corners)}"
    x1, y1, x2, y2 = corners
    if x2 <= x1 or y2 <= y1:
        return f"a box needs a width and a height above 0, got {_listed((x2 - x1, y2 - y1))}"
    height, width = size
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        edges = f"0, 0, {width}, {height} (left, top, right, bottom), got {_listed(corners)}"
        return f"a box must overlap its image, which is {edges}"
    return None


def inside(corners: Sequence[float], size: Size) -> list[float]:
    """Return a box cut at the border of its image."""
    height, width = size
    x1, y1, x2, y2 = corners
    return [max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
