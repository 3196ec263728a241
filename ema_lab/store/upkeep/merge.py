"""Import: the runs of another store merged into this one. Nothing outside the other store is read."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ema_lab.errors import StoreError
from ema_lab.store.layout import ATTEMPTS, IMPORTING, RECORD, RUN_ID, SPEC, SUPERSEDED
from ema_lab.store.quarantine import supersede
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.unpack import unpack

Side = Literal["ours", "theirs"]
Result = Literal["new", "equal", "taken", "kept", "conflict", "busy", "unreadable", "left out"]


@dataclass(frozen=True)
class Imported:
    """What became of one run of the other store, or of one file of it that was left out.

    `detail` says what differs in a conflict, and why something was left out.
    """

    run_id: str
    result: Result
    detail: str = ""


@contextmanager
def opened(path: Path, near: Path, left_out: list[str]) -> Iterator[RunStore]:
    """Give the store at a folder, or in an archive (.tar, .tar.gz, .zip), which is unpacked near another.

    Args:
        path: The folder or the archive.
        near: The folder in which an archive is unpacked for the time of the block.
        left_out: Gets a line for each member of an archive that is not unpacked.

    Raises:
        StoreError: If it is neither.
    """
    if path.is_dir():
        yield RunStore(path)
        return
    if not path.is_file():
        raise StoreError(f"{path} is not there, or is no file")
    near.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=IMPORTING, dir=near) as folder:
        left_out += unpack(path, Path(folder))
        found = [file.parent.parent for file in sorted(Path(folder).rglob(SPEC))]
        roots = [root for root in found if SUPERSEDED not in root.parts]
        yield RunStore(roots[0] if roots else folder)


def import_store(store: RunStore, other: RunStore, prefer: Side | None = None) -> Iterator[Imported]:
    """Merge the runs of another store into this one, and yield what became of each.

    Equal runs have the same id and the same metrics. Where both are done and differ, nothing is taken
    unless `prefer` says whose counts; ours are then kept aside.
    """
    for run_id in sorted(filter(RUN_ID.fullmatch, other.folder_names())):
        if (other.root / run_id).is_symlink():
            yield Imported(run_id, "unreadable", "a link is not followed")
            continue
        if not os.path.lexists(other.folder(run_id) / SPEC):
            continue
        try:
            yield from _import_checked(store, other, run_id, prefer)
        except (StoreError, OSError) as error:
            words = str(error) if isinstance(error, StoreError) or not error.strerror else error.strerror
            yield Imported(run_id, "unreadable", words)


def _import_checked(store: RunStore, other: RunStore, run_id: str, prefer: Side | None) -> Iterator[Imported]:
    irregular = dict(_irregular(other.folder(run_id)))
    for path, problem in irregular.items():
        if path in {SPEC, RECORD, ATTEMPTS} or path.startswith(f"{ATTEMPTS}/"):
            raise StoreError(f"{other.folder(run_id) / path} {problem}")
    other.spec(run_id)
    theirs = other.record(run_id)
    if other.state(run_id) == "running":
        yield Imported(run_id, "busy", "a process works on it there")
        return
    with store.claim(run_id) as claimed:
        item = _import_run(store, other, run_id, theirs, prefer) if claimed else Imported(run_id, "busy")
    yield item
    if item.result in {"new", "taken"}:
        yield from (Imported(run_id, "left out", f"{path!r} {why}") for path, why in irregular.items())


def _irregular(folder: Path, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the problem of all that is neither a folder nor a regular file."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = f"{prefix}{entry.name}"
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                yield from _irregular(folder / entry.name, f"{path}/")
            elif stat.S_ISLNK(mode):
                yield path, "is a link, which is not followed"
            elif not stat.S_ISREG(mode):
                yield path, "is no regular file"


def _import_run(
    store: RunStore, other: RunStore, run_id: str, theirs: RunRecord | None, prefer: Side | None
) -> Imported:
    if not os.path.lexists(store.folder(run_id)):
        _copy(store, other, run_id, theirs)
        return Imported(run_id, "new")
    ours = store.record(run_id) if store.facts(run_id).unreadable else store.facts(run_id).record
    if theirs is None or theirs.status != "done":
        return Imported(run_id, "kept", "theirs is not done")
    if ours is None or ours.status != "done":
        _replace(store, other, run_id, theirs)
        return Imported(run_id, "taken", "ours was not done")
    if dict(ours.metrics) == dict(theirs.metrics):
        return Imported(run_id, "equal")
    names = sorted(ours.metrics.keys() | theirs.metrics.keys())
    pairs = [(name, ours.metrics.get(name), theirs.metrics.get(name)) for name in names]
    detail = ", ".join(f"{name} {mine} here, {other} there" for name, mine, other in pairs if mine != other)
    if prefer == "theirs":
        _replace(store, other, run_id, theirs)
        return Imported(run_id, "taken", detail)
    return Imported(run_id, "kept" if prefer == "ours" else "conflict", detail)


def _copy(store: RunStore, other: RunStore, run_id: str, theirs: RunRecord | None) -> None:
    """Copy a whole run folder under another name, then rename it: it is there whole or not at all."""
    with _copied(store, other, run_id, theirs) as partial:
        partial.rename(store.folder(run_id))


@contextmanager
def _copied(store: RunStore, other: RunStore, run_id: str, theirs: RunRecord | None) -> Iterator[Path]:
    """Give a copy of another store's run for a block; what is left of it then is removed.

    Raises:
        StoreError: If the run was changed there while it was copied.
    """
    with tempfile.TemporaryDirectory(prefix=f"{IMPORTING}{run_id}.", dir=store.root) as folder:
        partial = Path(folder) / run_id
        try:
            shutil.copytree(other.folder(run_id), partial, ignore=_not_regular, copy_function=_copy_file)
        except shutil.Error as error:
            _, _, reason = error.args[0][0]
            raise StoreError(f"{other.folder(run_id)} cannot be copied: {reason}") from None
        if RunStore(folder).record(run_id) != theirs:
            raise StoreError(f"{other.folder(run_id)} was changed while it was copied: import it again")
        yield partial


def _copy_file(source: str, target: str) -> None:
    shutil.copy2(source, target, follow_symlinks=False)


def _not_regular(folder: str, names: list[str]) -> set[str]:
    """Return the names that are neither folders nor regular files: links are not followed."""
    modes = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}
    return {name for name, mode in modes.items() if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))}


def _replace(store: RunStore, other: RunStore, run_id: str, theirs: RunRecord) -> None:
    """Keep our run's files aside and take theirs, the record last."""
    with _copied(store, other, run_id, theirs) as partial:
        folder = store.folder(run_id)
        supersede(folder)
        for path in sorted(partial.iterdir(), key=lambda path: path.name == RECORD):
            if path.name not in {SUPERSEDED, SPEC}:
                path.rename(folder / path.name)
        if not (folder / SPEC).exists():
            (partial / SPEC).rename(folder / SPEC)
