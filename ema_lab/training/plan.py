"""Learning rates, momentum and accumulation of every batch: YOLOv5 v6.0's schedule, and the rhythm of steps.

Two things of the reference are accidents, and switches here: an epoch after the one in which warm-up ends
runs with the factor of the epoch before (`lag`), and warm-up lasts at least a thousand batches however short
the run is (`least_warm_up`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ema_lab.specs.recipe import RecipeSpec, YoloSchedule

NOMINAL_BATCH = 64  # images per optimizer step that gradients are accumulated to


@dataclass(frozen=True)
class BatchPlan:
    """Settings of one batch: rates of weights and of biases, momentum, batches per optimizer step."""

    lr: float
    bias_lr: float
    momentum: float
    accumulate: int


@dataclass(frozen=True)
class DetectionSchedule:
    """Schedule of a run.

    Attributes:
        epochs: Number of epochs of the run.
        batches: Number of batches of an epoch.
        batch_size: Number of images of a batch.
        lr: Peak learning rate.
        final: Last rate as a share of the peak.
        curve: Form of the fall from the peak to the last rate.
        momentum: Momentum after warm-up.
        warm_up_epochs: Number of epochs in which rates and momentum are interpolated.
        warm_up_momentum: Momentum at the first batch.
        warm_up_bias_lr: Rate of biases at the first batch; other rates start at 0.
        nominal_batch: Number of images per optimizer step.
        lag: Whether epochs after that in which warm-up ends take the factor of the epoch before.
        least_warm_up: Least number of batches of the warm-up.
    """

    epochs: int
    batches: int
    batch_size: int
    lr: float = 0.01
    final: float = 0.1
    curve: Literal["cosine", "linear"] = "cosine"
    momentum: float = 0.937
    warm_up_epochs: float = 3.0
    warm_up_momentum: float = 0.8
    warm_up_bias_lr: float = 0.1
    nominal_batch: int = NOMINAL_BATCH
    lag: bool = False
    least_warm_up: int = 0

    @property
    def warm_up(self) -> int:
        """Batches of warm-up."""
        return max(round(self.warm_up_epochs * self.batches), self.least_warm_up)

    @property
    def accumulate(self) -> int:
        """Batches per optimizer step after warm-up."""
        return max(round(self.nominal_batch / self.batch_size), 1)

    @property
    def weight_decay_factor(self) -> float:
        """The factor of the weight decay: images of an optimizer step over the nominal batch."""
        return self.batch_size * self.accumulate / self.nominal_batch

    def factor(self, epoch: int) -> float:
        """Return an epoch's rate as a share of the peak, without `lag`."""
        if self.curve == "cosine":
            return (1 - math.cos(epoch * math.pi / self.epochs)) / 2 * (self.final - 1) + 1
        return (1 - epoch / (self.epochs - 1)) * (1 - self.final) + self.final if self.epochs > 1 else 1.0

    def at(self, batch: int) -> BatchPlan:
        """Return the plan of a batch, counted from 0 over the whole run."""
        epoch = batch // self.batches
        if self.warm_up and batch <= self.warm_up:
            share = [0, self.warm_up]
            peak = self.lr * self.factor(epoch)
            steps = float(np.interp(batch, share, [1, self.nominal_batch / self.batch_size]))
            return BatchPlan(
                lr=float(np.interp(batch, share, [0.0, peak])),
                bias_lr=float(np.interp(batch, share, [self.warm_up_bias_lr, peak])),
                momentum=float(np.interp(batch, share, [self.warm_up_momentum, self.momentum])),
                accumulate=max(1, round(steps)),
            )
        late = self.lag and epoch > self.warm_up // self.batches
        lr = self.lr * self.factor(epoch - 1 if late else epoch)
        return BatchPlan(lr, lr, self.momentum, self.accumulate)


def average_decay(step: int, decay: float = 0.9999, ramp: float = 2000.0) -> float:
    """Return the weight average's decay at an optimizer step, counted from 1: it grows to `decay`.

    Without a ramp (0) it is `decay` from the first step on.
    """
    return decay * (1 - math.exp(-step / ramp)) if ramp else decay


def batch_plan(recipe: RecipeSpec, steps_per_epoch: int) -> DetectionSchedule | None:
    """Return the plan of a recipe with YOLOv5's schedule; None for another one."""
    schedule, optimizer = recipe.schedule, recipe.optimizer
    if not isinstance(schedule, YoloSchedule):
        return None
    return DetectionSchedule(
        epochs=recipe.epochs,
        batches=steps_per_epoch,
        batch_size=recipe.batch_size,
        lr=optimizer.lr,
        final=schedule.final,
        curve=schedule.curve,
        momentum=getattr(optimizer, "momentum", 0.0),
        warm_up_epochs=schedule.warmup_epochs,
        warm_up_momentum=schedule.warmup_momentum,
        warm_up_bias_lr=schedule.warmup_bias_lr,
        nominal_batch=recipe.nominal_batch or recipe.batch_size,
        lag=schedule.lag,
        least_warm_up=schedule.least_warmup,
    )


class Rhythm:
    """The batches of a run, counted from 0, that end with an optimizer step, and the batches in each step."""

    def __init__(self, recipe: RecipeSpec, steps_per_epoch: int) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._drops = recipe.leftover == "drop"
        self._due: list[bool] = []
        self._last = -1
        self.batches = _accumulation(recipe, steps_per_epoch)

    def due(self, batch: int) -> bool:
        """Return whether an optimizer step follows a batch; the same for a run that was resumed before it."""
        while len(self._due) <= batch:
            number = len(self._due)
            ends = not self._drops and (number + 1) % self._steps_per_epoch == 0
            due = ends or number - self._last >= self.batches(number)
            self._last = number if due else self._last
            self._due.append(due)
        return self._due[batch]

    def starts(self, batch: int) -> bool:
        """Return whether a batch's gradients are the first of a step."""
        return batch % self._steps_per_epoch == 0 or self.due(batch - 1)


def _accumulation(recipe: RecipeSpec, steps_per_epoch: int) -> Callable[[int], int]:
    if recipe.nominal_batch is None:
        return lambda batch: 1
    if plan := batch_plan(recipe, steps_per_epoch):
        return lambda batch: plan.at(batch).accumulate
    always = max(1, round(recipe.nominal_batch / recipe.batch_size))
    return lambda batch: always
