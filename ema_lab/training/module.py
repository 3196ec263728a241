"""LightningModule that trains every task."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.profilers import PassThroughProfiler, Profiler
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ema_lab.data.share import ALONE, Share
from ema_lab.models.synchronised import set_alone
from ema_lab.specs.run import RunSpec
from ema_lab.tasks.task import Batch, BatchLoss, Task
from ema_lab.training.average import WeightAverage
from ema_lab.training.pieces import Pieces
from ema_lab.training.ranks import summed
from ema_lab.training.step import Step
from ema_lab.wording import number_of

EPOCH_SUMS = "ema_lab_epoch_sums"  # in checkpoints; an epoch's start clears them
PIECE_COUNT = "ema_lab_pieces"  # in checkpoints
LOSS = "loss of the batch"  # no name of a task's sums
CHECK_STEPS = 50  # steps between checks of the loss: reading a loss waits for the device


class DivergedError(RuntimeError):
    """The training loss is NaN or infinite."""


class TrainingModule(LightningModule):
    """LightningModule that trains `model` for a task by the recipe, and sums up each epoch for the curve.

    Where several ranks share each batch, the sums are those of all ranks, in every rank.
    """

    step: Step

    def __init__(
        self, spec: RunSpec, model: nn.Module, task: Task, steps_per_epoch: int, share: Share = ALONE
    ) -> None:
        super().__init__()
        self.spec = spec
        self.model = model
        self.task = task
        self.share = share
        self.automatic_optimization = False  # `Step` says when gradients make a step
        average = spec.recipe.average
        self.average = None if average is None else WeightAverage(model, average)
        self.steps_per_epoch = steps_per_epoch
        self.profiler: Profiler = PassThroughProfiler()
        may_cut = share.world == 1 and spec.recipe.compile == "off"  # else ranks would wait, graphs not fit
        self.pieces = Pieces(model, task, allowed=may_cut)
        self.epoch_loss = torch.zeros((), dtype=torch.float64)
        self.epoch_sums: dict[str, Tensor] = {}
        self.epoch_images = 0

    def on_train_start(self) -> None:
        self.epoch_loss = self.epoch_loss.to(self.device)  # a checkpoint's are on the CPU
        self.epoch_sums = {name: total.to(self.device) for name, total in self.epoch_sums.items()}

    def on_train_epoch_start(self) -> None:
        self.epoch_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.epoch_sums = {}
        self.epoch_images = 0

    @property
    def evaluated(self) -> nn.Module:
        """The model whose predictions count: the average of the weights, where there is one."""
        return self.model if self.average is None else self.average.module

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        number = self.current_epoch * self.steps_per_epoch + batch_idx
        self.pieces.protect(may_fail=self.step.rhythm.starts(number))
        while not self._train_on(batch, number):  # outside of the handler, whose traceback holds tensors
            self.pieces.double(len(batch[-1]))

    def _train_on(self, batch: Batch, number: int) -> bool:
        """Train on a batch, in pieces if need be; return whether its memory sufficed.

        Raises:
            torch.OutOfMemoryError: If it did not, and smaller pieces are not possible.
        """
        self.step.begin(number)
        if self.step.part is not None:
            set_alone(self.model, self.step.part.is_whole)
        try:
            results = [self._gradients(*piece, number, len(batch[-1])) for piece in self.pieces.of(batch)]
        except torch.OutOfMemoryError:
            if not self.pieces.can_double(len(batch[-1])):
                raise
            return False
        for result in results:
            self._collect(result)
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        with torch.autocast(self.device.type, enabled=False):  # Lightning's context holds for the loss alone
            self.step.finish(number, optimizer.step)
        return True

    def _gradients(self, first: int, piece: Batch, number: int, images: int) -> BatchLoss:
        """Add up the gradients of a piece of a batch, and return its loss without its graph."""
        own = len(piece[-1])
        if own < images:
            self.step.begin_piece(first, own)
        with self.profiler.profile("forward"):
            result = self.step.loss(piece)
        with torch.autocast(self.device.type, enabled=False):
            self.step.add_gradients(result, number, self._backward, own / images)
        return replace(result, loss=result.loss.detach())

    def _backward(self, loss: Tensor) -> None:
        with self.profiler.profile("backward"), self._reduced_when_due():
            self.manual_backward(loss)

    @contextmanager
    def _reduced_when_due(self) -> Iterator[None]:
        """Average gradients over the ranks in backward passes before an optimizer step alone."""
        if self.share.world == 1:
            yield
            return
        model = self.trainer.strategy.model
        assert isinstance(model, DistributedDataParallel)
        if self.step.is_due:
            yield
        else:
            with model.no_sync():
                yield

    def _collect(self, result: BatchLoss) -> None:
        sums, images = result.sums, result.images
        if (part := self.step.part) is None:
            self.epoch_loss += result.loss.detach() * images
        else:
            own = {**sums, LOSS: result.loss.double() * images}
            sums, images = summed(own, counts=part.counts), part.images
            self.epoch_loss += sums.pop(LOSS)
        for name, value in sums.items():
            if name not in self.epoch_sums:
                self.epoch_sums[name] = torch.zeros((), dtype=torch.float64, device=self.device)
            self.epoch_sums[name] += value
        self.epoch_images += images

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        model = self.trainer.strategy.model
        if isinstance(model, DistributedDataParallel):
            # Every forward pass begins with rank 0's buffers; Lightning turns that off after the first one.
            model.require_forward_param_sync = True
        if (batch_idx + 1) % CHECK_STEPS == 0:
            self._require_finite_loss()

    def _require_finite_loss(self) -> None:
        """Check the running sum of the loss: it stays non-finite after one non-finite loss.

        Raises:
            DivergedError: If the sum is not finite.
        """
        if not torch.isfinite(self.epoch_loss):
            loss = (self.epoch_loss / self.epoch_images).item()
            words = f"epoch {self.current_epoch + 1}, noticed after {number_of(self.epoch_images, 'image')}"
            raise DivergedError(f"the training loss is {loss} in {words}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[EPOCH_SUMS] = (self.epoch_loss, self.epoch_sums, self.epoch_images)
        checkpoint[PIECE_COUNT] = self.pieces.count

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the sums of a begun epoch, and the pieces of batches; older checkpoints lack both."""
        if EPOCH_SUMS in checkpoint:
            self.epoch_loss, self.epoch_sums, self.epoch_images = checkpoint[EPOCH_SUMS]
        self.pieces.count = checkpoint.get(PIECE_COUNT, 1)

    def epoch_summary(self) -> dict[str, float]:
        """Return the mean loss and the task's own columns of the epoch that has just ended.

        Raises:
            DivergedError: If the loss is not finite.
        """
        self._require_finite_loss()
        loss = (self.epoch_loss / self.epoch_images).item()
        return {"train_loss": loss} | self.task.epoch_summary(self.epoch_sums, self.epoch_images)

    def configure_optimizers(self) -> Any:
        self.step = Step(self.spec, self.model, self.task, self.steps_per_epoch, self.average, self.share)
        schedule = {"scheduler": self.step.schedule, "interval": "step"}  # its state is in checkpoints
        return {"optimizer": self.step.optimizer, "lr_scheduler": schedule}
