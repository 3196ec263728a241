"""Callbacks that write, or only follow, the curve, the best weights and the checkpoint of a run."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from ema_lab.data.module import RunData
from ema_lab.files import atomic_write, write_text
from ema_lab.store.curve import render_curve
from ema_lab.store.layout import BEST, CURVE, LAST, RUN_ID_FIELD
from ema_lab.training.evaluation import predict
from ema_lab.training.module import TrainingModule

Row = dict[str, float]
Facts = dict[str, Any]


class Begun(TypedDict):
    """Progress of a begun epoch: its batches, the seconds of their training, and the first learning rate."""

    batches: int
    seconds: float
    lr: float


class EpochEnd(Callback):
    """Callback that writes the curve, the last checkpoint, and the best weights if the protocol needs them.

    The curve's learning rate is that of an epoch's first step.

    Args:
        folder: The run's folder.
        data: The run's data.
        report: Receives each epoch's row, once the checkpoint is written.
        facts: Returns the facts of the environment that training has run in so far.
    """

    def __init__(
        self, folder: Path, data: RunData, report: Callable[[Row], None], facts: Callable[[], Facts] = dict
    ) -> None:
        self.folder = folder
        self.data = data
        self.report = report
        self.facts = facts
        self.earlier: list[Facts] = []  # environments of interrupted attempts
        self.rows: list[Row] = []
        self.train_seconds = 0.0
        self.compiled: dict[str, Any] = {}  # mode, seconds of all attempts, graphs
        self._compiled_for = 0.0
        self.earlier_seconds = 0.0  # of interrupted attempts, up to their last checkpoint
        self._began = time.perf_counter()
        self.best: tuple[float, int] | None = None
        self.watched = data.watched()
        description = data.spec.data.task
        self._primary = description.primary
        self._sign = description.metrics[self._primary].sign
        self._chooses = data.spec.recipe.protocol != "last"
        self._started = 0.0
        self._first_lr = 0.0
        self._begun: Begun | None = None  # the epoch within which a checkpoint was saved

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._begun is not None:  # Lightning starts no epoch that has begun
            self._started = time.perf_counter() - self._begun["seconds"]
            self._first_lr = self._begun["lr"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.perf_counter()
        self._first_lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        row: Row = {"epoch": trainer.current_epoch + 1, "lr": self._first_lr}
        row |= pl_module.epoch_summary()
        self._count_compilation_apart(pl_module)
        self.train_seconds += time.perf_counter() - self._started
        row["train_seconds"] = round(self.train_seconds, 3)
        if self.watched is not None:
            split, loader = self.watched
            task = pl_module.task
            model = pl_module.evaluated
            metrics = task.epoch_metrics(predict(model, task, self.data, loader, pl_module.device))
            row |= {f"{split}_{name}": value for name, value in metrics.items()}
            if self._chooses:
                self._keep_if_best(model, metrics, trainer.current_epoch + 1)
        self.rows.append(row)
        text = render_curve(self.rows, self.data.spec.run_id)
        write_text(self.folder / CURVE, text, durable=False)
        self.save(trainer)
        self.report(row)

    def save(self, trainer: Trainer, batches: int = 0) -> None:
        """Write the checkpoint, at the end of an epoch or after some batches of one."""
        if batches:
            assert isinstance(trainer.lightning_module, TrainingModule)
            self._count_compilation_apart(trainer.lightning_module)
        seconds = time.perf_counter() - self._started
        self._begun = {"batches": batches, "seconds": seconds, "lr": self._first_lr} if batches else None
        with atomic_write(self.folder / LAST) as partial:
            trainer.save_checkpoint(partial)

    def _count_compilation_apart(self, module: TrainingModule) -> None:
        """Count new seconds of compilation as such, and not as training of the epoch."""
        compiled = module.step.compiled
        if compiled is None:
            return
        seconds, self._compiled_for = compiled.seconds - self._compiled_for, compiled.seconds
        total = self.compiled.get("seconds", 0.0) + seconds
        self.compiled = {**compiled.facts(), "seconds": round(total, 3)}
        self._started += seconds

    def _keep_if_best(self, model: torch.nn.Module, metrics: Mapping[str, float], epoch: int) -> None:
        """Save the weights if the primary metric is better than in every epoch before."""
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
            "begun": self._begun,
            "compiled": self.compiled,
            "num_threads": torch.get_num_threads(),
            "environments": [
                *self.earlier,
                *([facts] if (facts := self.facts()) not in self.earlier else []),
            ],
        }

    def wall_seconds(self) -> float:
        """Return the seconds that the run has taken, including earlier attempts up to their checkpoint."""
        return self.earlier_seconds + time.perf_counter() - self._began

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]
        self.train_seconds = state_dict["train_seconds"]
        self.earlier_seconds = state_dict["wall_seconds"]
        self.best = state_dict["best"]
        self.compiled = state_dict.get("compiled", {})  # absent in older checkpoints
        self.earlier = state_dict.get("environments", [])  # absent in older checkpoints
        self._begun = state_dict.get("begun")  # absent in older checkpoints
        self.data.resumed_at = (len(self.rows), self._begun["batches"] if self._begun else 0)
        torch.set_num_threads(
            state_dict["num_threads"]
        )  # the order of sums depends on it, so a resumed run keeps it


class Follower(EpochEnd):
    """Counterpart of `EpochEnd` in ranks that write nothing: it restores where a resumed run continues."""

    @property
    def state_key(self) -> str:
        return EpochEnd.__qualname__

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing: rank 0 evaluates and writes, and the others wait for it in the next step."""


def save_weights(model: torch.nn.Module, path: Path, epoch: int, run_id: str) -> None:
    """Write a model's state dict, epoch and run id atomically."""
    with atomic_write(path) as partial:
        torch.save({"state_dict": model.state_dict(), "epoch": epoch, RUN_ID_FIELD: run_id}, partial)
