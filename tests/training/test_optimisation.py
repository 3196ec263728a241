import pytest
import torch

from ema_lab.specs.recipe import AdamWSpec, ConstantSpec, CosineSpec, MultistepSpec, SgdSpec
from ema_lab.training.optimisation import build_optimizer, lr_factor


def factors(schedule, epochs=4, steps=5, floor=0.0):
    return [lr_factor(schedule, step, steps, epochs, floor) for step in range(epochs * steps)]


def test_multistep_multiplies_at_the_start_of_each_milestone_epoch():
    found = factors(MultistepSpec(name="multistep", milestones=[2, 3], gamma=0.2))
    assert found == pytest.approx([1.0] * 10 + [0.2] * 5 + [0.04] * 5)


def test_cosine_falls_from_one_towards_its_floor():
    found = factors(CosineSpec(name="cosine"), floor=0.1)
    assert found[0] == 1
    assert found[10] == pytest.approx(0.55)
    assert found == sorted(found, reverse=True)
    assert 0.1 < found[-1] < 0.12


@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_warm_up_rises_linearly_to_one(name):
    schedule = {"constant": ConstantSpec, "cosine": CosineSpec}[name](name=name, warmup_epochs=1)
    assert factors(schedule)[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def group_of(spec):
    """Return the only parameter group of the optimiser that is built from a spec."""
    [group] = build_optimizer(spec, [torch.nn.Parameter(torch.zeros(2))]).param_groups
    return group


def test_adamw_is_built_as_the_recipe_says():
    spec = AdamWSpec(name="adamw", lr=0.003, weight_decay=0.07, beta1=0.8, beta2=0.95)
    group = group_of(spec)
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.003, 0.07, (0.8, 0.95))
    assert (group["eps"], group["amsgrad"]) == (1e-8, False)


def test_sgd_is_built_as_the_recipe_says():
    spec = SgdSpec(name="sgd", lr=0.03, momentum=0.7, weight_decay=0.002, nesterov=True)
    group = group_of(spec)
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.03, 0.7, 0.002)
    assert (group["nesterov"], group["dampening"]) == (True, 0)
    assert not group_of(spec.model_copy(update={"nesterov": False}))["nesterov"]
