"""Progress of a grid: epochs done, and the time that is left."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class Work:
    """A run as a part of its grid.

    Attributes:
        row: Table row of the run: runs of one row take equally long.
        epochs: Epochs of its recipe.
        state: State in the store.
        seconds: Wall seconds of a finished run.
        trained: Epochs that a running run has trained, with the begun part of the next one.
    """

    row: str
    epochs: int
    state: str
    seconds: float | None = None
    trained: float | None = None

    @property
    def epochs_done(self) -> float:
        return self.epochs if self.state == "done" else min(self.epochs, self.trained or 0.0)


def progress(works: Iterable[Work]) -> dict[str, Any]:
    """Return epochs in all, epochs done, runs at a time, and seconds left (None if unknown), as plain data.

    Runs that have failed for good are left out. An epoch is expected to take as long as in the finished runs
    of the row; of a row without any, as in all finished runs.
    """
    works = [work for work in works if work.state != "failed"]
    workers = sum(work.state == "running" for work in works)
    return {
        "total": sum(work.epochs for work in works),
        "done": int(sum(work.epochs_done for work in works)),
        "workers": workers,
        "seconds_left": _seconds_left(works, workers) if workers else None,
    }


def _seconds_left(works: Sequence[Work], workers: int) -> float | None:
    paces: dict[str, list[float]] = {}
    for work in works:
        if work.state == "done" and work.seconds:
            paces.setdefault(work.row, []).append(work.seconds / work.epochs)
    every = [pace for own in paces.values() for pace in own]
    if not every:
        return None
    open_works = [work for work in works if work.state != "done"]
    seconds = sum(fmean(paces.get(work.row, every)) * (work.epochs - work.epochs_done) for work in open_works)
    return seconds / workers
