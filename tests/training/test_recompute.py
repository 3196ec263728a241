"""Activation checkpointing: the same bits from fewer kept activations."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from ema_lab.errors import SpecError
from ema_lab.models.build import build_model
from ema_lab.tasks.task import load_task
from ema_lab.training.recompute import recompute_blocks
from ema_lab.training.step import Step

CASES = {
    "resnet20": {"attention": {"name": "ema", "groups": 4}, "model": {"placement": {"after": "block_end"}}},
    "mobilenet_v2": {"attention": "se", "recipe": {"dropout": 0.2, "drop_path": 0.1}},
    "yolov5n": {"attention": "ca", "task": "detection"},
}


def trained(spec, steps=2):
    """Train some steps; return the step, the bytes that its first forward pass kept, and the last loss."""
    model = build_model(spec).train()
    task = load_task(spec.data)
    step = Step(spec, model, task, 4)
    images, targets = task.made_up_batch(4)
    batch = (images.float() / 255, targets, torch.arange(4))
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        step.begin(0)
        step.loss(batch)
    weights = sum(value.numel() * value.element_size() for value in model.parameters())
    model.load_state_dict(build_model(spec).state_dict())
    losses = [step.update(batch, number).loss.item() for number in range(steps)]
    return step, sum(kept.values()) - weights, losses


@pytest.mark.parametrize("backbone", CASES)
def test_recomputing_changes_no_bit_and_keeps_less(make_spec, backbone):
    case = {**CASES[backbone]}
    model = {"backbone": backbone, **case.pop("model", {})}
    recipe = {**case.pop("recipe", {})}
    plain, kept, losses = trained(make_spec(**case, model=model, recipe=recipe))
    again, kept_again, losses_again = trained(
        make_spec(**case, model=model, recipe={**recipe, "recompute": True})
    )
    assert losses_again == losses
    expected = plain.model.state_dict()
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert kept_again < 0.6 * kept


def test_the_model_stays_a_model(make_spec):
    model = build_model(make_spec("se"))
    names, values = list(model.state_dict()), torch.randn(2, 3, 16, 16)
    plain = deepcopy(model).eval()
    recompute_blocks(model)
    assert list(model.state_dict()) == names
    copy = deepcopy(model)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
        assert torch.equal(model.eval()(values), plain(values))
        assert not torch.equal(copy.eval()(values), plain(values))


def test_a_model_without_blocks_is_refused():
    with pytest.raises(SpecError, match=r"recipe\.recompute does not fit Linear: it has no nn\.Sequential"):
        recompute_blocks(nn.Linear(2, 2))


def test_a_compiled_model_is_refused(make_spec):
    with pytest.raises(ValueError, match="recompute"):
        make_spec(recipe={"recompute": True, "compile": "default"})
