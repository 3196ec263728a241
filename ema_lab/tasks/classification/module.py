"""The Lightning module of image classification."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from ema_lab.models.dropout import set_step
from ema_lab.randomness import hash_counters
from ema_lab.specs.run import RunSpec
from ema_lab.training.optimisation import build_optimizer, build_schedule

CHECK_STEPS = 50  # reading the loss waits for the device, so that it is not done at every step


class DivergedError(RuntimeError):
    """The training loss is not a finite number."""


class Classifier(LightningModule):
    """Trains `model` with cross-entropy as the recipe says.

    Before each step the model's dropout layers are told the step, and torch's generators are seeded by
    (seed, step) for what else draws numbers, so that a resumed run draws the same.
    """

    def __init__(self, spec: RunSpec, model: nn.Module, steps_per_epoch: int) -> None:
        super().__init__()
        self.spec = spec
        self.model = model
        self.steps_per_epoch = steps_per_epoch
        self.epoch_loss = torch.zeros((), dtype=torch.float64)
        self.epoch_hits = torch.zeros((), dtype=torch.float64)
        self.epoch_images = 0

    def on_train_epoch_start(self) -> None:
        self.epoch_loss = torch.zeros((), dtype=torch.float64, device=self.device)
        self.epoch_hits = torch.zeros((), dtype=torch.float64, device=self.device)
        self.epoch_images = 0

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(hash_counters(self.spec.seed, "step", self.global_step))
        set_step(self.model, self.global_step)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels, _ = batch
        logits = self.model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.spec.recipe.label_smoothing)
        self.epoch_loss += loss.detach() * len(labels)
        self.epoch_hits += (logits.detach().argmax(1) == labels).sum()
        self.epoch_images += len(labels)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (batch_idx + 1) % CHECK_STEPS == 0:
            self._require_finite_loss()

    def _require_finite_loss(self) -> None:
        """Check the sum of the epoch so far, in which a loss that is not finite stays."""
        if not torch.isfinite(self.epoch_loss):
            loss = (self.epoch_loss / self.epoch_images).item()
            words = f"epoch {self.current_epoch + 1}, noticed after {self.epoch_images} images"
            raise DivergedError(f"the training loss is {loss} in {words}")

    def epoch_summary(self) -> dict[str, float]:
        """Return the mean loss and top-1 (percent) over the batches of the epoch that just ended.

        Raises:
            DivergedError: If the loss is not finite.
        """
        self._require_finite_loss()
        loss = (self.epoch_loss / self.epoch_images).item()
        return {"train_loss": loss, "train_top1": 100 * (self.epoch_hits / self.epoch_images).item()}

    def configure_optimizers(self) -> Any:
        recipe = self.spec.recipe
        optimizer = build_optimizer(recipe.optimizer, self.model.parameters())
        schedule = build_schedule(recipe, optimizer, self.steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
