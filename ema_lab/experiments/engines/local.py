"""Workers on this machine: this process itself, or a pool of long-lived ones."""

import multiprocessing
import signal
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pebble import ProcessExpired, ProcessPool

from ema_lab.experiments.claim import Claim, Result, Task
from ema_lab.experiments.engines.engine import Monitor
from ema_lab.experiments.store import RunStore

TICK_SECONDS = 0.25


@dataclass(frozen=True)
class LocalEngine:
    """With one worker, runs are trained in this process; with more, each worker is a process."""

    workers: int = 1

    def run(self, tasks: Sequence[Task], claim: Claim, monitor: Monitor) -> None:
        """See `Engine`."""
        if self.workers == 1:
            _run_here(tasks, claim, monitor)
        else:
            _run_in_pool(tasks, claim, monitor, min(self.workers, len(tasks)))


def _run_here(tasks: Sequence[Task], claim: Claim, monitor: Monitor) -> None:
    for task in tasks:
        run_id = task.spec.run_id
        monitor.running([run_id])
        result = claim(task)
        monitor.ended(run_id, result)
        monitor.running([])


def _run_in_pool(tasks: Sequence[Task], claim: Claim, monitor: Monitor, workers: int) -> None:
    """Run tasks in long-lived worker processes; a worker that dies costs only its run."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ema_lab.preload"])  # imports are paid once, then forked
    began = datetime.now(UTC).isoformat(timespec="seconds")
    pool = ProcessPool(max_workers=workers, context=context, initializer=_become_worker)
    futures: dict[Future[Result], str] = {}
    try:
        futures = {pool.submit(claim, None, task): task.spec.run_id for task in tasks}
        waiting = set(futures)
        while waiting:
            finished, waiting = wait(waiting, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                monitor.ended(futures[future], _result(future))
            monitor.running(run_id for future, run_id in futures.items() if _is_on(future, waiting))
        pool.close()
        pool.join()
    except BaseException:
        pool.stop()
        pool.join()
        over = {*monitor.progress.done, *monitor.progress.elsewhere, *monitor.progress.failed}
        _mark_interrupted(claim.store, [run_id for run_id in futures.values() if run_id not in over], began)
        raise


def _is_on(future: Future[Result], waiting: set[Future[Result]]) -> bool:
    return future in waiting and future.running()


def _result(future: Future[Result]) -> Result:
    try:
        return future.result()
    except ProcessExpired:
        return "killed"  # its attempt has no outcome: it counts, and the run is pending again


def _mark_interrupted(store: RunStore, run_ids: Iterable[str], began: str) -> None:
    """Note that the user stopped the attempts begun since `began`, so that they do not count as failures."""
    for run_id in run_ids:
        with store.claim(run_id) as claimed:
            attempts = store.attempts(run_id) if claimed else []
            if not attempts or attempts[-1].outcome is not None or attempts[-1].started < began:
                continue  # not begun by us, or ended
            if attempts[-1].host == socket.gethostname():
                store.end(run_id, attempts[-1], "interrupted")


def _become_worker() -> None:
    """Leave Ctrl-C to the parent, which stops the workers and notes what they were at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
