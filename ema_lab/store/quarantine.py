"""Quarantine inside a run's folder: superseded results and damaged files, moved but never deleted.

`superseded/N/` holds the record, curve, predictions, checkpoints and attempts of an earlier source, or of a
result that is not the run's own. No command reads these files again, so that no run resumes from them.

A file that names another run is a stranger's (`ownership`):

- A stranger's record is renamed `record.json.damaged-N`; the run has no result.
- A stranger's curve or predictions beside the run's own record make the record worthless: its numbers may
  be the stranger's, too. The whole result is superseded, and the run is pending.
- Strangers' checkpoints, tables of start weights, attempts and specs say nothing about the numbers. They are
  renamed `NAME.damaged-N`, and a finished run stays done. Its weights are gone if its checkpoint was a
  stranger's.
- In the folder of a run without a result every stranger's file is renamed `NAME.damaged-N`.

Every command that reads records judges records, curves and predictions. `run` moves files, and also
judges checkpoints, attempts and specs.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from ema_lab import files
from ema_lab.errors import DamagedFileError, StoreError, StrangerError
from ema_lab.specs.run import RunSpec
from ema_lab.store.curve import curve_rows
from ema_lab.store.layout import (
    ATTEMPTS,
    CURVE,
    PREDICTIONS,
    RECORD,
    RESUMED,
    SPEC,
    SUPERSEDED,
    attempt_path,
)
from ema_lab.store.ownership import BYSTANDERS, stranger_in
from ema_lab.store.staleness import Staleness, changed_parts
from ema_lab.store.store import RunStore

Check = Callable[[], object]  # raises if a file is refused


def supersede(folder: Path, *, is_damaged: bool = False) -> Path:
    """Move all files of a run except its spec to `superseded/N`, and return that folder.

    The caller holds the run's lock. The record of a stale result moves last: an interrupted move leaves the
    run done and stale, and the next call moves the rest. The record of a damaged result moves first: an
    interrupted move must not leave a result without a sign of its damage.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name not in {SPEC, SUPERSEDED})
    return _move(folder, sorted(names, key=lambda name: (name == RECORD) != is_damaged))


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
    """Move a pending run's damaged or foreign files aside, and return one line per file.

    The caller holds the run's lock. If another user or a later version of this package can read one of
    the files, all stay. Training loads checkpoints, which needs torch, and renames the damaged ones.
    """
    folder = store.folder(run_id)
    if store.facts(run_id).unreadable:
        return []
    lines = []
    try:
        store.record(run_id)
    except StrangerError as error:
        moved = supersede(folder, is_damaged=True)
        lines.append(f"{error}; the result was moved to {SUPERSEDED}/{moved.name}")
    except StoreError:
        pass  # the checks below rename the record
    checks = _bystanders(store, run_id) | {
        SPEC: partial(_require_spec, store, run_id),
        RECORD: partial(store.record, run_id),
        CURVE: lambda: list(curve_rows(folder)),
        PREDICTIONS: partial(_require_own, folder, PREDICTIONS),
        ATTEMPTS: partial(_require_folder, folder / ATTEMPTS),
    }
    return lines + _rename_refused(folder, checks)


def quarantine_bystanders(store: RunStore, specs: Iterable[RunSpec]) -> list[str]:
    """Rename foreign checkpoints, and foreign or damaged attempts and specs, of finished runs.

    The results stay, and a missing spec is written again. Runs that another process holds, or whose folder
    this process may not read or write, stay as they are.

    Returns:
        One line per renamed file.
    """
    lines: list[str] = []
    for spec in specs:
        with suppress(OSError, StoreError):
            if any(map(_refuses, _bystanders(store, spec.run_id).values())):
                lines += _quarantine_bystanders(store, spec)
    return lines


def _quarantine_bystanders(store: RunStore, spec: RunSpec) -> list[str]:
    with store.claim(spec.run_id) as claimed:
        if not claimed or not store.facts(spec.run_id).done:
            return []
        lines = _rename_refused(store.folder(spec.run_id), _bystanders(store, spec.run_id))
        store.write_spec(spec)
        return lines


def _bystanders(store: RunStore, run_id: str) -> dict[str, Check]:
    """Return, by name, the checks of the files that say nothing about a result's numbers."""
    folder = store.folder(run_id)
    checks: dict[str, Check] = {SPEC: partial(store.spec, run_id)}
    checks |= {name: partial(_require_own, folder, name) for name in BYSTANDERS}
    for number in store.attempt_numbers(run_id):
        checks[attempt_path(number)] = partial(store.attempt, run_id, number)
    return checks


def _refuses(check: Check) -> bool:
    try:
        check()
    except (DamagedFileError, files.NotRegularFileError):
        return True
    except (OSError, StoreError):
        pass  # a missing file, or one that another user or a later version can read
    return False


def _require_own(folder: Path, name: str) -> None:
    if problem := stranger_in(str(folder), name, folder.name):
        raise DamagedFileError(problem)


def _rename_refused(folder: Path, checks: Mapping[str, Check]) -> list[str]:
    lines = []
    for name, check in checks.items():
        try:
            check()
        except (DamagedFileError, files.NotRegularFileError) as error:
            problem = (
                str(error) if isinstance(error, DamagedFileError) else f"{folder / name}: {error.strerror}"
            )
            lines.append(f"{problem}; the file was renamed {files.quarantine_file(folder / name).name}")
        except (OSError, StoreError):
            continue  # a missing file, or one that another user or a later version can read
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
