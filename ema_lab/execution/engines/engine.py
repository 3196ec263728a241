"""What every engine offers: it calls a claim for each task somewhere, and tells what happens."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ema_lab.execution.claim import Claim, Result, Task


@dataclass
class Progress:
    """Run ids by what has happened so far.

    `running`: begun by a worker of ours; `busy`: held by another process; `elsewhere`: finished there.
    """

    total: int
    done: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Monitor:
    """Keeps the progress of a grid and shows it to who watches."""

    progress: Progress
    watch: Callable[[Progress], None] = lambda progress: None

    def ended(self, run_id: str, result: Result) -> None:
        """Note how a claim ended."""
        progress = self.progress
        kinds: Mapping[Result, list[str]] = {
            "done": progress.done,
            "elsewhere": progress.elsewhere,
            "failed": progress.failed,
            "killed": progress.failed,
            "timeout": progress.failed,
            "busy": progress.busy,
        }
        if result in kinds:  # a stopped run is pending as before
            kinds[result].append(run_id)

    def running(self, run_ids: Iterable[str]) -> None:
        """Note which runs are on now, and show where the grid stands."""
        self.progress.running = list(run_ids)
        self.watch(self.progress)


class Engine(Protocol):
    """Executes claims: in this process, in others, on a cluster."""

    def run(self, tasks: Sequence[Task], claim: Claim, monitor: Monitor) -> None:
        """Call the claim once for each task and tell the monitor each result as it comes.

        A worker that dies costs its own run only, which ends as `killed`. On an exception here, such as
        Ctrl-C, everything that was started is stopped and its attempts end as interrupted.
        """
