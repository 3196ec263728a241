"""Execution of pending runs: each is claimed, trained and recorded exactly once.

One failing run is recorded and stops none of the others; an interrupted one is simply pending again.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from ema_lab.execution.claim import Claim, Task, note_sources
from ema_lab.execution.engines.engine import Engine, Monitor, Progress
from ema_lab.execution.engines.local import LocalEngine
from ema_lab.specs.run import RunSpec
from ema_lab.store.attempts import note_all_killed
from ema_lab.store.file_system import require_shared_locks
from ema_lab.store.job import Train
from ema_lab.store.store import MAX_ATTEMPTS, RunStore

TICK_SECONDS = 0.25


def execute(
    specs: Iterable[RunSpec | Task],
    *,
    train: Train,
    store: RunStore,
    workers: int = 1,
    engine: Engine | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    device: str = "",
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train every pending run and record each outcome.

    Runs that another process holds are waited for: if it dies, they are taken over.

    Args:
        specs: Runs, or tasks that also say how the ablation calls them.
        train: Trains one run. With several workers it must be picklable.
        store: Where runs are claimed and recorded.
        workers: 1 trains in this process, more start that many processes.
        engine: What executes the runs; by default workers on this machine.
        max_attempts: Failed or killed attempts after which a run is left alone.
        device: What the attempts say they run on; `train` decides what they do run on.
        watch: Told of the progress several times a second, and at the end.
    """
    require_shared_locks(store.root)
    engine = engine or LocalEngine(workers)
    tasks = [item if isinstance(item, Task) else Task(item) for item in specs]
    tasks = [task for task in tasks if store.state(task.spec.run_id, max_attempts) in {"pending", "running"}]
    note_sources(task.spec for task in tasks)
    claim = Claim(train, store, max_attempts, device)
    monitor = Monitor(Progress(len(tasks)), watch)
    waiting: Sequence[Task] = tasks
    while waiting:
        monitor.progress.busy = []
        engine.run(waiting, claim, monitor)
        note_all_killed(store, monitor.progress.failed)
        held = set(monitor.progress.busy)
        waiting = [task for task in waiting if task.spec.run_id in held]
        while waiting and all(store.is_locked(task.spec.run_id) for task in waiting):
            watch(monitor.progress)
            time.sleep(TICK_SECONDS)
    watch(monitor.progress)
    return monitor.progress
