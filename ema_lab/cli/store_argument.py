"""Store that a command names: a note where it does not exist yet, and its argument in hints."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ema_lab.cli.output import say
from ema_lab.store.store import RunStore
from ema_lab.workflow.execution import DEFAULT_STORE


def store_to_come(path: Path) -> RunStore:
    """Return a store that may not exist before the first run; print a note if it does not."""
    if path != DEFAULT_STORE and not path.exists():
        say(f"the store {path} does not exist yet (--store, or EMA_LAB_STORE)")
    return RunStore(path)


def command_arguments(ablation: str, store: Path, changes: Sequence[str] | None = None) -> str:
    """Return the ablation, its changes and the store as arguments of a command in a hint, as the user did."""
    words = [ablation, *(word for change in changes or () for word in ("--set", change))]
    return shlex.join(words if store == DEFAULT_STORE else [*words, "--store", str(store)])
