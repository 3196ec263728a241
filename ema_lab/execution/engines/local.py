"""Local engine: runs in this process, or in a pool of long-lived worker processes."""

import gc
import math
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from filelock import FileLock, Timeout
from pebble import ProcessExpired, ProcessPool

from ema_lab.errors import WorkersDiedError
from ema_lab.execution.claim import PRELOADED, Claim, Result, Task, new_session
from ema_lab.execution.engines.engine import Monitor
from ema_lab.store.attempts import end_interrupted

TICK_SECONDS = 0.25
SERVER_DIED = "the process that starts the workers was killed; repeat the command to continue"
POOL_DIED = "the workers were killed, and no new ones can be started; repeat the command to continue"


@dataclass(frozen=True)
class LocalEngine:
    """Engine on this machine. One worker trains in this process; several are processes.

    Attributes:
        workers: Number of concurrent runs.
        timeout: Seconds after which a run is killed and recorded as failed; None sets no limit. A limit
            needs a worker process, also for one worker.
        gpus: Value of `CUDA_VISIBLE_DEVICES` for each worker, by slot; empty keeps the current value.
        stop_at: See `Engine`.
    """

    workers: int = 1
    timeout: float | None = None
    gpus: tuple[str, ...] = ()
    stop_at: float = math.inf

    @property
    def runs_here(self) -> bool:
        """Whether this process trains."""
        return self.workers == 1 and self.timeout is None and not self.gpus

    @contextmanager
    def loading(self, load: Callable[[], None]) -> Iterator[None]:
        """Load what trains for a block of checks; with workers, their server loads it meanwhile.

        Args:
            load: Loads it in this process, if this process trains.
        """
        if self.runs_here:
            load()
        else:
            _start_server()
        try:
            yield
        except BaseException:
            if not self.runs_here:
                _kill_server()
            raise

    def run(self, tasks: Sequence[Task], claim: Claim, monitor: Monitor) -> None:
        """See `Engine`."""
        if self.runs_here:
            _run_here(tasks, claim, monitor)
        else:
            self._run_in_pool(tasks, claim, monitor)

    def _run_in_pool(self, tasks: Sequence[Task], claim: Claim, monitor: Monitor) -> None:
        """Run tasks in long-lived worker processes; a dying worker affects only its run."""
        claim = replace(claim, session=new_session())
        futures: dict[Future[Result], Task] = {}
        try:
            with worker_pool(min(self.workers, len(tasks)), self.gpus) as pool:
                futures = {pool.submit(claim, self.timeout, task): task for task in tasks}
                self._collect(futures, claim, monitor)
        except BaseException:
            progress = monitor.progress
            ended = {*progress.done, *progress.elsewhere, *progress.failed}
            for run_id in [task.spec.run_id for task in futures.values()]:
                if run_id not in ended:
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
            while queued and (queued[0].running() or queued[0].done()):  # the pool starts tasks in order
                begun.append(queued.popleft())
            begun = [future for future in begun if not future.done()]
            monitor.running(futures[future].spec.run_id for future in begun)


@contextmanager
def worker_pool(workers: int, gpus: tuple[str, ...] = ()) -> Iterator[ProcessPool]:
    """Run a pool of long-lived worker processes for a block; an exception stops them at once.

    Each worker has preloaded the imports of a run, ignores Ctrl-C, and sees one of `gpus` if there are any.

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
    """Return the futures that have ended, after waiting at most one tick for the first."""
    arrived: list[Future[Result]] = []
    with suppress(Empty):
        arrived.append(queue.get(timeout=TICK_SECONDS))
        while True:
            arrived.append(queue.get_nowait())
    return arrived


def _run_here(tasks: Sequence[Task], claim: Claim, monitor: Monitor) -> None:
    for task in tasks:
        run_id = task.spec.run_id
        monitor.running([run_id])
        result = replace(claim, watch=partial(monitor.running, [run_id]))(task)
        monitor.ended(run_id, result)
        monitor.running([])


def _context() -> Any:
    """Return a multiprocessing context that forks workers from a server with the imports of a run.

    Raises:
        WorkersDiedError: If the server dies during its start.
    """
    context = _start_server()
    first = context.Process(target=_nothing)
    try:
        first.start()
    except (EOFError, OSError) as error:  # typer would take the EOFError for a Ctrl-D
        raise WorkersDiedError(SERVER_DIED) from error
    first.join()  # waits for the imports: a pool stopped earlier would leave half-started workers
    return context


def _start_server() -> Any:
    """Start the server, unless it runs, without waiting for its imports; return its context."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    multiprocessing.resource_tracker.ensure_running()  # whose start ends the block below
    with _blocked(signal.SIGINT):  # this process, not the server, handles a Ctrl-C during the imports
        multiprocessing.forkserver.ensure_running()
    return context


def _kill_server() -> None:
    """Kill the server amid its imports, which would keep this command's output open for seconds.

    Without the number of the server, which is no public attribute, it ends by itself after the imports.
    """
    server: Any = getattr(multiprocessing.forkserver, "_forkserver", None)
    if number := getattr(server, "_forkserver_pid", None):
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(number, signal.SIGKILL)
            if hasattr(os, "waitid"):  # multiprocessing, which starts the next one, must find it dead
                os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)
            else:  # on macOS it is forgotten here, as multiprocessing would
                os.waitpid(number, 0)
                os.close(server._forkserver_alive_fd)
                server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None


def _nothing() -> None:
    """Do nothing: the end of this process shows that the server is ready."""


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become_worker(slots: Path, gpus: tuple[str, ...]) -> None:
    """Take a GPU and ignore Ctrl-C: the parent stops the workers and ends their attempts.

    The imports are kept to the end: the garbage collector, which the server switched off, skips them.
    """
    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[_take_slot(slots, len(gpus))]


_held: list[
    FileLock
] = []  # locks live until this process dies, when the kernel frees the slot for a new worker


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
        return "killed"  # the attempt has no outcome, so it counts, and the run is pending again
    except TimeoutError:
        return "timeout"
