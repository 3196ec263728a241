"""Schedules, averages of weights and groups of weight decay are those of timm, step for step."""

import warnings

import pytest
import torch
from pydantic import ValidationError
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of timm's optional parts, at its import
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
    from timm.utils import ModelEmaV2

from ema_lab.models.cifar_resnet import cifar_resnet
from ema_lab.specs.recipe import AverageSpec, RecipeSpec
from ema_lab.training.average import WeightAverage
from ema_lab.training.optimisation import build_optimizer, build_schedule, parameter_groups

EPOCHS, STEPS, PEAK = 12, 7, 0.4
WARMUP = {"warmup_epochs": 5, "warmup_from": 1e-5}


def recipe_of(**fields) -> RecipeSpec:
    tree = {"epochs": EPOCHS, "batch_size": 2, "optimizer": {"name": "sgd", "lr": PEAK}}
    return RecipeSpec.model_validate(tree | fields)


def our_rates(**schedule) -> list[float]:
    recipe = recipe_of(schedule=schedule)
    optimizer = build_optimizer(recipe.optimizer, [nn.Parameter(torch.zeros(1))])
    scheduler = build_schedule(recipe, optimizer, STEPS)
    rates = []
    for _ in range(EPOCHS * STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def timms_rates(kind, *, per: str, **options) -> list[float]:
    """Return the rate of every step of timm's training loop."""
    unit = 1 if per == "epoch" else STEPS
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
    for key in ("t_initial", "warmup_t"):
        options |= {key: options[key] * unit} if key in options else {}
    scheduler = kind(optimizer, warmup_lr_init=1e-5, t_in_epochs=per == "epoch", **options)
    rates = []
    for epoch in range(EPOCHS):
        for step in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            scheduler.step_update(epoch * STEPS + step + 1)
        scheduler.step(epoch + 1)
    return rates


@pytest.mark.parametrize("per", ["epoch", "batch"])
def test_the_cosine_over_all_epochs_is_timms(per):
    expected = timms_rates(CosineLRScheduler, per=per, t_initial=EPOCHS, warmup_t=5)
    assert our_rates(name="cosine", per=per, span="all", **WARMUP) == pytest.approx(expected, rel=1e-12)
    assert expected[0] == 1e-5
    assert max(expected) < PEAK  # at the end of the warm-up the cosine has fallen


@pytest.mark.parametrize("per", ["epoch", "batch"])
def test_the_cosine_after_the_warm_up_is_timms_with_a_prefix(per):
    rest = EPOCHS - 5
    expected = timms_rates(CosineLRScheduler, per=per, t_initial=rest, warmup_t=5, warmup_prefix=True)
    assert our_rates(name="cosine", per=per, **WARMUP) == pytest.approx(expected, rel=1e-12)
    assert max(expected) == PEAK


def test_milestones_are_timms_one_epoch_earlier():
    """timm's milestone is the epoch before whose end the rate falls."""
    falls = {"decay_t": [7, 9], "decay_rate": 0.1, "warmup_prefix": False}
    expected = timms_rates(MultiStepLRScheduler, per="epoch", warmup_t=5, **falls)
    ours = our_rates(name="multistep", milestones=[6, 8], gamma=0.1, per="epoch", **WARMUP)
    assert ours == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ({"name": "cosine", "warmup_from": 0.1}, "changes nothing without warmup_epochs"),
        ({"name": "cosine", "span": "all"}, "changes nothing without warmup_epochs"),
        ({"name": "constant", "per": "epoch"}, "changes nothing without warmup_epochs"),
        ({"name": "cosine", "warmup_epochs": 1, "warmup_from": 0.4}, "must be below the peak rate 0.4"),
    ],
)
def test_a_schedules_key_that_changes_nothing_is_refused(schedule, words):
    with pytest.raises(ValidationError, match=words):
        recipe_of(schedule=schedule)


def test_an_average_without_a_ramp_is_timms_step_for_step():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    ours, theirs = WeightAverage(model, AverageSpec(decay=0.9, ramp=0)), ModelEmaV2(model, decay=0.9)
    for step in range(4):
        with torch.no_grad():
            for value in model.parameters():
                value += step + 1
            model(torch.rand(2, 1, 5, 5))
        ours.update(model)
        theirs.update(model)
        for (name, value), expected in zip(
            ours.module.state_dict().items(), theirs.module.state_dict().values(), strict=True
        ):
            if value.is_floating_point():
                torch.testing.assert_close(value, expected, msg=name)


def test_sgd_without_decay_on_norms_and_biases_is_timms():
    """timm's `sgd` is Nesterov's."""
    model = cifar_resnet(10, 3, 8).module
    theirs = create_optimizer_v2(model, opt="sgd", lr=PEAK, weight_decay=1e-5, momentum=0.9)
    form = {"name": "sgd", "lr": PEAK, "momentum": 0.9, "weight_decay": 1e-5, "nesterov": True}
    recipe = recipe_of(optimizer=form, decays="matrices")
    ours = build_optimizer(recipe.optimizer, parameter_groups(model, "matrices"))

    def settings(optimizer):
        keys = ("lr", "momentum", "dampening", "weight_decay", "nesterov")
        return {
            id(value): [group[key] for key in keys]
            for group in optimizer.param_groups
            for value in group["params"]
        }

    assert settings(ours) == settings(theirs)
