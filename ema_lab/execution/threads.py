"""Number of threads per run: one number per ablation and store, because floating-point sums depend on it.

The number depends neither on --workers nor on the pending runs. Two runs of a pair therefore have the same
number, even if two calls or two machines train them.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from filelock import FileLock

from ema_lab.errors import StoreError
from ema_lab.files import read_bytes, write_text
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of

FILE = ".threads.json"
LOCK = ".threads.lock"
MAX_DEFAULT_WORKERS = 8
MOST_PROCESSES = 4096  # workers, or threads of one: more than any machine has
VARIABLE = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Threads:
    """Number of torch threads per run, with its origin as `reason`."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"{number_of(self.number, 'thread')} a run ({self.reason})"


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(threads: int = 1) -> int:
    """Return the default number of CPU workers: cores divided by threads per run, at most eight."""
    return max(1, min(available_cores() // threads, MAX_DEFAULT_WORKERS))


def planned_threads(
    store: RunStore, name: str, run_ids: Callable[[], Iterable[str]], requested: int | None = None
) -> Threads:
    """Return the threads per run of an ablation, without writing anything.

    Sources in order of precedence: `--threads`, the number stored for the ablation, the finished runs,
    OMP_NUM_THREADS, the number of cores divided by the default number of workers.

    Args:
        store: The store of the runs.
        name: The ablation's name.
        run_ids: Returns the ids of all runs of the ablation; called only if the store has kept no number.
        requested: The value of `--threads`.
    """
    if requested is not None:
        return Threads(requested, "--threads")
    variable = _variable()
    if (stored := _stored_numbers(store).get(name)) is not None:
        ignored = f"; {VARIABLE}={variable} changes nothing, --threads {variable} would"
        note = ignored if variable not in (None, stored) else ""
        return Threads(stored, f"kept for {name} in this store{note}")
    if store.root.is_dir() and (recorded := _finished(store, run_ids())) is not None:
        return Threads(recorded, f"as the finished runs of {name}")
    if variable is not None:
        return Threads(variable, VARIABLE)
    workers = default_workers()
    return Threads(
        max(1, available_cores() // workers),
        f"{number_of(available_cores(), 'core')} for {number_of(workers, 'worker')}",
    )


def keep_threads(
    store: RunStore, name: str, run_ids: Callable[[], Iterable[str]], requested: int | None = None
) -> Threads:
    """Return the threads per run of an ablation, and keep the number in the store for later calls.

    Raises:
        StoreError: If the store cannot be written.
    """
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        with FileLock(store.root / LOCK, fallback_to_soft=False):
            threads = planned_threads(store, name, run_ids, requested)
            stored = _stored_numbers(store)
            if stored.get(name) != threads.number:
                text = json.dumps({**stored, name: threads.number}, indent=1, sort_keys=True)
                write_text(store.root / FILE, f"{text}\n")
    except OSError as error:
        raise StoreError(f"the store {store.root} cannot be written: {error.strerror or error}") from None
    return threads


def kept_threads(store: RunStore, name: str) -> int | None:
    """Return the number that the store keeps for an ablation; None without one."""
    return _stored_numbers(store).get(name)


def _stored_numbers(store: RunStore) -> dict[str, int]:
    try:
        value = json.loads(read_bytes(store.root / FILE))
    except (OSError, ValueError, RecursionError):  # the finished runs then decide the number
        return {}
    pairs = value.items() if isinstance(value, dict) else ()
    return {name: number for name, number in pairs if type(number) is int and number > 0}


def _finished(store: RunStore, run_ids: Iterable[str]) -> int | None:
    """Return the threads that all finished CPU runs had; None if the runs differ, or none has finished."""
    present = store.folder_names()
    records = store.records(run_id for run_id in run_ids if run_id in present).values()
    numbers = {
        record.environment.get("num_threads")
        for record in records
        if record.status == "done" and str(record.environment.get("device", "")).startswith("cpu")
    }
    number = numbers.pop() if len(numbers) == 1 else None
    return number if type(number) is int and number > 0 else None


def _variable() -> int | None:
    """Return the first number of OMP_NUM_THREADS, which sets the outermost loop; None without one."""
    text = os.environ.get(VARIABLE, "").partition(",")[0].strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 and int(text) > 0 else None
