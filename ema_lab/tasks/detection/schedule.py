"""Learning rates, momentum and accumulation of every batch, as YOLOv5 v6.0 sets them.

Two things of the reference are accidents, and switches here: an epoch after the one in which warm-up ends
runs with the factor of the epoch before (`lag`), and warm-up lasts at least a thousand batches however short
the run is (`least_warm_up`).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

NOMINAL_BATCH = 64  # images per optimizer step that gradients are accumulated to


@dataclass(frozen=True)
class BatchPlan:
    """What holds for one batch: rates of weights and of biases, momentum, batches per optimizer step."""

    lr: float
    bias_lr: float
    momentum: float
    accumulate: int


@dataclass(frozen=True)
class DetectionSchedule:
    """The plan of a run.

    Attributes:
        epochs: Of the run.
        batches: Of an epoch.
        batch_size: Images of a batch.
        lr: The peak rate.
        final: Share of the peak at the end.
        curve: How the rate falls from one to the other.
        momentum: After warm-up.
        warm_up_epochs: In which rates and momentum are interpolated.
        warm_up_momentum: At the first batch.
        warm_up_bias_lr: Of biases at the first batch; other rates start at 0.
        nominal_batch: Images per optimizer step.
        lag: Whether epochs after that in which warm-up ends take the factor of the epoch before.
        least_warm_up: Batches that warm-up lasts at least.
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
        """Return the share of the peak rate that an epoch is meant to have."""
        if self.curve == "cosine":
            return (1 - math.cos(epoch * math.pi / self.epochs)) / 2 * (self.final - 1) + 1
        return (1 - epoch / (self.epochs - 1)) * (1 - self.final) + self.final if self.epochs > 1 else 1.0

    def at(self, batch: int) -> BatchPlan:
        """Return what holds for a batch, counted from 0 over the whole run."""
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
    """Return the weight average's decay at an optimizer step, counted from 1: it grows to `decay`."""
    return decay * (1 - math.exp(-step / ramp))
