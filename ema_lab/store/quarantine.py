"""What is put aside in a run's folder, and never deleted: superseded results, damaged files.

`superseded/N/` holds what an earlier source gave: record, curve, predictions, checkpoints, attempts.
Nothing there is read again, so nothing is resumed from it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ema_lab import files
from ema_lab.errors import DamagedFileError, StoreError
from ema_lab.specs.run import RunSpec
from ema_lab.store.staleness import Staleness, changed_parts
from ema_lab.store.store import RunStore, read_json

SUPERSEDED = "superseded"
RECORD = "record.json"
RESUMED = ("last.ckpt", "best.ckpt", "curve.csv")  # what a run goes on from, and what shows how it went


def supersede(folder: Path) -> Path:
    """Move a run's outcome and all that led to it to `superseded/N`. The caller holds the lock.

    The record goes last: where the move is cut off, the run is still done and stale.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name not in {"spec.json", SUPERSEDED})
    return _move(folder, sorted(names, key=lambda name: name == RECORD))


def _move(folder: Path, names: Iterable[str]) -> Path:
    below = folder / SUPERSEDED
    numbers = [int(path.name) for path in below.glob("[0-9]*") if path.name.isdecimal()]
    target = below / str(max(numbers, default=0) + 1)
    target.mkdir(parents=True)
    for name in names:
        (folder / name).rename(target / name)
    return target


def refresh(store: RunStore, specs: Iterable[RunSpec], staleness: Staleness) -> list[str]:
    """Put the stale results of runs aside, so that the runs are pending; return the ids of those.

    A run that another process holds is left to it.
    """
    refreshed = []
    for spec in specs:
        with store.claim(spec.run_id) as claimed:
            if claimed and staleness.parts(spec, store.facts(spec.run_id).record):
                supersede(store.folder(spec.run_id))
                refreshed.append(spec.run_id)
    return refreshed


def set_damaged_aside(store: RunStore, run_id: str) -> list[str]:
    """Rename what cannot be read among a run's facts; return a line for each. The caller holds the lock."""
    folder = store.folder(run_id)
    lines = []
    attempts = (f"attempts/{number}.json" for number in store.attempt_numbers(run_id))
    for name in ("spec.json", RECORD, *attempts):
        try:
            read_json(folder / name)
            if name == "spec.json":
                _require_spec(store, run_id)
            elif name == RECORD:
                _require_record(store, run_id)
        except FileNotFoundError:
            continue
        except DamagedFileError as error:
            lines.append(f"{error}; it was renamed {files.set_aside(folder / name).name}")
    return lines


def _require_record(store: RunStore, run_id: str) -> None:
    """Check that a run's record is whole; one of another version is refused where it is read, not here."""
    try:
        store.record(run_id)
    except DamagedFileError:
        raise
    except StoreError:
        return


def _require_spec(store: RunStore, run_id: str) -> None:
    """Check that a run's spec is that of its id; one that is not is damaged, and will be written again."""
    try:
        store.spec(run_id)
    except StoreError as error:
        raise DamagedFileError(str(error)) from None


def leave_other_source(store: RunStore, run_id: str, source: Mapping[str, str]) -> str | None:
    """Put aside what attempts with another source left, so that the run starts again; say which parts.

    The caller holds the lock.
    """
    folder = store.folder(run_id)
    left = [name for name in RESUMED if (folder / name).exists()]
    if not left:
        return None
    attempts = [attempt for attempt in store.attempts(run_id) if attempt.source]
    parts = changed_parts(attempts[-1].source, source) if attempts else ()
    if not parts:
        return None
    _move(folder, left)
    return ", ".join(parts)


def require_unlocked(store: RunStore, run_ids: Iterable[str]) -> None:
    """Check that no process works on any of the runs.

    Raises:
        StoreError: If one does.
    """
    if held := [run_id for run_id in run_ids if store.is_locked(run_id)]:
        raise StoreError(f"a process works on {', '.join(held[:5])}{' and more' if len(held) > 5 else ''}")
