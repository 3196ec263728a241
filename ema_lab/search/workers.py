"""Execution of a search: workers that ask for trials until none is left."""

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial

from pebble import ProcessExpired, ProcessPool

from ema_lab.errors import WorkersDiedError
from ema_lab.execution.claim import new_session
from ema_lab.execution.engines.local import worker_pool
from ema_lab.search.history import EndedTrial
from ema_lab.search.study import SweepStudy
from ema_lab.search.trial import Trier
from ema_lab.store.attempts import end_interrupted
from ema_lab.store.file_system import require_shared_locks

TICK_SECONDS = 0.5
MAX_KILLED_IN_A_ROW = 10


def run_search(
    trier: Trier,
    study: SweepStudy,
    *,
    workers: int = 1,
    gpus: tuple[str, ...] = (),
    is_over: Callable[[], bool] = lambda: False,
    watch: Callable[[EndedTrial | None], None] = lambda ended: None,
) -> None:
    """Try trials until none is left. A worker that dies costs only its time.

    Wait for trials of other processes, and retry a trial here if its process dies.

    Args:
        trier: Called by each worker. With several workers the trier must be picklable.
        study: The search's study.
        workers: Number of processes; 1 trains in this process.
        gpus: Value of `CUDA_VISIBLE_DEVICES` for each worker.
        is_over: Polled before each trial; True starts no further trial.
        watch: Observer: gets each ended trial, and None in between.

    Raises:
        WorkersDiedError: If many workers die in a row.
        StoreError: If the storage fails.
    """
    require_shared_locks(study.store.root)
    watch(None)
    _try_all(trier, study, workers, gpus, is_over, watch)
    while _wait_for_others(study, is_over, watch):
        _try_all(trier, study, workers, gpus, is_over, watch)


def _wait_for_others(
    study: SweepStudy, is_over: Callable[[], bool], watch: Callable[[EndedTrial | None], None]
) -> bool:
    """Wait while only other processes' trials are left; return whether one died and can be retried."""
    while not is_over():
        study.revive()
        counts = study.counts()
        if counts.waiting or not counts.running:
            return counts.waiting > 0
        watch(None)
        time.sleep(TICK_SECONDS)
    return False


def _try_all(
    trier: Trier,
    study: SweepStudy,
    workers: int,
    gpus: tuple[str, ...],
    is_over: Callable[[], bool],
    watch: Callable[[EndedTrial | None], None],
) -> None:
    if workers == 1 and not gpus:
        trier = replace(trier, watch=partial(watch, None))
        while not is_over() and (ended := trier(study)) is not None:
            watch(ended)
        return
    trier = replace(trier, session=new_session())
    try:
        with worker_pool(workers, gpus) as pool:
            _keep_asking(pool, trier, workers, is_over, watch)
    except BaseException:
        for run_id in study.running_run_ids():
            end_interrupted(study.store, run_id, trier.session)
        raise


def _keep_asking(
    pool: ProcessPool,
    trier: Trier,
    workers: int,
    is_over: Callable[[], bool],
    watch: Callable[[EndedTrial | None], None],
) -> None:
    futures: set[Future[EndedTrial | None]] = {pool.submit(trier, None) for _ in range(workers)}
    killed = 0
    while futures:
        ready, futures = wait(futures, TICK_SECONDS, FIRST_COMPLETED)
        for future in ready:
            try:
                ended = future.result()
            except ProcessExpired:  # the next worker that asks retries the dead worker's trial
                killed += 1
                if killed >= MAX_KILLED_IN_A_ROW:
                    message = f"{killed} workers in a row were killed; run the command again to continue"
                    raise WorkersDiedError(message) from None
                futures.add(pool.submit(trier, None))
                continue
            if ended is not None:
                killed = 0
                watch(ended)
                if not is_over():
                    futures.add(pool.submit(trier, None))
        watch(None)
