"""Pushes to an experiment tracker, one at a time from each store."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from ema_lab.errors import SpecError, StoreError, UnknownNameError
from ema_lab.registry.registry import unknown_name
from ema_lab.store.store import RunStore
from ema_lab.tracking.mirror.content import MirrorRun
from ema_lab.tracking.mirror.mlflow import MlflowMirror
from ema_lab.tracking.mirror.push import Sent, push
from ema_lab.tracking.mirror.tensorboard import TensorBoardMirror
from ema_lab.tracking.mirror.trackio import TrackioMirror
from ema_lab.tracking.mirror.wandb import WandbMirror
from ema_lab.workflow.events import RunMirrored
from ema_lab.workflow.execution import Watch

MIRRORS = ("mlflow", "tensorboard", "trackio", "wandb")
LOCK = "mirror"
Mirror = WandbMirror | TrackioMirror | TensorBoardMirror | MlflowMirror


@dataclass(frozen=True)
class Mirrored:
    """State of a mirror after a push.

    Attributes:
        mirror: The mirror.
        actions: What was done with each run, by its id.
        orphans: Mirrored runs without a counterpart in the store: mirror id -> name.
        pruned: Whether the orphans were removed.
    """

    mirror: Mirror
    actions: Mapping[str, Sent]
    orphans: Mapping[str, str]
    pruned: bool

    @property
    def next_step(self) -> str:
        """Command that shows or sends the mirror, or the mirror's address; empty if not known."""
        return self.mirror.next_step


def check_mirror(name: str) -> None:
    """Check that a mirror's name is known.

    Raises:
        UnknownNameError: The message lists the mirrors.
    """
    if name not in MIRRORS:
        raise UnknownNameError(unknown_name("mirror", name, MIRRORS))


def require_package(name: str) -> None:
    """Check that a mirror's package is installed.

    Raises:
        SpecError: With the command that installs it.
    """
    if importlib.util.find_spec(name) is None:
        raise SpecError(f"{name} is not installed; pip install 'ema-lab[{name}]'")


def open_mirror(name: str, store: RunStore, project: str, group: str) -> Mirror:
    """Open the mirror of an ablation.

    Raises:
        EmaLabError: If the mirror cannot be used.
    """
    if name == "trackio":
        return TrackioMirror(project, group)
    kinds: Mapping[str, Callable[[Path, str, str], Mirror]] = {
        "mlflow": MlflowMirror,
        "tensorboard": TensorBoardMirror,
        "wandb": WandbMirror,
    }
    return kinds[name](store.root, project, group)


def mirror_runs(
    store: RunStore,
    open_mirror: Callable[[], Mirror],
    runs: Sequence[MirrorRun],
    find_orphans: Callable[[Mirror], Mapping[str, str]],
    *,
    prune: bool,
    watch: Watch,
) -> Mirrored:
    """Send the runs that a mirror lacks or holds in another form.

    Args:
        store: Store of the runs; its lock admits one push at a time.
        open_mirror: Opens the mirror, under the lock.
        runs: Content of the mirror.
        find_orphans: Returns the mirrored runs without a counterpart in the store.
        prune: Whether to remove those.
        watch: Observer of `RunMirrored`.

    Raises:
        StoreError: If another process pushes from this store.
        MirrorError: If the mirror cannot be reached.
    """
    with store.claim(LOCK) as claimed:
        if not claimed:
            raise StoreError(f"another push from {store.root} is under way; wait for its end")
        mirror, numbers = open_mirror(), count(1)
        actions = push(
            runs, mirror, lambda run, action: watch(RunMirrored(run, action, next(numbers), len(runs)))
        )
        orphans = dict(find_orphans(mirror))
        for mirror_id in orphans if prune else ():
            mirror.remove(mirror_id)
    return Mirrored(mirror, actions, orphans, prune)
