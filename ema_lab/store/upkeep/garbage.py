"""Garbage collection of a store: find, check again under the lock, then remove."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ema_lab.errors import StoreError
from ema_lab.files import DAMAGED, PARTIAL, write_text
from ema_lab.store import layout
from ema_lab.store.ownership import CHECKPOINTS, stranger_in
from ema_lab.store.quarantine import require_unlocked
from ema_lab.store.store import RunStore, State

Kind = Literal["checkpoint", "optimizer state", "weights", "superseded", "damaged", "partial", "orphan"]
IMPORT_LOCK = "import"  # held during an import, which marks its partial copies as in use
_RESULTS = (layout.RECORD, layout.PREDICTIONS, layout.CURVE, layout.DROPPED, layout.LAST, layout.BEST)


@dataclass(frozen=True)
class Slimming:
    """Find and strip optimizer state that only resuming needs from a checkpoint. Needs torch.

    `surplus` returns the size of the state in bytes (0 without one). `slim` rewrites the checkpoint without
    that state.
    """

    surplus: Callable[[Path], int]
    slim: Callable[[Path], None]


@dataclass(frozen=True)
class Policy:
    """Removal policy of a garbage collection.

    Attributes:
        slimming: Strips the optimizer state from the checkpoints of finished runs; None keeps the state.
        drop_weights: Whether to remove the weights of finished runs, which `eval` and `load_model` need.
        superseded: Whether to remove quarantined files: superseded results and damaged files.
    """

    slimming: Slimming | None = None
    drop_weights: bool = False
    superseded: bool = False


@dataclass(frozen=True)
class Litter:
    """Removable item: a file, a folder, or the optimizer state inside a checkpoint.

    `lock` names the lock to hold during the removal: that of the run, or of an import.
    """

    lock: str
    path: Path
    kind: Kind
    size_bytes: int


def find_litter(store: RunStore, policy: Policy) -> Iterator[Litter]:
    """Yield the removable items of a store. A run that a process works on keeps all its files."""
    for name in sorted(store.folder_names()):
        if layout.RUN_ID.fullmatch(name) and not store.is_locked(name):
            yield from _in_run(store, name, policy)
    for path in sorted(store.root.glob(".*")):
        if path.name.startswith(layout.IMPORTING):
            lock = IMPORT_LOCK
        elif path.name.startswith(layout.REMOVING):
            lock = path.name.removeprefix(layout.REMOVING)
        else:
            continue
        if not store.is_locked(lock):
            yield Litter(lock, path, "orphan", size_of(path))


def _in_run(store: RunStore, run_id: str, policy: Policy) -> Iterator[Litter]:
    folder = store.folder(run_id)
    if not os.path.lexists(folder / layout.SPEC):
        if not has_result(store, run_id):
            yield Litter(run_id, folder, "orphan", size_of(folder))
        return
    for path in (*folder.glob(f"*{PARTIAL}"), *folder.glob(f"{layout.ATTEMPTS}/*{PARTIAL}")):
        yield Litter(run_id, path, "partial", size_of(path))
    if policy.superseded:
        yield from _quarantined(run_id, folder)
    try:
        protocol_file = layout.weights_file(store.spec(run_id))
    except StoreError:
        return  # `store check` reports unreadable specs
    if not store.facts(run_id).done:
        return
    for path in sorted(folder.glob(layout.ALL_CHECKPOINTS)):
        if path.name in CHECKPOINTS and stranger_in(str(folder), path.name, run_id):
            continue  # perhaps the other run's only one; `run` renames it
        if path.name != protocol_file:
            yield Litter(run_id, path, "checkpoint", size_of(path))
        elif policy.drop_weights:
            yield Litter(run_id, path, "weights", size_of(path))
        elif policy.slimming is not None and (surplus := policy.slimming.surplus(path)):
            yield Litter(run_id, path, "optimizer state", surplus)


def has_result(store: RunStore, run_id: str) -> bool:
    """Return whether a folder without a spec holds a result or an attempt, whole or damaged."""
    folder = store.folder(run_id)
    try:
        names = os.listdir(folder)
        attempts = store.attempt_numbers(run_id)
    except (OSError, StoreError):
        return True  # an unreadable folder may hold a result
    return bool(attempts) or layout.SUPERSEDED in names or any(name.startswith(_RESULTS) for name in names)


def _quarantined(run_id: str, folder: Path) -> Iterator[Litter]:
    for path in (*folder.glob(layout.SUPERSEDED), *folder.glob(f"**/*{DAMAGED}*")):
        if layout.SUPERSEDED not in path.relative_to(folder).parts[:-1]:
            kind: Kind = "superseded" if path.name == layout.SUPERSEDED else "damaged"
            yield Litter(run_id, path, kind, size_of(path))


def remove(store: RunStore, litter: Litter, policy: Policy) -> int | None:
    """Remove one item under its lock and return the freed bytes.

    The item is checked again under the lock, because its run may have begun, changed or ended since.

    Returns:
        None, with nothing removed, if another process holds the lock or the item is no litter any more.
    """
    with store.claim(litter.lock) as claimed:
        if not claimed or not os.path.lexists(litter.path) or not _is_still(store, litter, policy):
            return None
        before = size_of(litter.path)
        if litter.kind == "optimizer state":
            assert policy.slimming is not None
            policy.slimming.slim(litter.path)
            return before - size_of(litter.path)
        if litter.kind == "weights":
            write_text(litter.path.with_name(layout.DROPPED), f"{litter.path.name}, {before} bytes\n")
        _delete(litter.path)
        return before


def _is_still(store: RunStore, litter: Litter, policy: Policy) -> bool:
    if litter.path.parent == store.root and litter.path.name.startswith("."):
        return True  # the lock proves that no process uses it
    items = _in_run(store, litter.lock, policy)
    return any((item.path, item.kind) == (litter.path, litter.kind) for item in items)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; 0 if the path has vanished."""
    try:
        if path.is_dir() and not path.is_symlink():
            return sum(size_of(child) for child in path.iterdir())
        return path.lstat().st_size
    except OSError:
        return 0


def _delete(path: Path) -> None:
    """Remove a file, a symbolic link, or a folder with its content.

    Raises:
        StoreError: If the system refuses the removal.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be removed: {error.strerror}") from None


def remove_runs(store: RunStore, states: Mapping[str, State]) -> None:
    """Remove run folders. Each is renamed before it is deleted, so that no reader sees half a run.

    Args:
        store: The store.
        states: State of each run at the time of the decision to remove it.

    Raises:
        StoreError: If a process works on one of the runs; none is removed then. Also if a run has changed its
            state or cannot be removed; that run and all later ones are kept then.
    """
    require_unlocked(store, states)
    for run_id, state in states.items():
        with store.claim(run_id) as claimed:
            if not claimed:
                raise StoreError(
                    f"a process has begun to work on {run_id}: this run and the later ones are kept"
                )
            if (now := store.state(run_id)) != state:
                raise StoreError(
                    f"{run_id} was {state} and is {now} now: this run and the later ones are kept"
                )
            removing = store.root / f"{layout.REMOVING}{run_id}"
            _delete(removing)  # left by an interrupted removal
            try:
                store.folder(run_id).rename(removing)
            except OSError as error:
                raise StoreError(f"{store.folder(run_id)} cannot be removed: {error.strerror}") from None
            _delete(removing)
