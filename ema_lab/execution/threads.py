"""How many threads a run gets: one number for a whole ablation of a store, because sums depend on it.

It follows neither from --workers nor from what is left to train, so that a pair that is trained by two
calls, or on two machines, is a clean one.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from filelock import FileLock

from ema_lab.errors import StoreError
from ema_lab.files import write_text
from ema_lab.store.store import RunStore

FILE = ".threads.json"
LOCK = ".threads.lock"
MAX_DEFAULT_WORKERS = 8
VARIABLE = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Threads:
    """Threads of torch for each run, and where the number comes from."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.number} thread{'s' * (self.number > 1)} a run ({self.reason})"


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(threads: int = 1) -> int:
    """Return the number of workers without a GPU: as many as the cores have threads for, at most eight."""
    return max(1, min(available_cores() // threads, MAX_DEFAULT_WORKERS))


def planned_threads(
    store: RunStore, name: str, run_ids: Callable[[], Iterable[str]], asked: int | None = None
) -> Threads:
    """Return what the runs of an ablation get here; nothing is written.

    The number asked for comes first, then what the store has kept for the ablation, what its finished runs
    have had, what OMP_NUM_THREADS says, and the cores over the default number of workers.

    Args:
        store: Where the runs are.
        name: The ablation's.
        run_ids: Returns those of all its runs; called where the store has kept no number.
        asked: What `--threads` says.
    """
    if asked is not None:
        return Threads(asked, "--threads")
    told = _variable()
    if (kept := _kept(store).get(name)) is not None:
        told_in_vain = f"; {VARIABLE}={told} changes nothing, --threads {told} would"
        words = told_in_vain if told not in (None, kept) else ""
        return Threads(kept, f"kept for {name} in this store{words}")
    if (had := _finished(store, run_ids())) is not None:
        return Threads(had, f"as the finished runs of {name}")
    if told is not None:
        return Threads(told, VARIABLE)
    workers = default_workers()
    return Threads(max(1, available_cores() // workers), f"{available_cores()} cores for {workers} workers")


def keep_threads(
    store: RunStore, name: str, run_ids: Callable[[], Iterable[str]], asked: int | None = None
) -> Threads:
    """Return the same, and keep it for the ablation: who asks after this gets this number."""
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        with FileLock(store.root / LOCK, fallback_to_soft=False):
            found = planned_threads(store, name, run_ids, asked)
            kept = _kept(store)
            if kept.get(name) != found.number:
                text = json.dumps({**kept, name: found.number}, indent=1, sort_keys=True)
                write_text(store.root / FILE, f"{text}\n")
    except OSError as error:
        raise StoreError(f"the store {store.root} cannot be written: {error.strerror or error}") from None
    return found


def kept_threads(store: RunStore, name: str) -> int | None:
    """Return the number that the store has kept for an ablation, if it has one."""
    return _kept(store).get(name)


def _kept(store: RunStore) -> dict[str, int]:
    try:
        found = json.loads((store.root / FILE).read_bytes())
    except (OSError, ValueError, RecursionError):  # then it follows from the finished runs
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: number for name, number in pairs if type(number) is int and number > 0}


def _finished(store: RunStore, run_ids: Iterable[str]) -> int | None:
    """Return the number that all finished runs on a CPU have had; None where they differ."""
    there = store.folder_names()
    records = store.records(run_id for run_id in run_ids if run_id in there).values()
    found = {
        record.environment.get("num_threads")
        for record in records
        if record.status == "done" and str(record.environment.get("device", "")).startswith("cpu")
    }
    number = found.pop() if len(found) == 1 else None
    return number if type(number) is int and number > 0 else None


def _variable() -> int | None:
    """Return what OMP_NUM_THREADS says: its first number, which is that of the outermost loop."""
    text = os.environ.get(VARIABLE, "").partition(",")[0].strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 and int(text) > 0 else None
