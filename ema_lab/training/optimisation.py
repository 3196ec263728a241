"""Optimizers and learning-rate schedules of a recipe."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from ema_lab.specs.recipe import AdamWSpec, CosineSpec, MultistepSpec, Optimizer, RecipeSpec, Schedule


def build_optimizer(spec: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Build the optimizer (SGD or AdamW, arXiv:1711.05101); weight decay applies to every parameter."""
    if isinstance(spec, AdamWSpec):
        return torch.optim.AdamW(
            parameters,
            lr=spec.lr,
            betas=(spec.beta1, spec.beta2),
            weight_decay=spec.weight_decay,
            fused=True,
        )
    return torch.optim.SGD(
        parameters,
        lr=spec.lr,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        nesterov=spec.nesterov,
        fused=True,
    )


def build_schedule(
    recipe: RecipeSpec, optimizer: torch.optim.Optimizer, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Build the learning-rate schedule, which is stepped after every optimizer step."""
    floor = recipe.schedule.min_lr / recipe.optimizer.lr if isinstance(recipe.schedule, CosineSpec) else 0.0

    def factor(step: int) -> float:
        return lr_factor(recipe.schedule, step, steps_per_epoch, recipe.epochs, floor)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def lr_factor(schedule: Schedule, step: int, steps_per_epoch: int, epochs: int, floor: float = 0.0) -> float:
    """Return the learning rate of a step (from 0) as a fraction of the recipe's learning rate.

    Warm-up rises linearly and reaches 1 at its last step. The cosine (arXiv:1608.03983, without restarts)
    starts after warm-up and would reach `floor` one step after the last.
    """
    warmup_steps = schedule.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if isinstance(schedule, MultistepSpec):
        passed = sum(step >= milestone * steps_per_epoch for milestone in schedule.milestones)
        return schedule.gamma**passed
    if isinstance(schedule, CosineSpec):
        after = max(1, epochs * steps_per_epoch - warmup_steps)  # a single epoch may be all warm-up
        progress = min(1.0, (step - warmup_steps) / after)
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2
    return 1.0
