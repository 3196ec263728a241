"""Index of all runs of a store, kept current by reading only what has changed."""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ema_lab.errors import StoreError
from ema_lab.store import layout
from ema_lab.store.failure import Failure, ended_failure, shown_state
from ema_lab.store.heartbeat import Heartbeat
from ema_lab.store.store import RunStore, State

SETTLED_NS = 2_000_000_000  # file systems stamp times coarsely: a younger folder may change under its stamp
LIVELY_NS = 600 * 1_000_000_000  # a folder that changed within ten minutes is looked at every time
WHOLE_SECONDS = 10.0  # between two looks at all folders
SHARE = 20  # looks take at most one part in so many of the time
Stamp = tuple[int, int]


@dataclass(frozen=True)
class RunSummary:
    """Short state of a run.

    Attributes:
        run_id: Id of the run.
        state: State in the store.
        changed: Time of the record, else of the folder's last change, in seconds since 1970.
        metrics: Metrics of a finished run.
        wall_seconds: Training time of a finished run.
        source: Source hashes of a finished run.
        tries: Number of attempts.
        failure: Failure of the last counted attempt.
        damage: Lines about damaged files.
        epoch: Epoch of a running run, from 1.
        trained: Epochs that it has trained, with the begun part of this one.
    """

    run_id: str
    state: State
    changed: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    wall_seconds: float | None = None
    source: Mapping[str, str] = field(default_factory=dict)
    tries: int = 0
    failure: Failure | None = None
    damage: tuple[str, ...] = ()
    epoch: int | None = None
    trained: float | None = None

    @property
    def shown_state(self) -> str:
        """State for display: a failed run is called failed, even if it will be tried again."""
        return shown_state(self.state, self.failure)


class StoreIndex:
    """Summaries of all runs of a store.

    A look compares the times of the folders and reads the runs whose folders have changed. A quick look skips
    folders without recent changes; a full look, at most every ten seconds, visits all. A file that is
    rewritten in place is not noticed, but no process of this package does that.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.runs: dict[str, RunSummary] = {}
        self.version = 0
        self._stamps: dict[str, Stamp] = {}
        self._lively: set[str] = set()
        self._unsettled: set[str] = set()  # read when their folders were younger than a stamp tells
        self._lock = threading.Lock()
        self._began = float("-inf")
        self._next_whole = float("-inf")

    def refresh(self) -> int:
        """Look at all folders and return the version, which grows with every change.

        Simultaneous calls share one look, which began after all of these calls.
        """
        asked = time.monotonic()
        with self._lock:
            if self._began < asked:
                self._look(is_whole=True)
            return self.version

    def glance(self) -> int:
        """Look at the folders that may have changed since the last look, and return the version."""
        with self._lock:
            self._look(is_whole=time.monotonic() >= self._next_whole)
            return self.version

    def _look(self, *, is_whole: bool) -> None:
        self._began = time.monotonic()
        names = {name for name in self.store.folder_names() if layout.RUN_ID.fullmatch(name)}
        gone = self._stamps.keys() - names
        changed = [self._forget(name) for name in gone]
        known = self._stamps.keys() - gone
        looked_at = names if is_whole else (names - known) | (self._lively & names)
        changed += [self._update(name) for name in sorted(looked_at)]
        self.version += any(changed)
        if is_whole:
            took = time.monotonic() - self._began
            self._next_whole = self._began + max(WHOLE_SECONDS, SHARE * took)

    def _forget(self, name: str) -> bool:
        del self._stamps[name]
        self.runs.pop(name, None)
        self._lively.discard(name)
        self._unsettled.discard(name)
        return True

    def _update(self, name: str) -> bool:
        """Read a run again if it may have changed; return whether it has."""
        stamp, before = self._stamp(name), self.runs.get(name)
        now = time.time_ns()
        is_same = stamp == self._stamps.get(name)
        if before is None or not is_same or name in self._unsettled or self._was_killed(before):
            self._stamps[name] = stamp
            self.runs[name] = self._read(name, stamp)
            _put(self._unsettled, name, now - max(stamp) < SETTLED_NS)
        is_running = self.runs[name].state == "running"
        _put(self._lively, name, is_running or now - max(stamp) < LIVELY_NS)
        return not is_same or self.runs[name] != before

    def _was_killed(self, run: RunSummary) -> bool:
        """Whether the process of a running run has died, which changes no file."""
        return run.state == "running" and not self.store.is_locked(run.run_id)

    def _stamp(self, name: str) -> Stamp:
        """Return the times of a run's folder and of its attempts: every file is renamed into one of them."""
        folder = f"{self.store.root}/{name}"
        return _mtime_ns(folder), _mtime_ns(f"{folder}/{layout.ATTEMPTS}")

    def _read(self, run_id: str, stamp: Stamp) -> RunSummary:
        facts = self.store.facts(run_id)
        state = self.store.state_of(run_id, facts)
        beat = Heartbeat.read(self.store.folder(run_id)) if state == "running" else None
        record = facts.record if facts.done else None
        recorded = _mtime_ns(f"{self.store.root}/{run_id}/{layout.RECORD}") if facts.record else 0
        return RunSummary(
            run_id,
            state,
            (recorded or max(stamp)) / 1e9,
            metrics=record.metrics if record else {},
            wall_seconds=record.wall_seconds if record else None,
            source=record.source if record else {},
            tries=facts.tries,
            failure=ended_failure(facts, state),
            damage=facts.damage,
            epoch=beat.epoch if beat else None,
            trained=beat.trained if beat else None,
        )

    def ended(self, run_id: str) -> str | None:
        """Return when the last attempt at a run ended, or began if it is still running, as ISO text."""
        try:
            numbers = self.store.attempt_numbers(run_id)
            attempt = self.store.attempt(run_id, numbers[-1]) if numbers else None
        except StoreError:
            return None
        return (attempt.ended or attempt.started) if attempt else None


def _put(names: set[str], name: str, is_in: bool) -> None:
    (names.add if is_in else names.discard)(name)


def _mtime_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
