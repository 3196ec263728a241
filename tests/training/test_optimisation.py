import pytest

from ema_lab.specs.recipe import ConstantSpec, CosineSpec, MultistepSpec
from ema_lab.training.optimisation import lr_factor


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
