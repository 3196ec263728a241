"""Argument `--store` of a command: a note if the store does not exist yet, and the argument for hints."""

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
    """Return the user's ablation, changes and store as the arguments of a command in a hint."""
    words = [ablation, *(word for change in changes or () for word in ("--set", change))]
    return shlex.join(words if store == DEFAULT_STORE else [*words, "--store", str(store)])
