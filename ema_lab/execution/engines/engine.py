"""Engine interface: call a claim for each task, and report progress."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ema_lab.execution.claim import Claim, Result, Task


@dataclass
class Progress:
    """Run ids of a grid by state.

    Attributes:
        total: Number of runs to train.
        done: Finished by this engine.
        elsewhere: Finished by another process.
        failed: Failed, killed or over the time limit.
        running: Being trained by this engine's workers.
        busy: Held by another process.
    """

    total: int
    done: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Monitor:
    """Progress of a grid, passed to the observer `watch` at each change."""

    progress: Progress
    watch: Callable[[Progress], None] = lambda progress: None

    def ended(self, run_id: str, result: Result) -> None:
        """Record the result of a claim."""
        progress = self.progress
        kinds: Mapping[Result, list[str]] = {
            "done": progress.done,
            "elsewhere": progress.elsewhere,
            "failed": progress.failed,
            "killed": progress.failed,
            "timeout": progress.failed,
            "busy": progress.busy,
        }
        if result in kinds:  # a stopped run is still pending
            kinds[result].append(run_id)

    def running(self, run_ids: Iterable[str]) -> None:
        """Record the runs in training now, and notify the observer."""
        self.progress.running = list(run_ids)
        self.watch(self.progress)


class Engine(Protocol):
    """Executor of claims: in this process, in others, or on a cluster."""

    @property
    def stop_at(self) -> float:
        """Time, in seconds since 1970, from which no further run is begun or waited for."""

    def run(self, tasks: Sequence[Task], claim: Claim, monitor: Monitor) -> None:
        """Call the claim once for each task and pass each result to the monitor.

        A dying worker affects only its own run, which ends as `killed`. On an exception, such as Ctrl-C, the
        engine stops all its workers and ends their attempts as interrupted.
        """
