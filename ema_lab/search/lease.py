"""Who tries which trial of a study, and who has died while trying.

In a store, a trial's process holds a kernel lock, so that its death is known at once. Processes of other
stores that share the study in a database are known by the signs of life that they give there.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ema_lab.files import write_text
from ema_lab.search.storage import database_lock, quiet_optuna, storage_errors

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

    def take(self, trial: Any) -> FileLock:
        """Take a trial for this process, until the returned lock is released. The caller is alone."""
        lock = self._lock(trial.number)
        lock.acquire(timeout=0)
        if self.gives_signs_of_life:
            self._storage.record_heartbeat(trial._trial_id)
        trial.set_user_attr(STORE, self.store_id)
        return lock

    def is_dead(self, trial: Any) -> bool:
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
