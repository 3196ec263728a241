"""Leases: which process holds which trial of a study, and which processes are dead.

Each process holds a kernel lock in its store, so that processes of the same store detect its death at once.
In a database the process also sends heartbeats, for processes of other stores that share the study.
`Leases.take` starts both; closing the returned lease ends both.
"""

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ema_lab.files import read_text, write_text
from ema_lab.search.storage import database_lock, quiet_optuna, reason_of, storage_errors

logger = logging.getLogger(__name__)
STORE = "store"  # trial attribute with the store of its process; `ask` writes it last


class Leases:
    """Trial locks of one study in one store. `store_id` identifies the store among those that share a study.

    Args:
        folder: Folder of the lock files, named after the study.
        storage: Optuna's storage of the study.
    """

    def __init__(self, folder: Path, storage: Any) -> None:
        self._folder = folder
        self._storage = storage
        with storage_errors():
            folder.mkdir(parents=True, exist_ok=True)
            with self._lock("ask"):
                path = folder / "store-id"
                if not path.exists():
                    write_text(path, f"{uuid.uuid4().hex}\n")
                self.store_id = read_text(path).strip()

    def _lock(self, name: str | int) -> FileLock:
        return FileLock(self._folder / f"{name}.lock", fallback_to_soft=False)

    @property
    def has_heartbeats(self) -> bool:
        """Whether the storage takes heartbeats, so that dead trials of other stores can be detected."""
        from optuna.storages import RDBStorage

        return isinstance(self._storage, RDBStorage)

    @contextmanager
    def ask_lock(self) -> Iterator[None]:
        """Hold the ask lock: no other process may ask for a trial or fail dead ones meanwhile."""
        with storage_errors(), quiet_optuna(), self._lock("ask"):
            if self.has_heartbeats:  # stores that share a database have different lock files
                with database_lock(self._storage, self._folder.name):
                    yield
            else:
                yield

    def take(self, trial: Any) -> ExitStack:
        """Lease a trial to this process until the returned stack is closed. The caller holds the ask lock."""
        with ExitStack() as lease:
            lock = self._lock(trial.number)
            lock.acquire(timeout=0)
            lease.callback(lock.release)
            if self.has_heartbeats:
                lease.enter_context(_heartbeats(self._storage, trial._trial_id))
            trial.set_user_attr(STORE, self.store_id)  # last: a trial without it died before its lease
            return lease.pop_all()

    def fail_dead(self, study: Any) -> None:
        """Fail each running trial whose process has died. The caller holds the ask lock."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.storages import fail_stale_trials
        from optuna.trial import TrialState

        fail_stale_trials(study)  # no effect unless the storage takes heartbeats
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_dead(trial):
                with suppress(UpdateFinishedTrialError):  # the trial just ended and released its lock
                    self._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)

    def _is_dead(self, trial: Any) -> bool:
        """Return whether a running trial's process is known to be dead. The caller holds the ask lock."""
        store_id = trial.user_attrs.get(STORE)
        if store_id is None:
            return True  # its process died inside `ask`: the ask lock, which the caller holds, was free
        if store_id != self.store_id:
            return False
        lock = self._lock(trial.number)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True


@contextmanager
def _heartbeats(storage: Any, trial_id: int) -> Iterator[None]:
    """Send a trial's heartbeat to a database now and at regular intervals."""
    storage.record_heartbeat(trial_id)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(storage.get_heartbeat_interval()):
            try:
                storage.record_heartbeat(trial_id)
            except Exception as error:  # the server may answer the next heartbeat
                logger.warning("a trial's heartbeat could not be sent: %s", reason_of(error))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
