"""Live trackers, which mirror a run while it trains. A failing tracker is logged and never fails the run."""

import importlib.util
import logging
import os
from collections.abc import Mapping
from typing import Any, Protocol

from ema_lab.errors import SpecError
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.tracking.names import (
    run_config,
    run_name,
    run_summary,
    run_tags,
    wandb_has_key,
    wandb_is_offline,
    wandb_project,
)

TRACKERS = ("wandb",)
SERVICE_SECONDS = 300  # start-up limit of W&B's service: its own 30 are too few if all cores train
_log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Observer of a run: receives each epoch's row and the outcome; `finish(None)` reports a failure."""

    def log_epoch(self, row: Mapping[str, float]) -> None: ...

    def finish(self, outcome: Any) -> None: ...


def check_tracker(name: str | None) -> None:
    """Check that a tracker exists, is installed and can start.

    Raises:
        SpecError: If it does not; the message says what to do.
    """
    if name is None:
        return
    if name not in TRACKERS:
        raise SpecError(f"no tracker is named {name!r}; known: {', '.join(TRACKERS)}")
    if importlib.util.find_spec(name) is None:
        raise SpecError(f"the tracker {name} is not installed; pip install 'ema-lab[{name}]'")
    if not wandb_can_start():
        raise SpecError("wandb has no API key here; run `wandb login`, or set WANDB_MODE=offline")


def wandb_can_start() -> bool:
    """Return whether W&B can start without asking for a key, which would block a grid at a prompt."""
    return wandb_is_offline() or wandb_has_key()


def start_tracker(name: str | None, spec: RunSpec, job: RunJob) -> Tracker:
    """Start the named tracker; return a `NoTracker` for None."""
    tracker: Tracker = NoTracker()
    if name == "wandb":
        tracker = Guarded(lambda: WandbTracker(spec, job))
    return tracker


class NoTracker:
    """Tracker that does nothing."""

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Ignore the row."""

    def finish(self, outcome: Any) -> None:
        """Ignore the outcome."""


class Guarded:
    """Tracker that forwards calls until the first failure, which it logs, and then ignores them."""

    def __init__(self, start: Any) -> None:
        self._inner: Tracker = NoTracker()
        self._call(lambda: setattr(self, "_inner", start()))

    def log_epoch(self, row: Mapping[str, float]) -> None:
        self._call(lambda: self._inner.log_epoch(row))

    def finish(self, outcome: Any) -> None:
        self._call(lambda: self._inner.finish(outcome))

    def _call(self, action: Any) -> None:
        try:
            action()
        except Exception as error:  # whatever the tracker raises, the run goes on
            _log.warning("tracking stopped: %s: %s", type(error).__name__, error)
            self._inner = NoTracker()


class WandbTracker:
    """Live tracker of Weights & Biases: group = ablation, job type = variant, config = run spec."""

    def __init__(self, spec: RunSpec, job: RunJob) -> None:
        os.environ.setdefault("WANDB_X_SERVICE_WAIT", str(SERVICE_SECONDS))
        import wandb

        self._run = wandb.init(
            project=wandb_project(),
            id=spec.run_id,
            resume="allow",
            name=run_name(job.variant or spec.model.attention.name, spec.seed),
            group=job.ablation or None,
            job_type=job.variant or None,
            tags=run_tags(spec),
            config=run_config(spec),
            dir=job.folder.absolute(),  # W&B's service process may have another working directory
            settings=wandb.Settings(console="off", silent=True),
        )

    def log_epoch(self, row: Mapping[str, float]) -> None:
        self._run.log(dict(row), step=int(row["epoch"]), commit=True)

    def finish(self, outcome: RunOutcome | None) -> None:
        if outcome is not None:
            summary = run_summary(outcome.metrics, outcome.cost, outcome.chosen_epoch)
            self._run.summary.update(summary)
        self._run.finish(exit_code=0 if outcome is not None else 1)
