"""Import of another store's runs into this store. Only files inside the other store are read."""

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
from ema_lab.store.upkeep.garbage import has_result
from ema_lab.store.upkeep.unpack import unpack

Side = Literal["ours", "theirs"]
Result = Literal["new", "equal", "taken", "kept", "conflict", "busy", "unreadable", "left out"]


@dataclass(frozen=True)
class Imported:
    """Result of importing one run of the other store, or of skipping one file of the run.

    `detail` names the difference in a conflict, or the reason for skipping.
    """

    run_id: str
    result: Result
    detail: str = ""


@contextmanager
def open_store(path: Path, near: Path, skipped: list[str]) -> Iterator[RunStore]:
    """Open the store in a folder or an archive (.tar, .tar.gz, .zip) for a block.

    Args:
        path: The folder or the archive.
        near: Folder in which an archive is unpacked for the duration of the block.
        skipped: List that gets one line per skipped member of an archive.

    Raises:
        StoreError: If the path is neither a folder nor an archive.
    """
    if path.is_dir():
        yield RunStore(path)
        return
    if not path.is_file():
        raise StoreError(f"{path} does not exist, or is not a regular file")
    near.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=IMPORTING, dir=near) as folder:
        skipped += unpack(path, Path(folder))
        folders = [file.parent.parent for file in sorted(Path(folder).rglob(SPEC))]
        roots = list(dict.fromkeys(root for root in folders if SUPERSEDED not in root.parts))
        skipped += [
            f"{str(root.relative_to(folder))!r}: is a second store, to import by itself" for root in roots[1:]
        ]
        yield RunStore(roots[0] if roots else folder)


def import_store(store: RunStore, other: RunStore, prefer: Side | None = None) -> Iterator[Imported]:
    """Merge the runs of another store into this one, and yield the result of each run.

    Equal runs have the same id and the same metrics. If both stores have a done run and the metrics differ,
    the merge reports a conflict and takes nothing: neither result is known to be the right one.

    Args:
        store: The store that gets the runs.
        other: The store that is read.
        prefer: Side that wins a conflict. If theirs wins, the replaced files of ours move to `superseded/`.
    """
    for run_id in sorted(filter(RUN_ID.fullmatch, other.folder_names())):
        if problem := _folder_problem(other, run_id):
            yield Imported(run_id, "unreadable", problem)
            continue
        if not os.path.lexists(other.folder(run_id) / SPEC):
            if has_result(other, run_id):
                yield Imported(run_id, "unreadable", f"it has no {SPEC}")
            continue
        try:
            yield from _import_checked(store, other, run_id, prefer)
        except (StoreError, OSError) as error:
            problem = str(error) if isinstance(error, StoreError) or not error.strerror else error.strerror
            yield Imported(run_id, "unreadable", problem)


def _folder_problem(other: RunStore, run_id: str) -> str | None:
    mode = other.folder(run_id).lstat().st_mode
    if stat.S_ISLNK(mode):
        return "a link is not followed"
    return None if stat.S_ISDIR(mode) else "is not a folder"


def _import_checked(store: RunStore, other: RunStore, run_id: str, prefer: Side | None) -> Iterator[Imported]:
    irregular = dict(_irregular(other.folder(run_id)))
    for path, problem in irregular.items():
        if path in {SPEC, RECORD, ATTEMPTS} or path.startswith(f"{ATTEMPTS}/"):
            raise StoreError(f"{other.folder(run_id) / path} {problem}")
    other.spec(run_id)
    theirs = other.record(run_id)
    if other.state(run_id) == "running":
        yield Imported(run_id, "busy", "a process works on the run there")
        return
    with store.claim(run_id) as claimed:
        item = _import_run(store, other, run_id, theirs, prefer) if claimed else Imported(run_id, "busy")
    yield item
    if item.result in {"new", "taken"}:
        yield from (
            Imported(run_id, "left out", f"{path!r} {problem}") for path, problem in irregular.items()
        )


def _irregular(folder: Path, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and the problem of each entry that is neither a folder nor a regular file."""
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
    """Copy a run folder under a temporary name and rename it, so that no reader sees half a run."""
    with _copied(store, other, run_id, theirs) as partial:
        partial.rename(store.folder(run_id))


@contextmanager
def _copied(store: RunStore, other: RunStore, run_id: str, theirs: RunRecord | None) -> Iterator[Path]:
    """Yield a temporary copy of another store's run, and remove the rest of the copy afterwards.

    Raises:
        StoreError: If the run cannot be copied, or has changed during the copy.
    """
    with tempfile.TemporaryDirectory(prefix=f"{IMPORTING}{run_id}.", dir=store.root) as folder:
        partial = Path(folder) / run_id
        try:
            shutil.copytree(other.folder(run_id), partial, ignore=_not_regular, copy_function=_copy_file)
            for copied, _, _ in os.walk(partial):  # a folder that may not be written to cannot be renamed
                os.chmod(copied, stat.S_IMODE(os.stat(copied).st_mode) | stat.S_IRWXU)
        except shutil.Error as error:
            _, _, reason = error.args[0][0]
            raise StoreError(f"{other.folder(run_id)} cannot be copied: {reason}") from None
        if RunStore(folder).record(run_id) != theirs:
            raise StoreError(f"{other.folder(run_id)} was changed while it was copied: import it again")
        yield partial


def _copy_file(source: str, target: str) -> None:
    """Copy a file. The copy may be written to, whatever protects the original."""
    shutil.copy2(source, target, follow_symlinks=False)
    os.chmod(target, stat.S_IMODE(os.lstat(target).st_mode) | stat.S_IWUSR)


def _not_regular(folder: str, names: list[str]) -> set[str]:
    """Return the names that are neither folders nor regular files, without following links."""
    modes = {name: os.lstat(os.path.join(folder, name)).st_mode for name in names}
    return {name for name, mode in modes.items() if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))}


def _replace(store: RunStore, other: RunStore, run_id: str, theirs: RunRecord) -> None:
    """Supersede our run's files and move theirs into the folder.

    The record moves last, so that an interrupted import leaves a pending run and never half a result.
    """
    with _copied(store, other, run_id, theirs) as partial:
        folder = store.folder(run_id)
        supersede(folder)
        for path in sorted(partial.iterdir(), key=lambda path: path.name == RECORD):
            if path.name not in {SUPERSEDED, SPEC}:
                path.rename(folder / path.name)
        if not (folder / SPEC).exists():
            (partial / SPEC).rename(folder / SPEC)
