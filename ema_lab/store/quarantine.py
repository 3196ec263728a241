"""Quarantine inside a run's folder: superseded results and damaged files, moved but never deleted.

`superseded/N/` holds the record, curve, predictions, checkpoints and attempts of an earlier source.
No command reads these files again, so that no run resumes from them.
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
    """Move all files of a run except its spec to `superseded/N`, and return that folder.

    The caller holds the run's lock. The record moves last: an interrupted move leaves the run done and
    stale, and the next call moves the rest.
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
    """Supersede the stale results of runs, which makes the runs pending; return their ids.

    Runs that another process holds stay as they are.
    """
    refreshed = []
    for spec in specs:
        with store.claim(spec.run_id) as claimed:
            if claimed and staleness.parts(spec, store.facts(spec.run_id).record):
                supersede(store.folder(spec.run_id))
                refreshed.append(spec.run_id)
    return refreshed


def quarantine_damaged(store: RunStore, run_id: str) -> list[str]:
    """Rename a pending run's damaged or foreign files, and return one line per renamed file.

    The caller holds the run's lock. If another user or a later version of this package can read one of
    the files, all stay. Checkpoints are checked when training loads them, which needs torch.
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
            problem = (
                str(error) if isinstance(error, DamagedFileError) else f"{folder / name}: {error.strerror}"
            )
            lines.append(f"{problem}; the file was renamed {files.quarantine_file(folder / name).name}")
        except OSError:
            continue  # a missing file is no damage
    return lines


def _require_folder(path: Path) -> None:
    if os.path.lexists(path) and not path.is_dir():
        raise DamagedFileError(f"{path} is no folder")


def _require_spec(store: RunStore, run_id: str) -> None:
    """Check that a run's spec has the run's id; another spec is damage, and is written again."""
    if not os.path.lexists(store.folder(run_id) / SPEC):
        return
    try:
        store.spec(run_id)
    except StoreError as error:
        raise DamagedFileError(str(error)) from None


def supersede_stale_progress(store: RunStore, run_id: str, source: Mapping[str, str]) -> str | None:
    """Supersede the checkpoints and the curve of attempts with another source, so that the run restarts.

    A checkpoint of old code continued by new code would give a result that belongs to neither. The caller
    holds the run's lock.

    Returns:
        The names of the changed source parts, or None if the run can resume.
    """
    folder = store.folder(run_id)
    progress = [name for name in RESUMED if (folder / name).exists()]
    if not progress:
        return None
    attempts = [attempt for attempt in store.facts(run_id).attempts if attempt.source]
    parts = changed_parts(attempts[-1].source, source) if attempts else ()
    if not parts:
        return None
    _move(folder, progress)
    return ", ".join(parts)


def require_unlocked(store: RunStore, run_ids: Iterable[str]) -> None:
    """Check that no process works on any of the runs.

    Raises:
        StoreError: If a process works on one of the runs.
    """
    if held := [run_id for run_id in run_ids if store.is_locked(run_id)]:
        raise StoreError(f"a process works on {', '.join(held[:5])}{' and more' if len(held) > 5 else ''}")
