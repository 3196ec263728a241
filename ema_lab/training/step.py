"""Training step: forward, loss, backward, optimizer, learning rate, weight average.

Training, `plan --probe` and `cost --latency` share this step.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ema_lab.data.share import ALONE, Part, Share
from ema_lab.errors import SpecError
from ema_lab.models.dropout import seeded_layers, set_step
from ema_lab.randomness import hash_counters
from ema_lab.specs.run import RunSpec
from ema_lab.tasks.task import Batch, BatchLoss, Task
from ema_lab.training.average import WeightAverage
from ema_lab.training.compiled import CompiledModel
from ema_lab.training.optimisation import build_optimizer, build_schedule, trained_groups
from ema_lab.training.plan import Rhythm, batch_plan
from ema_lab.training.precision import training_precision
from ema_lab.training.recompute import recompute_blocks


def moved(targets: Any, device: torch.device) -> Any:
    """Move a batch's targets, a tensor or a nested collection of tensors, to a device as Lightning does."""
    from lightning.fabric.utilities import move_data_to_device  # 3 seconds that `cost` can do without

    return move_data_to_device(targets, device)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's generators of the CPU and of a run's device.

    `torch.manual_seed` also visits all other devices. It formats a Python stack where one is not initialised,
    which takes about a millisecond.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)


class Step:
    """Training steps of a run's model, which must be on its device already.

    Args:
        spec: The run.
        model: Its model.
        task: Its task.
        steps_per_epoch: Batches of an epoch.
        average: The average of the model's weights, where the recipe has one.
        share: Share of this process in each batch.

    Attributes:
        part: This process's part of the batch that `begin` has prepared; None without other processes.
    """

    def __init__(
        self,
        spec: RunSpec,
        model: nn.Module,
        task: Task,
        steps_per_epoch: int,
        average: WeightAverage | None = None,
        share: Share = ALONE,
    ) -> None:
        self.spec = spec
        self.model = model
        self.task = task
        self.average = average
        if spec.recipe.recompute:
            recompute_blocks(model)
        self.optimizer = build_optimizer(spec.recipe.optimizer, trained_groups(model, spec.recipe))
        self.schedule = build_schedule(spec.recipe, self.optimizer, steps_per_epoch)
        self.rhythm = Rhythm(spec.recipe, steps_per_epoch)
        self._plan = batch_plan(spec.recipe, steps_per_epoch)
        self._dropouts = seeded_layers(model)
        self._device = next(model.parameters()).device
        self._parameters = {name for name, _ in model.named_parameters()}
        self._is_checked = False
        self._number = 0
        self._has_gradients = False
        self._steps_per_epoch = steps_per_epoch
        self._share = share
        self.part: Part | None = None
        self.compiled = None if spec.recipe.compile == "off" else CompiledModel(spec, model, task)

    def begin(self, number: int) -> None:
        """Prepare the batch `number`, counted from 0.

        Set the step of the model's dropout layers, and seed torch's generators by (seed, step) for all other
        random draws. A resumed run then draws the same numbers.
        """
        self._number = number
        self._has_gradients = False
        if self._share.world > 1:
            self.part = self._share.part(self._images(number))
        self._seed()
        if self.part is None:
            set_step(self._dropouts, number)
        else:
            set_step(self._dropouts, number, self.part.start, self.part.size)
        if self._plan:
            momentum = self._plan.at(number).momentum
            for group in self.optimizer.param_groups:
                group.update({"momentum": momentum} if "momentum" in group else {})

    def begin_piece(self, first: int, images: int) -> None:
        """Prepare a piece of the batch, from its image `first` on: dropout masks are those of the batch."""
        set_step(self._dropouts, self._number, first, images)

    def loss(self, batch: Batch) -> BatchLoss:
        """Return the loss of a batch that `begin` has prepared, in the caller's precision context.

        Raises:
            CompileError: If the recipe compiles the model, and the first batch shows that this fails.
        """
        model = self.model if self.compiled is None else self.compiled.for_batch(batch, self._seed)
        return self.task.loss(model, batch, self.spec.recipe)

    @property
    def is_due(self) -> bool:
        """Whether an optimizer step follows the batch that `begin` has prepared."""
        return self.rhythm.due(self._number)

    def _images(self, number: int) -> int:
        """Return the number of images in a global batch."""
        size = self.spec.recipe.batch_size
        return min(size, self.spec.data.trained_images - number % self._steps_per_epoch * size)

    def _seed(self) -> None:
        """Seed torch's generators: ranks with other images draw other numbers."""
        is_whole = self.part is None or self.part.is_whole
        of_rank = () if is_whole or self._share.rank == 0 else (self._share.rank,)
        seed_generators(hash_counters(self.spec.seed, "step", self._number, *of_rank), self._device)

    def learn(
        self,
        result: BatchLoss,
        number: int,
        backward: Callable[[Tensor], object] = Tensor.backward,
        step: Callable[[], object] | None = None,
    ) -> None:
        """Take the gradients of the batch `number`, and an optimizer step where one is due.

        Args:
            result: The batch's loss.
            number: Of the batch.
            backward: Adds up the gradients of a loss; Lightning has its own.
            step: Steps the optimizer; Lightning counts steps.

        Raises:
            SpecError: If the forward pass has made parameters, which no optimizer knows.
        """
        self.add_gradients(result, number, backward)
        self.finish(number, step)

    def add_gradients(
        self,
        result: BatchLoss,
        number: int,
        backward: Callable[[Tensor], object] = Tensor.backward,
        share: float = 1.0,
    ) -> None:
        """Add up the gradients of the batch `number`, or of a piece that is a `share` of its images.

        Raises:
            SpecError: If the forward pass has made parameters, which no optimizer knows.
        """
        if not self._is_checked:
            self._refuse_late_parameters()
            self._is_checked = True
        if self.rhythm.starts(number) and not self._has_gradients:
            self.optimizer.zero_grad()
        self._has_gradients = True
        backward(self._minimised(result, number, share))

    def finish(self, number: int, step: Callable[[], object] | None = None) -> None:
        """Take an optimizer step where one is due after the batch `number`, and step the learning rate."""
        if due := self.rhythm.due(number):
            if self.spec.recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.recipe.clip_norm)
            (step or self.optimizer.step)()
            if self.average is not None:
                self.average.update(self.model)
        with warnings.catch_warnings():
            if not due:  # torch expects a step before; gradients are still being added up
                warnings.filterwarnings("ignore", message=".*lr_scheduler.step\\(\\)` before.*")
            self.schedule.step()

    def _refuse_late_parameters(self) -> None:
        late = [name for name, _ in self.model.named_parameters() if name not in self._parameters]
        if late:
            more = f" and {len(late) - 1} more" if len(late) > 1 else ""
            raise SpecError(
                f"the parameter {late[0]}{more} is made in the first forward pass, so that it would never be "
                "trained: make it in __init__"
            )

    def _minimised(self, result: BatchLoss, number: int, share: float) -> Tensor:
        loss, images = result.loss, result.images
        if self.part is not None:
            images = self.part.images
            loss = loss if self.part.factor == 1 else loss * self.part.factor
        if self.spec.recipe.reduction == "sum":
            return loss * images
        batches = self.rhythm.batches(number)
        loss = loss if share == 1 else loss * share
        return loss / batches if batches > 1 else loss

    def update(self, batch: Batch, number: int) -> BatchLoss:
        """Run step `number` on a batch as training does; return the loss before the update."""
        self.begin(number)
        with training_precision(self.spec.recipe, self._device):
            result = self.loss(batch)
        self.learn(result, number)
        return result
