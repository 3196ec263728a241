"""Leases: which process holds which trial of a study, and which of them are dead.

A process holds a kernel lock in its store, so that processes of that store know of its death at once. In a
database it also gives signs of life, for processes of other stores that share the study. Both begin with
`Leases.take` and end when what it returns is closed.
"""

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ema_lab.files import write_text
from ema_lab.search.storage import database_lock, quiet_optuna, reason_of, storage_errors

logger = logging.getLogger(__name__)
STORE = "store"  # a trial's attribute, the last one that asking writes: the store of its process


class Leases:
    """The locks of one study in one store. `store_id` tells the stores apart that share a study.

    Args:
        folder: Where the locks lie; its name is the study's.
        storage: Optuna's, where the study is kept.
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
                self.store_id = path.read_text(encoding="utf-8").strip()

    def _lock(self, name: str | int) -> FileLock:
        return FileLock(self._folder / f"{name}.lock", fallback_to_soft=False)

    @property
    def gives_signs_of_life(self) -> bool:
        """Whether trials of other stores can be told dead."""
        from optuna.storages import RDBStorage

        return isinstance(self._storage, RDBStorage)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process from asking, and from finding the dead."""
        with storage_errors(), quiet_optuna(), self._lock("ask"):
            if self.gives_signs_of_life:
                with database_lock(self._storage, self._folder.name):
                    yield
            else:
                yield

    def take(self, trial: Any) -> ExitStack:
        """Take a trial for this process, until the returned lease is closed. The caller is alone."""
        with ExitStack() as lease:
            lock = self._lock(trial.number)
            lock.acquire(timeout=0)
            lease.callback(lock.release)
            if self.gives_signs_of_life:
                lease.enter_context(_signs_of_life(self._storage, trial._trial_id))
            trial.set_user_attr(STORE, self.store_id)
            return lease.pop_all()

    def fail_dead(self, study: Any) -> None:
        """Let each running trial whose process has died be a failed one. The caller is alone."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.storages import fail_stale_trials
        from optuna.trial import TrialState

        fail_stale_trials(study)  # does nothing but in a database
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_dead(trial):
                with suppress(UpdateFinishedTrialError):  # it has ended just now, and then freed its lock
                    self._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)

    def _is_dead(self, trial: Any) -> bool:
        """Whether the process of a running trial is known to have died. The caller is alone."""
        store_id = trial.user_attrs.get(STORE)
        if store_id is None:
            return True  # it died before it had taken the trial: who asks is alone
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
def _signs_of_life(storage: Any, trial_id: int) -> Iterator[None]:
    """Tell a database now and every few seconds that a trial lives."""
    storage.record_heartbeat(trial_id)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(storage.get_heartbeat_interval()):
            try:
                storage.record_heartbeat(trial_id)
            except Exception as error:  # the server may be back at the next
                logger.warning("no sign of life could be given: %s", reason_of(error))

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
