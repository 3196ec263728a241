"""Train one run: model, data, recipe and seed in, metrics out."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ema_lab.data.module import ImageData
from ema_lab.files import set_aside
from ema_lab.models.build import build_model
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.tasks.classification.module import Classifier
from ema_lab.tasks.classification.predictions import Predictions, predict
from ema_lab.training.callbacks import EpochEnd, Row
from ema_lab.training.environment import environment
from ema_lab.training.heartbeat import Heartbeat
from ema_lab.training.trainer import build_trainer, choose_device, exact_arithmetic


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

    Writes `curve.csv`, `last.ckpt`, `best.ckpt` and `predictions.npz` into the run's folder.
    The test split is evaluated once, with the weights that the protocol chooses.
    """
    if machine.num_threads is not None:
        torch.set_num_threads(machine.num_threads)
    device = choose_device(machine.device)
    data = ImageData(spec, machine.data_root, machine.loader_workers)
    model = build_model(spec)
    epoch_end = EpochEnd(job.folder, data, report)
    trainer = build_trainer(spec.recipe, device, job.folder, [epoch_end, Heartbeat(job.folder)])
    try:
        trainer.fit(
            Classifier(spec, model, len(data.train_dataloader())),
            datamodule=data,
            ckpt_path=checkpoint_to_resume(job.folder),
            weights_only=True,
        )
    except SystemExit as stop:  # what Lightning makes of Ctrl-C
        if trainer.interrupted or isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    ran_on = environment(device, spec.recipe)  # as training left it: the evaluation sets flags again
    chosen_epoch = spec.recipe.epochs if epoch_end.best is None else epoch_end.best[1]
    if epoch_end.best is not None:
        load_weights(model, job.folder / "best.ckpt")
    predictions = evaluate(model, data, "test", device)
    predictions.write(job.folder / "predictions.npz", "test")
    return RunOutcome(
        metrics=predictions.metrics(),
        chosen_epoch=chosen_epoch,
        wall_seconds=round(epoch_end.wall_seconds(), 3),
        throughput=len(data.train_indices) * spec.recipe.epochs / epoch_end.train_seconds,
        environment=ran_on,
        data_sha256=data.splits.sha256,
    )


def checkpoint_to_resume(folder: Path) -> Path | None:
    """Return the checkpoint of the last finished epoch; one that cannot be read is set aside, and said.

    A finished run's checkpoint that was slimmed has weights alone: if its record is lost, it starts again.
    """
    path = folder / "last.ckpt"
    if not path.is_file():
        return None
    try:
        checkpoint = torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # torch raises what its readers raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(f"{set_aside(path)} cannot be read ({reason}): the run starts again", stacklevel=2)
        return None
    return path if "optimizer_states" in checkpoint else None


def evaluate(model: nn.Module, data: ImageData, split: str, device: torch.device) -> Predictions:
    """Return a model's predictions on `train`, `val` or `test`."""
    exact_arithmetic()
    return predict(model.to(device), data, data.split(split), device)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load `best.ckpt`, or the model's part of `last.ckpt`."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "model."
    inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    model.load_state_dict(inner if path.name == "last.ckpt" else state)
