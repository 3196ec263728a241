"""What happens after every epoch: the curve grows, the best epoch is kept, the run can be resumed."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from ema_lab.data.module import ImageData
from ema_lab.files import atomic_write, write_text
from ema_lab.store.curve import render_curve
from ema_lab.store.layout import BEST, CURVE, LAST, RUN_ID_FIELD
from ema_lab.training.evaluation import predict
from ema_lab.training.module import TrainingModule

Row = dict[str, float]


class EpochEnd(Callback):
    """Writes the curve, the best weights (where the protocol chooses an epoch) and the last checkpoint.

    The curve's learning rate is that of an epoch's first step.

    Args:
        folder: The run's folder.
        data: The run's data.
        report: Told of each epoch's row.
    """

    def __init__(self, folder: Path, data: ImageData, report: Callable[[Row], None]) -> None:
        self.folder = folder
        self.data = data
        self.report = report
        self.rows: list[Row] = []
        self.train_seconds = 0.0
        self.earlier_seconds = 0.0  # of interrupted attempts, up to their last finished epoch
        self._began = time.perf_counter()
        self.best: tuple[float, int] | None = None
        self.watched = data.watched()
        description = data.spec.data.task
        self._primary = description.primary
        self._sign = description.metrics[self._primary].sign
        self._chooses = data.spec.recipe.protocol != "last"
        self._started = 0.0
        self._first_lr = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.perf_counter()
        self._first_lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        row: Row = {"epoch": trainer.current_epoch + 1, "lr": self._first_lr}
        row |= pl_module.epoch_summary()
        self.train_seconds += time.perf_counter() - self._started
        row["train_seconds"] = round(self.train_seconds, 3)
        if self.watched is not None:
            split, loader = self.watched
            task = pl_module.task
            metrics = task.metrics(predict(pl_module.model, task, self.data, loader, pl_module.device))
            row |= {f"{split}_{name}": value for name, value in metrics.items()}
            if self._chooses:
                self._keep_if_best(pl_module.model, metrics, trainer.current_epoch + 1)
        self.rows.append(row)
        text = render_curve(self.rows, self.data.spec.run_id)
        write_text(self.folder / CURVE, text, durable=False)
        with atomic_write(self.folder / LAST) as partial:
            trainer.save_checkpoint(partial)
        self.report(row)

    def _keep_if_best(self, model: torch.nn.Module, metrics: Mapping[str, float], epoch: int) -> None:
        """Keep the weights of the first epoch with the best primary metric."""
        value = metrics[self._primary]
        if self.best is not None and self._sign * (value - self.best[0]) <= 0:
            return
        self.best = (value, epoch)
        save_weights(model, self.folder / BEST, epoch, self.data.spec.run_id)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[RUN_ID_FIELD] = self.data.spec.run_id

    def state_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "train_seconds": self.train_seconds,
            "wall_seconds": self.wall_seconds(),
            "best": self.best,
            "num_threads": torch.get_num_threads(),
        }

    def wall_seconds(self) -> float:
        """Return the time that the run has taken so far, its finished epochs of earlier attempts included."""
        return self.earlier_seconds + time.perf_counter() - self._began

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]
        self.train_seconds = state_dict["train_seconds"]
        self.earlier_seconds = state_dict["wall_seconds"]
        self.best = state_dict["best"]
        self.data.first_epoch = len(self.rows)
        torch.set_num_threads(state_dict["num_threads"])  # sums depend on it: a run keeps its number


def save_weights(model: torch.nn.Module, path: Path, epoch: int, run_id: str) -> None:
    """Write a model's state dict, its epoch and its run, whole or not at all."""
    with atomic_write(path) as partial:
        torch.save({"state_dict": model.state_dict(), "epoch": epoch, RUN_ID_FIELD: run_id}, partial)
