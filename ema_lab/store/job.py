"""Interface of training: the job that a training function gets and the outcome that it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ema_lab.specs.run import RunSpec


class Flag:
    """Flag that signal handlers may set: it has no lock, for which they would wait, as `threading.Event`."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set


must_end = Flag()  # set by an engine: training saves its checkpoint soon, and raises KeyboardInterrupt


def ignore() -> None:
    """Ignore a finished epoch: the default observer."""


@dataclass(frozen=True)
class RunJob:
    """Folder of a run, and its ablation and variant for the trackers. Results never depend on them.

    `on_epoch` is called after each finished epoch, once the checkpoint is written. `cache` is a folder for
    compiled code that all runs of the store share. `meeting` is the file by which the machines that train the
    run together find each other.
    """

    folder: Path
    ablation: str = ""
    variant: str = ""
    on_epoch: Callable[[], None] = field(default=ignore, compare=False, repr=False)
    cache: Path | None = field(default=None, compare=False)
    meeting: Path | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RunOutcome:
    """Result of a finished run.

    Attributes:
        metrics: Values by metric name, in the units of the task's description.
        chosen_epoch: Epoch (from 1) whose weights are reported.
        cost: Parameters and MACs of the model.
        wall_seconds: Wall time of the training.
        throughput: Training images per second.
    """

    metrics: Mapping[str, float]
    chosen_epoch: int = 0
    cost: Mapping[str, Any] = field(default_factory=dict)
    wall_seconds: float = 0.0
    throughput: float = 0.0
    environment: Mapping[str, Any] = field(default_factory=dict)
    data_sha256: str = ""
    predictions_sha256: str = ""


Train = Callable[[RunSpec, RunJob], RunOutcome]
# Trains this machine's part of the run that meets at a file, until the run is over.
Join = Callable[[Path, Callable[[], bool]], None]
Report = Callable[[Mapping[str, float]], None]  # epoch observer: gets each finished epoch's row of the curve


class RunStopped(Exception):  # noqa: N818 - control flow, as StopIteration
    """Raised by an epoch observer to stop a run early. The run stays pending and keeps its checkpoint."""


class RunPaused(RunStopped):
    """Raised by training at its deadline. The run stays pending and goes on from its checkpoint."""
