"""Callback that saves the checkpoint inside of epochs, and ends the training at its deadline."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ema_lab.store.job import RunPaused, must_end
from ema_lab.training.callbacks import EpochEnd
from ema_lab.training.module import TrainingModule


class WithinEpoch(Callback):
    """Callback that saves the checkpoint every few minutes, and stops a run that must end.

    It acts between optimizer steps: gradients that are being accumulated are in no checkpoint. It must come
    after `EpochEnd` in the list of callbacks.

    Args:
        epoch_end: Writer of the checkpoint.
        minutes: Minutes between checkpoints; 0 saves at the ends of epochs alone.
        stop_at: Time, in seconds since 1970, after which the run saves its checkpoint and stops.
    """

    def __init__(self, epoch_end: EpochEnd, minutes: float, stop_at: float) -> None:
        self._epoch_end = epoch_end
        self._minutes = minutes
        self._stop_at = stop_at
        self._saved = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save the checkpoint if it is time.

        Raises:
            RunPaused: If the time to stop has come.
            KeyboardInterrupt: If the engine must end the run.
        """
        assert isinstance(pl_module, TrainingModule)
        batches = batch_idx + 1
        number = trainer.current_epoch * pl_module.steps_per_epoch + batches
        if batches == pl_module.steps_per_epoch or not pl_module.step.rhythm.starts(number):
            return
        is_over = self._is_over() or must_end.is_set()
        if is_over or (self._minutes and time.monotonic() - self._saved >= 60 * self._minutes):
            self._epoch_end.save(trainer, batches)
            self._saved = time.monotonic()
        if must_end.is_set():
            raise KeyboardInterrupt
        if is_over:
            raise RunPaused(f"stopped in epoch {trainer.current_epoch + 1}, after batch {batches}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a run that must end, unless this was its last epoch.

        Raises:
            RunPaused: If the run must end.
        """
        self._saved = time.monotonic()
        epoch = trainer.current_epoch + 1
        if self._is_over() and epoch != trainer.max_epochs:
            raise RunPaused(f"stopped after epoch {epoch}")

    def _is_over(self) -> bool:
        return time.time() >= self._stop_at
