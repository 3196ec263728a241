"""Execution of pending runs: each is claimed, trained and recorded exactly once.

A failing run is recorded and does not stop the others. An interrupted run is pending again.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from ema_lab.execution.claim import Claim, Task, note_sources
from ema_lab.execution.engines.engine import Engine, Monitor, Progress
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

    The call waits for runs that another process holds, and takes a run over if that process dies.

    Args:
        specs: Runs, or tasks with the names of ablation and variant.
        train: Trains one run. With several workers the function must be picklable.
        store: The store in which runs are claimed and recorded.
        workers: 1 trains in this process; more start that many processes.
        engine: Engine that executes the runs; by default workers on this machine.
        max_attempts: Number of failed or killed attempts after which a run is left alone.
        device: Device that the attempts record; `train` chooses the device itself.
        watch: Observer of the progress, called several times per second and at the end.

    Raises:
        StoreError: If the store's locks do not hold on other machines, or the store cannot be written.

    Example:
        >>> short = {"data.train_images": 100, "recipe.epochs": 1}
        >>> specs = ema_lab.load_ablation("quickstart", short).first_seeds(1).runs()[:2]
        >>> progress = ema_lab.execute(specs, train=ema_lab.train_run, store=ema_lab.RunStore("runs"))
        >>> len(progress.done), progress.failed
        (2, [])
    """
    require_shared_locks(store.root)
    if engine is None:
        from ema_lab.execution.engines.local import LocalEngine  # loads asyncio, which plans do not need

        engine = LocalEngine(workers)
    tasks = [item if isinstance(item, Task) else Task(item) for item in specs]
    tasks = [task for task in tasks if store.state(task.spec.run_id, max_attempts) in {"pending", "running"}]
    note_sources(task.spec for task in tasks)
    claim = Claim(train, store, max_attempts, device, stop_at=engine.stop_at)
    monitor = Monitor(Progress(len(tasks)), watch)
    # A claim that another process holds ends as busy. Such a run may still become ours if the holder dies,
    # so the engine gets it again as soon as a lock is free.
    waiting: Sequence[Task] = tasks
    while waiting and time.time() < engine.stop_at:
        monitor.progress.busy = []
        engine.run(waiting, claim, monitor)
        note_all_killed(store, monitor.progress.failed)
        held = set(monitor.progress.busy)
        waiting = [task for task in waiting if task.spec.run_id in held]
        while waiting and time.time() < engine.stop_at and _all_locked(store, waiting):
            watch(monitor.progress)
            time.sleep(TICK_SECONDS)
    watch(monitor.progress)
    return monitor.progress


def _all_locked(store: RunStore, tasks: Sequence[Task]) -> bool:
    return all(store.is_locked(task.spec.run_id) for task in tasks)
