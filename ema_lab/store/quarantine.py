"""What is put aside in a run's folder, and never deleted: superseded results, damaged files.

`superseded/N/` holds what an earlier source gave: record, curve, predictions, checkpoints, attempts.
Nothing there is read again, so nothing is resumed from it.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from ema_lab import files
from ema_lab.errors import DamagedFileError, StoreError
from ema_lab.specs.run import RunSpec
from ema_lab.store.curve import curve_rows
from ema_lab.store.layout import ATTEMPTS, CURVE, RECORD, RESUMED, SPEC, SUPERSEDED, attempt_path
from ema_lab.store.staleness import Staleness, changed_parts
from ema_lab.store.store import RunStore


def supersede(folder: Path) -> Path:
    """Move a run's outcome and all that led to it to `superseded/N`. The caller holds the lock.

    The record goes last: where the move is cut off, the run is still done and stale.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name not in {SPEC, SUPERSEDED})
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
    """Rename a pending run's damaged files, and those of another run; return a line for each.

    The caller holds the lock. What another user or a later version of this package can read stays.
    Checkpoints are checked where they are loaded, which needs torch.
    """
    folder = store.folder(run_id)
    if store.facts(run_id).unreadable:
        return []
    checks: dict[str, Callable[[], object]] = {
        SPEC: lambda: _require_spec(store, run_id),
        RECORD: lambda: store.record(run_id),
        CURVE: lambda: list(curve_rows(folder)),
        ATTEMPTS: lambda: _require_folder(folder / ATTEMPTS),
    }
    for number in store.attempt_numbers(run_id):
        checks[attempt_path(number)] = partial(store.attempt, run_id, number)
    lines = []
    for name, check in checks.items():
        try:
            check()
        except (DamagedFileError, files.NotRegularFileError) as error:
            words = (
                str(error) if isinstance(error, DamagedFileError) else f"{folder / name}: {error.strerror}"
            )
            lines.append(f"{words}; it was renamed {files.quarantine_file(folder / name).name}")
        except OSError:
            continue  # it is not there
    return lines


def _require_folder(path: Path) -> None:
    if os.path.lexists(path) and not path.is_dir():
        raise DamagedFileError(f"{path} is no folder")


def _require_spec(store: RunStore, run_id: str) -> None:
    """Check that a run's spec is that of its id; one that is not is damaged, and will be written again."""
    if not os.path.lexists(store.folder(run_id) / SPEC):
        return
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
    attempts = [attempt for attempt in store.facts(run_id).attempts if attempt.source]
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
