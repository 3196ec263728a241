"""Live trackers, which mirror a run while it trains. A failing tracker is logged and never fails the run."""

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ema_lab.errors import SpecError, UnknownNameError
from ema_lab.specs.messages import nearest
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.tracking.mlflow_runs import RUN_ID, TAGS, VARIANT, MlflowRuns
from ema_lab.tracking.names import (
    PROJECT,
    run_config,
    run_name,
    run_summary,
    run_tags,
    variant_of,
    wandb_has_key,
    wandb_is_offline,
    wandb_project,
)
from ema_lab.tracking.tensorboard_files import EventFiles, folder_name

TRACKERS = ("wandb", "tensorboard", "mlflow")
SERVICE_SECONDS = 300  # start-up limit of W&B's service: its own 30 are too few if all cores train
TENSORBOARD = ".tensorboard"
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
    check_tracker_name(name)
    if importlib.util.find_spec(name) is None:
        raise SpecError(f"the tracker {name} is not installed; pip install 'ema-lab[{name}]'")
    if name == "wandb" and not wandb_can_start():
        raise SpecError("wandb has no API key here; run `wandb login`, or set WANDB_MODE=offline")


def check_tracker_name(name: str | None) -> None:
    """Check that a tracker exists.

    Raises:
        UnknownNameError: The message lists the trackers.
    """
    if name is not None and name not in TRACKERS:
        hint = nearest(name, TRACKERS)
        known = f"{hint} known" if hint else "known"
        raise UnknownNameError(f"no tracker is named {name!r}; {known}: {', '.join(TRACKERS)}")


def wandb_can_start() -> bool:
    """Return whether W&B can start without asking for a key, which would block a grid at a prompt."""
    return wandb_is_offline() or wandb_has_key()


def start_tracker(name: str | None, spec: RunSpec, job: RunJob) -> Tracker:
    """Start the named tracker; return a `NoTracker` for None."""
    kinds: dict[str, Callable[[RunSpec, RunJob], Tracker]] = {
        "wandb": WandbTracker,
        "tensorboard": TensorBoardTracker,
        "mlflow": MlflowTracker,
    }
    return NoTracker() if name is None else Guarded(lambda: kinds[name](spec, job))


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
            name=run_name(variant_of(spec, job.variant), spec.seed),
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


class TensorBoardTracker:
    """Live tracker of TensorBoard: event files in `.tensorboard/ABLATION/RUN` of the store."""

    def __init__(self, spec: RunSpec, job: RunJob) -> None:
        name = run_name(variant_of(spec, job.variant), spec.seed)
        root = job.folder.parent / TENSORBOARD / (job.ablation or PROJECT)
        self._folder: Path = root / folder_name(name, spec.run_id)
        self._config = run_config(spec)
        self._files: EventFiles | None = None

    def log_epoch(self, row: Mapping[str, float]) -> None:
        epoch = int(row["epoch"])
        if self._files is None:  # only now is known with which epoch a continued run begins
            self._files = EventFiles(self._folder, first_step=epoch)
            self._files.config(self._config)
        self._files.scalars(epoch, {key: value for key, value in row.items() if key != "epoch"})

    def finish(self, outcome: RunOutcome | None) -> None:
        if self._files is None:
            return
        if outcome is not None:
            summary = run_summary(outcome.metrics, outcome.cost, outcome.chosen_epoch)
            self._files.summary(self._config, summary)
        self._files.close()


class MlflowTracker:
    """Live tracker of MLflow: one experiment per ablation; a continued run goes on in its MLflow run."""

    def __init__(self, spec: RunSpec, job: RunJob) -> None:
        variant = variant_of(spec, job.variant)
        self._runs = MlflowRuns(job.folder.parent, PROJECT, job.ablation or PROJECT)
        self._last = 0
        if earlier := self._runs.existing().get(spec.run_id):
            self._id: str = earlier[0].info.run_id
            self._runs.finish(self._id, "RUNNING")
        else:
            tags = {RUN_ID: spec.run_id, VARIANT: variant, TAGS: ", ".join(run_tags(spec))}
            self._id = self._runs.create(run_name(variant, spec.seed), tags, run_config(spec))

    def log_epoch(self, row: Mapping[str, float]) -> None:
        self._last = int(row["epoch"])
        self._runs.log(self._id, [(self._last, row)])

    def finish(self, outcome: RunOutcome | None) -> None:
        if outcome is not None:
            summary = run_summary(outcome.metrics, outcome.cost, outcome.chosen_epoch)
            self._runs.log(self._id, [(self._last, summary)])
        self._runs.finish(self._id, "FINISHED" if outcome is not None else "FAILED")
