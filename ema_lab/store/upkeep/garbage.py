"""What a store can do without: found first, judged again under the lock, removed only when asked."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ema_lab.errors import StoreError
from ema_lab.files import DAMAGED, PARTIAL, write_text
from ema_lab.store import layout
from ema_lab.store.quarantine import require_unlocked
from ema_lab.store.store import RunStore, State

Kind = Literal["checkpoint", "optimizer state", "weights", "superseded", "damaged", "partial", "orphan"]
IMPORT_LOCK = "import"  # held while runs are imported, so that what is half-copied is known for it
_RESULTS = (layout.RECORD, layout.PREDICTIONS, layout.CURVE, layout.DROPPED, layout.LAST, layout.BEST)


@dataclass(frozen=True)
class Slimming:
    """Find and strip the optimizer state that only resuming needs from a checkpoint. Needs torch.

    `surplus` returns its bytes (0 if there is none); `slim` writes the checkpoint again without it.
    """

    surplus: Callable[[Path], int]
    slim: Callable[[Path], None]


@dataclass(frozen=True)
class Policy:
    """What may go.

    Attributes:
        slimming: Finds the optimizer state in checkpoints whose weights stay; None leaves it.
        drop_weights: Weights of finished runs may go too: `eval` and `load_model` then have none.
        superseded: What was set aside may go too: superseded results and damaged files.
    """

    slimming: Slimming | None = None
    drop_weights: bool = False
    superseded: bool = False


@dataclass(frozen=True)
class Litter:
    """Something that can go: a file, a folder, or (`optimizer state`) a part of a checkpoint.

    `lock` is held while it is removed: that of its run, or of what may be at work on it.
    """

    lock: str
    path: Path
    kind: Kind
    size_bytes: int


def find_litter(store: RunStore, policy: Policy) -> Iterator[Litter]:
    """Yield what can go. A run that a process works on keeps everything."""
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
        if not _has_result(store, run_id):
            yield Litter(run_id, folder, "orphan", size_of(folder))
        return
    for path in (*folder.glob(f"*{PARTIAL}"), *folder.glob(f"{layout.ATTEMPTS}/*{PARTIAL}")):
        yield Litter(run_id, path, "partial", size_of(path))
    if policy.superseded:
        yield from _set_aside(run_id, folder)
    try:
        protocol_file = layout.weights_file(store.spec(run_id))
    except StoreError:
        return  # what cannot be read is for `store check` to tell
    if not store.facts(run_id).done:
        return
    for path in sorted(folder.glob(layout.ALL_CHECKPOINTS)):
        if path.name != protocol_file:
            yield Litter(run_id, path, "checkpoint", size_of(path))
        elif policy.drop_weights:
            yield Litter(run_id, path, "weights", size_of(path))
        elif policy.slimming is not None and (surplus := policy.slimming.surplus(path)):
            yield Litter(run_id, path, "optimizer state", surplus)


def _has_result(store: RunStore, run_id: str) -> bool:
    """Whether a folder without a spec holds something that a run has left, whole or damaged."""
    folder = store.folder(run_id)
    try:
        names = os.listdir(folder)
        attempts = store.attempt_numbers(run_id)
    except (OSError, StoreError):
        return True  # what cannot be looked at is no litter
    return bool(attempts) or layout.SUPERSEDED in names or any(name.startswith(_RESULTS) for name in names)


def _set_aside(run_id: str, folder: Path) -> Iterator[Litter]:
    for path in (*folder.glob(layout.SUPERSEDED), *folder.glob(f"**/*{DAMAGED}*")):
        if layout.SUPERSEDED not in path.relative_to(folder).parts[:-1]:
            kind: Kind = "superseded" if path.name == layout.SUPERSEDED else "damaged"
            yield Litter(run_id, path, kind, size_of(path))


def remove(store: RunStore, litter: Litter, policy: Policy) -> int | None:
    """Remove one thing and return the bytes that it took; None, and nothing removed, if it may not go now.

    It is judged again under its lock: a run may have been finished, begun or changed meanwhile.
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
        return True  # under its lock nobody works on it
    found = _in_run(store, litter.lock, policy)
    return any((one.path, one.kind) == (litter.path, litter.kind) for one in found)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; what has gone meanwhile has none."""
    try:
        if path.is_dir() and not path.is_symlink():
            return sum(size_of(child) for child in path.iterdir())
        return path.lstat().st_size
    except OSError:
        return 0


def _delete(path: Path) -> None:
    """Remove a file, a symbolic link, or a folder with all that is in it.

    Raises:
        StoreError: If that cannot be.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be removed: {error.strerror}") from None


def remove_runs(store: RunStore, states: Mapping[str, State]) -> None:
    """Remove run folders, each at once: renamed out of the way, then deleted.

    Args:
        store: The store.
        states: The state in which each run was when its removal was decided.

    Raises:
        StoreError: If a process works on one of them, and nothing is removed then; if one has changed its
            state since, or cannot be removed, and that one and those after it are kept.
    """
    require_unlocked(store, states)
    for run_id, state in states.items():
        with store.claim(run_id) as claimed:
            if not claimed:
                raise StoreError(f"a process has begun to work on {run_id}: it is kept, and what comes after")
            if (now := store.state(run_id)) != state:
                raise StoreError(f"{run_id} was {state} and is {now} now: it is kept, and what comes after")
            aside = store.root / f"{layout.REMOVING}{run_id}"
            _delete(aside)  # left by a removal that was cut off
            try:
                store.folder(run_id).rename(aside)
            except OSError as error:
                raise StoreError(f"{store.folder(run_id)} cannot be removed: {error.strerror}") from None
            _delete(aside)
