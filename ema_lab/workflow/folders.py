"""Folders that a user names: stores that must exist, and output folders."""

from pathlib import Path

from ema_lab.errors import SpecError, StoreError
from ema_lab.store.store import RunStore
from ema_lab.workflow.execution import DEFAULT_STORE


def make_folder(path: Path) -> None:
    """Create an output folder.

    Raises:
        SpecError: If the folder cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file" if path.is_file() else f"cannot be made: {error.strerror}"
        raise SpecError(f"--out must be a folder, but {path} {reason}") from None


def existing_store(path: Path | str) -> RunStore:
    """Return a store that is only read.

    Raises:
        StoreError: If a store was named that does not exist. The default one may not exist before the first
            run.
    """
    if Path(path) != DEFAULT_STORE and not Path(path).exists():
        raise StoreError(f"the store {path} does not exist (--store, or EMA_LAB_STORE)")
    return RunStore(path)
