"""What training is handed besides the run spec, and what it hands back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ema_lab.specs.run import RunSpec


@dataclass(frozen=True)
class RunJob:
    """Where a run keeps its files, and how an ablation calls it (for trackers, never for results)."""

    folder: Path
    ablation: str = ""
    variant: str = ""


@dataclass(frozen=True)
class RunOutcome:
    """Result of a finished run. Metrics are keyed by the names of its task's description.

    `cost` holds parameters and MACs, `throughput` training images per second, `chosen_epoch` the
    epoch (from 1) whose weights are reported.
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
Report = Callable[[Mapping[str, float]], None]  # told of each finished epoch's row of the curve


class RunStopped(Exception):  # noqa: N818 - as StopIteration, no error
    """Raised by who is told of an epoch to end the run there: it stays pending, with its checkpoint."""
