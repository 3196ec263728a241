"""Machines without a cluster that train runs together: the first one invites, the others join."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ema_lab.errors import StoreError
from ema_lab.store.file_system import require_shared_locks
from ema_lab.store.layout import ENGINE, MEETINGS
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of
from ema_lab.workflow import events
from ema_lab.workflow.execution import Watch

INVITED = "nodes"  # lock of the command whose runs other machines may join
PATIENCE_SECONDS = 5.0  # a machine that looks whether the lock is held may hold it for a moment
TICK_SECONDS = 0.5


@contextmanager
def invited(store: RunStore, others: int, watch: Watch) -> Iterator[None]:
    """Invite other machines to the runs of a store for a block; a `Remark` says how they join.

    Raises:
        StoreError: If another command does so.
    """
    if not others:
        yield
        return
    with store.claim(INVITED, PATIENCE_SECONDS) as claimed:
        if not claimed:
            rule = "wait for its end, or choose another store by --store"
            raise StoreError(f"another command with --nodes trains into the store {store.root}: {rule}")
        folder, root = shlex.quote(str(Path.cwd())), shlex.quote(str(store.root.absolute()))
        machines = number_of(others, "other machine")
        command = f"cd {folder} && ema-lab join --store {root}"
        watch(events.Remark("nodes", f"each run waits for {machines}; start there: {command}"))
        yield


def join(root: Path, tell: Callable[[str], None]) -> None:
    """Train this machine's part of each run of a command with --nodes on another machine, until that ends.

    Args:
        root: The store, which both machines share.
        tell: Receives sentences for the user.

    Raises:
        StoreError: If the store's locks do not hold on other machines.
    """
    require_shared_locks(root)
    store = RunStore(root.absolute())
    if not store.is_locked(INVITED):
        tell(f"waiting for `ema-lab run ... --nodes N --store {store.root}` on another machine")
    while not store.is_locked(INVITED):
        time.sleep(TICK_SECONDS)
    from ema_lab.one_run.node import join_attempt  # loads torch

    tell("waiting for a run")
    while store.is_locked(INVITED):
        for path in sorted((store.root / ENGINE / MEETINGS).glob("*.json")):
            join_attempt(path, tell)
        time.sleep(TICK_SECONDS)
    tell("the command on the first machine has ended")
