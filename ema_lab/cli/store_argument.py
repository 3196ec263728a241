"""Argument `--store` of a command: a note if the store does not exist yet, and the argument for hints."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from ema_lab.ablation.ablation import Ablation
from ema_lab.cli.output import say
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.other_settings import other_settings


def store_to_come(path: Path) -> RunStore:
    """Return a store that may not exist before the first run; print a note if it does not."""
    if path != DEFAULT_STORE and not path.exists():
        say(f"the store {path} does not exist yet (--store, or EMA_LAB_STORE)")
    return RunStore(path)


def command_arguments(ablation: str, store: Path, changes: Sequence[str] | None = None) -> str:
    """Return the user's ablation, changes and store as the arguments of a command in a hint."""
    words = [ablation, *(word for change in changes or () for word in ("--set", change))]
    return shlex.join(words if store == DEFAULT_STORE else [*words, "--store", str(store)])


def settings_hint(
    command: str,
    name: str,
    ablation: Ablation,
    runs: RunStore,
    store: Path,
    changes: Sequence[str] | None = None,
) -> Iterator[str]:
    """Yield a hint if the store has runs of an ablation only with other settings: the command with these.

    Args:
        command: The command, before the name.
        name: The ablation or report, as the user named it.
        ablation: The ablation, changed as the user said.
        runs: The store.
        store: The store's folder, as the user named it.
        changes: The user's own changes.
    """
    if (other := other_settings(ablation, runs)) is None:
        return
    new = {change.partition("=")[0] for change in other.changes}
    kept = [change for change in changes or () if change.partition("=")[0] not in new]
    arguments = command_arguments(name, store, [*kept, *other.changes])
    has = f"the store has {number_of(other.runs, 'run')} of {ablation.name} with other settings"
    yield f"hint: {has}: ema-lab {command} {arguments}"
