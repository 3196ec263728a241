"""What a store can do without: found first, removed only when asked."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ema_lab.errors import StoreError
from ema_lab.files import PARTIAL, write_text
from ema_lab.store.quarantine import SUPERSEDED, require_unlocked
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.integrity import DROPPED, RUN_ID, weights_file

Kind = Literal["checkpoint", "optimizer state", "weights", "superseded", "damaged", "partial", "orphan"]
REMOVING = ".removing-"
IMPORTING = ".importing-"
IMPORT_LOCK = "import"  # held while runs are imported, so that what is half-copied is known for it


@dataclass(frozen=True)
class Slimming:
    """How the state that only resuming needs is told in a checkpoint, and taken out. Needs torch.

    `surplus` returns its bytes (0 if there is none); `slim` writes the checkpoint again without it.
    """

    surplus: Callable[[Path], int]
    slim: Callable[[Path], None]


@dataclass(frozen=True)
class Litter:
    """Something that can go: a file, a folder, or (`optimizer state`) a part of a checkpoint."""

    run_id: str
    path: Path
    kind: Kind
    size_bytes: int


def find_litter(
    store: RunStore, slimming: Slimming | None, *, drop_weights: bool = False, superseded: bool = False
) -> Iterator[Litter]:
    """Yield what can go. A run that a process works on keeps everything.

    Args:
        store: The store.
        slimming: Finds the optimiser's state in checkpoints whose weights stay; None leaves it.
        drop_weights: Weights of finished runs may go too: `eval` and `load_model` then have none.
        superseded: What was set aside may go too: superseded results and damaged files.
    """
    for name in sorted(store.folder_names()):
        if RUN_ID.fullmatch(name) and not store.is_locked(name):
            yield from _in_run(store, name, slimming, drop_weights, superseded)
    for path in sorted(store.root.glob(".*")):
        importing = path.name.startswith(IMPORTING) and not store.is_locked(IMPORT_LOCK)
        if importing or path.name.startswith(REMOVING):
            yield Litter("", path, "orphan", size_of(path))


def _in_run(
    store: RunStore, run_id: str, slimming: Slimming | None, drop_weights: bool, superseded: bool
) -> Iterator[Litter]:
    folder = store.folder(run_id)
    try:
        spec = store.spec(run_id)
        done = store.facts(run_id).done
    except StoreError:
        if not (folder / "spec.json").exists():
            yield Litter(run_id, folder, "orphan", size_of(folder))
        return  # what cannot be read is for `store check` to tell
    for path in (*folder.glob(f"*{PARTIAL}"), *folder.glob(f"attempts/*{PARTIAL}")):
        yield Litter(run_id, path, "partial", size_of(path))
    if superseded:
        for path in (*folder.glob(SUPERSEDED), *folder.glob("**/*.damaged-*")):
            if SUPERSEDED not in path.relative_to(folder).parts[:-1]:
                yield Litter(
                    run_id, path, "superseded" if path.name == SUPERSEDED else "damaged", size_of(path)
                )
    if not done:
        return
    for path in sorted(folder.glob("*.ckpt")):
        if path.name != weights_file(spec):
            yield Litter(run_id, path, "checkpoint", size_of(path))
        elif drop_weights:
            yield Litter(run_id, path, "weights", size_of(path))
        elif slimming is not None and (surplus := slimming.surplus(path)):
            yield Litter(run_id, path, "optimizer state", surplus)


def remove(store: RunStore, litter: Litter, slimming: Slimming | None) -> int:
    """Remove one thing and return the bytes that it took; 0 if its run is held by a process by now."""
    if not litter.run_id:
        shutil.rmtree(litter.path, ignore_errors=True)  # who left it there may be alive
        return litter.size_bytes
    with store.claim(litter.run_id) as claimed:
        if not claimed or not litter.path.exists():
            return 0
        before = size_of(litter.path)
        if litter.kind == "optimizer state":
            assert slimming is not None
            slimming.slim(litter.path)
            return before - size_of(litter.path)
        if litter.kind == "weights":
            write_text(litter.path.with_name(DROPPED), f"{litter.path.name}, {before} bytes\n")
        _delete(litter.path)
        return before


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if path.is_dir() and not path.is_symlink():
        return sum(size_of(child) for child in path.iterdir())
    return path.lstat().st_size


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def remove_runs(store: RunStore, run_ids: list[str]) -> None:
    """Remove run folders, each at once: renamed out of the way, then deleted.

    Raises:
        StoreError: If a process works on one of them; nothing is removed then.
    """
    require_unlocked(store, run_ids)
    for run_id in run_ids:
        with store.claim(run_id) as claimed:
            if not claimed:
                raise StoreError(f"a process has begun to work on {run_id}: it is kept, and what comes after")
            aside = store.root / f"{REMOVING}{run_id}"
            if aside.exists():  # left by a removal that was cut off
                shutil.rmtree(aside)
            store.folder(run_id).rename(aside)
        shutil.rmtree(aside)
