"""Optimizers and learning-rate schedules of a recipe."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from torch import nn

from ema_lab.models.start import rate_factors
from ema_lab.specs.recipe import (
    AdamWSpec,
    ConstantSpec,
    CosineSpec,
    MultistepSpec,
    Optimizer,
    RecipeSpec,
    YoloSchedule,
)
from ema_lab.training.plan import batch_plan

BIASES = "biases"  # marks a group whose rate warms up on its own
PlainSchedule = ConstantSpec | MultistepSpec | CosineSpec
Parameters = Iterable[nn.Parameter] | list[dict[str, Any]]


def parameter_groups(model: nn.Module, decays: Literal["all", "matrices", "yolov5"]) -> Parameters:
    """Return the parameters that are trained, in groups if weight decay does not apply to all of them.

    `yolov5` makes the groups of YOLOv5 v6.0: weights of batch norms, other parameters called `weight` (the
    only ones that decay), those called `bias`. What is called otherwise is in none, and never trained.
    """
    if decays == "all":
        return model.parameters()
    groups: list[dict[str, Any]]
    if decays == "matrices":
        every = list(model.named_parameters())
        biases = [value for name, value in every if value.ndim <= 1 and name.rpartition(".")[2] == "bias"]
        known = {id(value) for value in biases}
        scales = [value for _, value in every if value.ndim <= 1 and id(value) not in known]
        matrices = [value for _, value in every if value.ndim > 1]
        groups = [{"params": matrices}, {"params": scales, "weight_decay": 0.0}]
    else:
        norms, weights, biases = (list(found) for found in _yolov5_groups(model))
        groups = [{"params": norms, "weight_decay": 0.0}, {"params": weights}]
    return [*groups, {"params": biases, "weight_decay": 0.0, BIASES: True}]


def trained_groups(model: nn.Module, recipe: RecipeSpec) -> Parameters:
    """Return a recipe's parameter groups, split where patterns give parameters a rate of their own."""
    groups = parameter_groups(model, recipe.decays)
    if not recipe.lr_factors:
        return groups
    names = {id(value): name for name, value in model.named_parameters()}
    factors = rate_factors(model, recipe.lr_factors)
    split: list[dict[str, Any]] = []
    for group in groups if isinstance(groups, list) else [{"params": groups}]:
        by_factor: dict[float, list[nn.Parameter]] = {}
        for value in group["params"]:
            by_factor.setdefault(factors.get(names[id(value)], 1.0), []).append(value)
        split += [
            {**group, "params": values, "lr": recipe.optimizer.lr * factor}
            for factor, values in by_factor.items()
        ]
    return split


def _yolov5_groups(model: nn.Module) -> tuple[Iterator[nn.Parameter], ...]:
    modules = list(model.modules())

    def own(name: str, norms: bool | None) -> Iterator[nn.Parameter]:
        for module in modules:
            value = module._parameters.get(name)
            if value is not None and norms in (None, isinstance(module, nn.BatchNorm2d)):
                yield value

    return own("weight", norms=True), own("weight", norms=False), own("bias", norms=None)


def untrained_parameters(model: nn.Module, decays: Literal["all", "matrices", "yolov5"]) -> list[str]:
    """Return the names of parameters that are in no group."""
    if decays != "yolov5":
        return []
    return [name for name, _ in model.named_parameters() if name.rpartition(".")[2] not in ("weight", "bias")]


def build_optimizer(spec: Optimizer, parameters: Parameters) -> torch.optim.Optimizer:
    """Build the optimizer; weight decay applies where no parameter group says otherwise."""
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
    """Build the learning-rate schedule, which is stepped after every batch."""
    if plan := batch_plan(recipe, steps_per_epoch):
        weights, biases = (
            lambda batch: plan.at(batch).lr / plan.lr,
            lambda batch: plan.at(batch).bias_lr / plan.lr,
        )
        factors = [biases if group.get(BIASES) else weights for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
    schedule, peak = recipe.schedule, recipe.optimizer.lr
    assert not isinstance(schedule, YoloSchedule)
    floor = schedule.min_lr / peak if isinstance(schedule, CosineSpec) else 0.0
    first = None if schedule.warmup_from is None else schedule.warmup_from / peak

    def factor(step: int) -> float:
        return lr_factor(schedule, step, steps_per_epoch, recipe.epochs, floor, first)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def lr_factor(
    schedule: PlainSchedule,
    step: int,
    steps_per_epoch: int,
    epochs: int,
    floor: float = 0.0,
    first: float | None = None,
) -> float:
    """Return the learning rate of a step (from 0) as a fraction of the recipe's learning rate.

    Warm-up rises linearly and reaches 1 at its last step. With `first` it begins there and reaches 1 one step
    later. The cosine (arXiv:1608.03983, without restarts) starts after warm-up, or at the first step if it
    spans all epochs. It would reach `floor` one step after the last.
    """
    if schedule.per == "epoch":
        step, steps_per_epoch = step // steps_per_epoch, 1
    warmup_steps = schedule.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return (step + 1) / warmup_steps if first is None else first + (1 - first) * step / warmup_steps
    if isinstance(schedule, MultistepSpec):
        passed = sum(step >= milestone * steps_per_epoch for milestone in schedule.milestones)
        return schedule.gamma**passed
    if isinstance(schedule, CosineSpec):
        before = warmup_steps if schedule.span == "rest" else 0
        after = max(1, epochs * steps_per_epoch - before)  # a single epoch may be all warm-up
        progress = min(1.0, (step - before) / after)
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2
    return 1.0
