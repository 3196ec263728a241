"""One update of a model: forward, loss, backward, optimizer, learning rate.

Training, `plan --probe` and `cost --latency` all take this step. In training Lightning runs the parts of
`update` in the same order: it calls `begin` and `loss`, and steps `optimizer` and `schedule` itself.
"""

from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import nn

from ema_lab.models.dropout import set_step
from ema_lab.randomness import hash_counters
from ema_lab.specs.run import RunSpec
from ema_lab.tasks.task import Batch, BatchLoss, Task
from ema_lab.training.optimisation import build_optimizer, build_schedule
from ema_lab.training.precision import training_precision


def moved(targets: Any, device: torch.device) -> Any:
    """Return a batch's targets on a device, whatever they are made of, as Lightning moves them."""
    return move_data_to_device(targets, device)


class Step:
    """The updates of a run's model, which is on its device already."""

    def __init__(self, spec: RunSpec, model: nn.Module, task: Task, steps_per_epoch: int) -> None:
        self.spec = spec
        self.model = model
        self.task = task
        self.optimizer = build_optimizer(spec.recipe.optimizer, model.parameters())
        self.schedule = build_schedule(spec.recipe, self.optimizer, steps_per_epoch)

    def begin(self, number: int) -> None:
        """Prepare step `number`, from 0.

        The model's dropout layers are told the step, and torch's generators are seeded by (seed, step) for
        whatever else draws numbers, so that a resumed run draws the same.
        """
        torch.manual_seed(hash_counters(self.spec.seed, "step", number))
        set_step(self.model, number)

    def loss(self, batch: Batch) -> BatchLoss:
        """Return the loss of a batch, in the precision context that the caller has entered."""
        return self.task.loss(self.model, batch, self.spec.recipe)

    def update(self, batch: Batch, number: int) -> BatchLoss:
        """Take step `number` as training does."""
        self.begin(number)
        device = next(self.model.parameters()).device
        with training_precision(self.spec.recipe, device):
            result = self.loss(batch)
        self.optimizer.zero_grad()
        result.loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return result
