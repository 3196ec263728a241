"""Callback that reports the progress of a training to `ema-lab status` and to the live display."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from ema_lab.store.heartbeat import Heartbeat, Phase, remove_heartbeat
from ema_lab.training.module import TrainingModule

SECONDS = 5


class HeartbeatWriter(Callback):
    """Callback that writes a heartbeat every few seconds, before each evaluation, and after it.

    It must come first in the list of callbacks, so that it reports an evaluation before that begins.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reported = 0.0
        self._batch_ended = 0.0
        self._batch_seconds = 0.0
        self._clear(0.0)

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        self._clear(time.monotonic())

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self._clear(time.monotonic())
        if self._batch_seconds:  # the first batch of a process may take long: compilation, cold files
            self._report(trainer, 0)

    def on_train_batch_start(self, *_: Any) -> None:
        self._waited += time.monotonic() - self._batch_ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = self._batch_ended = time.monotonic()
        self._batches += 1
        part = pl_module.step.part if isinstance(pl_module, TrainingModule) else None
        self._images += len(batch[-1]) if part is None else part.images
        if now - self._reported >= SECONDS:
            self._report(trainer, batch_idx + 1)

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        self._report(trainer, int(trainer.num_training_batches), "evaluating")

    def on_fit_end(self, *_: Any) -> None:
        remove_heartbeat(self.folder)

    def _report(self, trainer: Trainer, batch: int, phase: Phase = "training") -> None:
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        if self._batches:
            self._batch_seconds = round(seconds / self._batches, 4)
        Heartbeat(
            trainer.current_epoch + 1,
            batch,
            int(trainer.num_training_batches),
            batch_seconds=self._batch_seconds,
            images_per_second=round(self._images / seconds, 2),
            data_share=round(min(self._waited / seconds, 1.0), 4),
            phase=phase,
        ).write(self.folder)
        self._reported = now
        self._clear(now)

    def _clear(self, now: float) -> None:
        """Begin to measure anew at a time."""
        self._since = self._batch_ended = now
        self._waited = 0.0
        self._batches = self._images = 0
