"""Workers on this machine: this process itself, or a pool of long-lived ones."""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from filelock import FileLock, Timeout
from pebble import ProcessExpired, ProcessPool

from ema_lab.errors import WorkersDiedError
from ema_lab.execution.claim import Claim, Result, Task, new_session
from ema_lab.execution.engines.engine import Monitor
from ema_lab.store.attempts import end_interrupted

TICK_SECONDS = 0.25
SERVER_DIED = "the process that starts the workers was killed; call it again to go on"
POOL_DIED = "the workers were killed, and others cannot be started; call it again to go on"


@dataclass(frozen=True)
class LocalEngine:
    """With one worker, runs are trained in this process; with more, each worker is a process.

    Attributes:
        workers: Number of runs at a time.
        timeout: Seconds after which a run is killed and recorded as failed; None waits for ever.
            It takes a worker process, also for one worker.
        gpus: What `CUDA_VISIBLE_DEVICES` is for each worker, by slot; empty leaves it as it is.
    """

    workers: int = 1
    timeout: float | None = None
    gpus: tuple[str, ...] = ()

    def run(self, tasks: Sequence[Task], claim: Claim, monitor: Monitor) -> None:
        """See `Engine`."""
        if self.workers == 1 and self.timeout is None and not self.gpus:
            _run_here(tasks, claim, monitor)
        else:
            self._run_in_pool(tasks, claim, monitor)

    def _run_in_pool(self, tasks: Sequence[Task], claim: Claim, monitor: Monitor) -> None:
        """Run tasks in long-lived worker processes; a worker that dies costs only its run."""
        claim = replace(claim, session=new_session())
        futures: dict[Future[Result], Task] = {}
        try:
            with worker_pool(min(self.workers, len(tasks)), self.gpus) as pool:
                futures = {pool.submit(claim, self.timeout, task): task for task in tasks}
                self._collect(futures, claim, monitor)
        except BaseException:
            progress = monitor.progress
            over = {*progress.done, *progress.elsewhere, *progress.failed}
            for run_id in [task.spec.run_id for task in futures.values()]:
                if run_id not in over:
                    end_interrupted(claim.store, run_id, claim.session)
            raise

    def _collect(self, futures: Mapping[Future[Result], Task], claim: Claim, monitor: Monitor) -> None:
        ended: SimpleQueue[Future[Result]] = SimpleQueue()
        for future in futures:
            future.add_done_callback(ended.put)
        queued, begun = deque(futures), list[Future[Result]]()
        left = len(futures)
        while left:
            for future in _arrived(ended):
                left -= 1
                task, result = futures[future], _result(future)
                if result == "timeout":
                    result = claim.timed_out(task, self.timeout or 0.0)
                monitor.ended(task.spec.run_id, result)
            while queued and (queued[0].running() or queued[0].done()):  # they begin in their order
                begun.append(queued.popleft())
            begun = [future for future in begun if not future.done()]
            monitor.running(futures[future].spec.run_id for future in begun)


@contextmanager
def worker_pool(workers: int, gpus: tuple[str, ...] = ()) -> Iterator[ProcessPool]:
    """Keep long-lived worker processes for a block; they are stopped at once if it raises.

    Each has imported what runs need, leaves Ctrl-C to this process, and sees one of `gpus`, if given.

    Raises:
        WorkersDiedError: If no worker can be started any more.
    """
    with tempfile.TemporaryDirectory(prefix="ema-lab-slots-") as slots:
        pool = ProcessPool(
            max_workers=workers,
            context=_context(),
            initializer=_become_worker,
            initargs=(Path(slots), gpus),
        )
        try:
            yield pool
            pool.close()
        except BrokenExecutor as error:
            pool.stop()
            raise WorkersDiedError(POOL_DIED) from error
        except BaseException:
            pool.stop()
            raise
        finally:
            pool.join()


def _arrived(queue: SimpleQueue[Future[Result]]) -> list[Future[Result]]:
    """Return what has come, and wait a tick for the first."""
    found: list[Future[Result]] = []
    with suppress(Empty):
        found.append(queue.get(timeout=TICK_SECONDS))
        while True:
            found.append(queue.get_nowait())
    return found


def _run_here(tasks: Sequence[Task], claim: Claim, monitor: Monitor) -> None:
    for task in tasks:
        run_id = task.spec.run_id
        monitor.running([run_id])
        result = claim(task)
        monitor.ended(run_id, result)
        monitor.running([])


def _context() -> Any:
    """Return a context whose workers are forked from a server that has imported what runs need.

    Raises:
        WorkersDiedError: If the server dies meanwhile.
    """
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ema_lab.execution.preload", "ema_lab.one_run.preload"])  # paid once
    with _blocked(signal.SIGINT):  # Ctrl-C while it imports is this process's matter
        multiprocessing.forkserver.ensure_running()
    first = context.Process(target=_nothing)
    try:
        first.start()
    except (EOFError, OSError) as error:  # typer takes an EOFError for Ctrl-D
        raise WorkersDiedError(SERVER_DIED) from error
    first.join()  # until it has imported: a pool that is stopped before would leave workers half-born
    return context


def _nothing() -> None:
    """Do nothing, in a process that shows that the server is ready."""


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become_worker(slots: Path, gpus: tuple[str, ...]) -> None:
    """Take a GPU, and leave Ctrl-C to the parent, which stops the workers and notes what they were at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[_take_slot(slots, len(gpus))]


_held: list[FileLock] = []  # until this process dies: then the kernel frees the slot for another


def _take_slot(folder: Path, count: int) -> int:
    while True:
        for number in range(count):
            lock = FileLock(folder / f"{number}.lock", fallback_to_soft=False)
            try:
                lock.acquire(timeout=0.05)
            except Timeout:
                continue
            _held.append(lock)
            return number


def _result(future: Future[Result]) -> Result:
    try:
        return future.result()
    except ProcessExpired:
        return "killed"  # its attempt has no outcome: it counts, and the run is pending again
    except TimeoutError:
        return "timeout"
