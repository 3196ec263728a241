"""The composition of one run: model, data, training, cost, trackers. The executor is handed this."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

from torch import nn

from ema_lab.cost.measure import measure_cost
from ema_lab.errors import StoreError
from ema_lab.job import RunJob, RunOutcome
from ema_lab.models.build import build_model
from ema_lab.specs.run import RunSpec
from ema_lab.training.run import Machine, load_weights, train
from ema_lab.training.tracker import start_tracker

__all__ = ["Machine", "load_model", "run_cost", "train_run"]


def train_run(
    spec: RunSpec, job: RunJob, *, machine: Machine | None = None, track: str | None = None
) -> RunOutcome:
    """Train a run in its folder and return what it found, its costs included.

    Args:
        spec: The run.
        job: Its folder, and how an ablation calls it.
        machine: Device, threads and data folder; by default what this machine has.
        track: "wandb" mirrors the run there; a failure of the tracker never fails the run.
    """
    machine = machine or Machine()
    with logging_to(job.folder / "log.txt"):
        tracker = start_tracker(track, spec, job)
        try:
            outcome = train(spec, job, machine, tracker.log_epoch)
            outcome = replace(outcome, cost=run_cost(spec))
        except BaseException:
            tracker.finish(None)
            raise
        tracker.finish(outcome)
        return outcome


def run_cost(spec: RunSpec) -> dict[str, Any]:
    """Return the parameters and MACs of a run's model; measured once per model and process."""
    return dict(_model_cost(_ByModel(spec)))


class _ByModel:
    """A run spec that is equal to every other whose model is built alike."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec

    def __hash__(self) -> int:
        return hash(self.spec.model_key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByModel) and self.spec.model_key == other.spec.model_key


@lru_cache(maxsize=256)
def _model_cost(key: _ByModel) -> dict[str, Any]:
    facts = key.spec.data.facts
    return measure_cost(build_model(key.spec), image_size=facts.image_size, channels=facts.channels)


def load_model(spec: RunSpec, folder: Path) -> nn.Module:
    """Return a finished run's model in eval mode, with the weights that its protocol reports.

    Raises:
        StoreError: If the checkpoint is not there.
    """
    path = folder / ("last.ckpt" if spec.recipe.protocol == "last" else "best.ckpt")
    if not path.is_file():
        raise StoreError(f"{path} is not there: the run has no weights to load")
    model = build_model(spec)
    load_weights(model, path)
    return model.eval()


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Append log records and warnings to a file while a block runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    show = warnings.showwarning

    def keep(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        root.warning("%s:%s: %s: %s", filename, lineno, category.__name__, message)

    warnings.showwarning = keep
    try:
        yield
    finally:
        warnings.showwarning = show
        root.removeHandler(handler)
        handler.close()
