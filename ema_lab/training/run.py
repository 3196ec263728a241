"""Train one run: model, data, recipe and seed in, metrics out."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ema_lab.errors import DamagedFileError, StoreError
from ema_lab.files import NotRegularFileError, quarantine_file
from ema_lab.models.build import build_model
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.store.layout import BEST, LAST, RUN_ID_FIELD
from ema_lab.store.predictions import write_predictions
from ema_lab.tasks.task import load_data, load_task
from ema_lab.training.callbacks import EpochEnd, Row
from ema_lab.training.environment import environment
from ema_lab.training.evaluation import evaluate
from ema_lab.training.heartbeat import Heartbeat
from ema_lab.training.module import TrainingModule
from ema_lab.training.trainer import build_trainer, choose_device


@dataclass(frozen=True)
class Machine:
    """Where and how a run is executed; nothing of it is part of the run spec.

    Attributes:
        data_root: Folder of the data sets.
        device: `auto`, `cpu` or `cuda`.
        num_threads: Threads of torch; None leaves torch's own number.
        loader_workers: Processes that prepare batches.
    """

    data_root: Path = field(default_factory=lambda: Path("data"))
    device: str = "auto"
    num_threads: int | None = None
    loader_workers: int = 0


def train(
    spec: RunSpec,
    job: RunJob,
    machine: Machine,
    report: Callable[[Row], None] = lambda row: None,
) -> RunOutcome:
    """Train a run to its end, from its last finished epoch if it was interrupted before.

    Writes the curve, checkpoints and predictions into the run's folder, each with the run's id.
    The test split is evaluated once, with the weights that the protocol chooses.
    """
    if machine.num_threads is not None:
        torch.set_num_threads(machine.num_threads)
    device = choose_device(machine.device)
    task = load_task(spec.data)
    data = load_data(spec, machine.data_root, machine.loader_workers)
    model = build_model(spec)
    epoch_end = EpochEnd(job.folder, data, report)
    trainer = build_trainer(spec.recipe, device, job.folder, [epoch_end, Heartbeat(job.folder)])
    try:
        trainer.fit(
            TrainingModule(spec, model, task, len(data.train_dataloader())),
            datamodule=data,
            ckpt_path=checkpoint_to_resume(job.folder, spec.run_id),
            weights_only=True,
        )
    except SystemExit as stop:  # what Lightning makes of Ctrl-C
        if trainer.interrupted or isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    ran_on = environment(device, spec.recipe)  # as training left it: the evaluation sets flags again
    chosen_epoch = spec.recipe.epochs if epoch_end.best is None else epoch_end.best[1]
    if epoch_end.best is not None:
        load_weights(model, job.folder / BEST, spec.run_id)
    predictions = evaluate(model, task, data, "test", device)
    arrays = {name: rows.numpy() for name, rows in predictions.items()}
    predictions_sha256 = write_predictions(job.folder, arrays, "test", spec.run_id)
    return RunOutcome(
        metrics=task.metrics(predictions),
        chosen_epoch=chosen_epoch,
        wall_seconds=round(epoch_end.wall_seconds(), 3),
        throughput=len(data.train_indices) * spec.recipe.epochs / epoch_end.train_seconds,
        environment=ran_on,
        data_sha256=data.splits.sha256,
        predictions_sha256=predictions_sha256,
    )


def checkpoint_to_resume(folder: Path, run_id: str) -> Path | None:
    """Return the checkpoint of the last finished epoch; None where the run starts anew.

    A checkpoint that cannot be read, or is another run's, is set aside, and said. The best epoch's weights
    must be there, and the run's own, if an epoch was chosen. A slimmed checkpoint has weights alone: if the
    record of its run is lost, the run starts again.
    """
    last, best = folder / LAST, folder / BEST
    checkpoint = _own_checkpoint(last, run_id)
    if checkpoint is None or "optimizer_states" not in checkpoint:
        return None
    states = checkpoint.get("callbacks", {}).values()
    if any(state.get("best") is not None for state in states) and _own_checkpoint(best, run_id) is None:
        warnings.warn(f"{best} is not there: the run starts again", stacklevel=2)
        return None
    return last


def _own_checkpoint(path: Path, run_id: str) -> dict[str, Any] | None:
    """Return a checkpoint without its tensors' values; one that cannot be used is set aside."""
    if not os.path.lexists(path):
        return None
    try:
        return _load_own(path, run_id, "meta")
    except StoreError as error:
        warnings.warn(
            f"{error}; it was renamed {quarantine_file(path).name}: the run starts again", stacklevel=2
        )
        return None


def _load_own(path: Path, run_id: str, device: str) -> dict[str, Any]:
    """Load a checkpoint and check whose it is; older ones do not say.

    Raises:
        DamagedFileError: If it cannot be read, or is another run's.
    """
    try:
        if not path.is_file():
            raise NotRegularFileError(0, "it is no regular file")
        checkpoint: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        owner = checkpoint.get(RUN_ID_FIELD, run_id)
        checkpoint["state_dict"]
    except Exception as error:  # torch raises what its readers raise
        reason = str(error).splitlines()[0].partition(". ")[0] if str(error) else type(error).__name__
        raise DamagedFileError(f"{path} cannot be read ({reason})") from None
    if owner != run_id:
        raise DamagedFileError(f"{path} is the checkpoint of {owner!r}")
    return checkpoint


def load_weights(model: nn.Module, path: Path, run_id: str) -> None:
    """Load a run's best weights, or the model's part of its last checkpoint.

    Raises:
        DamagedFileError: If the file cannot be read, is another run's, or does not fit the model.
    """
    state = _load_own(path, run_id, "cpu")["state_dict"]
    prefix = "model."
    inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    try:
        model.load_state_dict(inner if path.name == LAST else state)
    except RuntimeError as error:
        raise DamagedFileError(f"{path} does not fit the model: {str(error).splitlines()[0]}") from None
