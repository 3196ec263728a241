"""Rules of every network: attention modules and whole backbones."""

import copy
import io
import pickle
import random
from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ema_lab.contract.check import Check, RuleError, Subject, require
from ema_lab.wording import number_of


class ModuleCase(Subject, Protocol):
    """Network under check, with its inputs and tolerances."""

    def fresh(self, seed: int = 0) -> nn.Module:
        """Build the network with the initial weights of a seed."""

    def ready(self) -> nn.Module:
        """Build the network in evaluation mode, with weights moved off special initial values such as 0."""

    def images(self, count: int = 3) -> Tensor:
        """Return the same random input (count, C, H, W) every time."""

    def require_close(self, actual: Tensor, expected: Tensor) -> str:
        """Check that two outputs agree up to rounding; return the largest difference."""


def is_built(case: ModuleCase) -> str:
    """Check that the constructor returns an nn.Module."""
    module: object = case.fresh()
    require(isinstance(module, nn.Module), f"is a {type(module).__name__}, not an nn.Module")
    assert isinstance(module, nn.Module)
    return number_of(sum(parameter.numel() for parameter in module.parameters()), "parameter")


def treats_images_apart(case: ModuleCase) -> str:
    """Check in evaluation that the output of an image does not depend on the rest of its batch."""
    module, x = case.ready(), case.images()
    try:
        return case.require_close(module(x)[1:2], module(x[1:2]))
    except RuleError as error:
        raise RuleError(f"in evaluation the output of an image depends on the others: {error}") from None


def leaves_its_input_alone(case: ModuleCase) -> str:
    """Check that no input changes in place, because a residual connection may still need the input."""
    for training in (True, False):
        x = case.images()
        before = x.clone()
        case.ready().train(training)(x)
        require(torch.equal(x, before), f"changes its input in place in {_mode(training)}")
    return ""


def draws_no_random_numbers(case: ModuleCase) -> str:
    """Check that only torch's random state is used, and only in training.

    A run seeds torch before each training step. It seeds neither Python nor NumPy, and nothing in evaluation.
    """
    drawn = {training: _drawn(case.ready().train(training), case.images()) for training in (True, False)}
    for training, names in drawn.items():
        if foreign := sorted(names - {"torch"}):
            raise RuleError(
                f"draws from {foreign[0]}'s random state, which no run seeds, in {_mode(training)}"
            )
    require(not drawn[False], "draws random numbers in evaluation")
    return "draws from torch's random state in training, which each step seeds" if drawn[True] else ""


def _drawn(module: nn.Module, x: Tensor) -> set[str]:
    """Return the names of the random states that a forward pass changes."""

    def states() -> dict[str, bytes]:
        numpy_state = pickle.dumps(np.random.get_state())  # noqa: NPY002 - the state that must not change
        return {
            "torch": torch.get_rng_state().numpy().tobytes(),
            "Python": pickle.dumps(random.getstate()),
            "NumPy": numpy_state,
        }

    before = states()
    module(x)
    return {name for name, state in states().items() if state != before[name]}


def is_repeatable(case: ModuleCase) -> str:
    """Check that evaluation depends only on the input and changes no state."""
    module, x = case.ready(), case.images()
    before = _state(module)
    first = module(x).clone()
    require(torch.equal(module(x), first), "the same input gives another output the second time")
    if changed := _differing(_state(module), before):
        raise RuleError(f"evaluation changes {changed}")
    return ""


def starts_from_its_seed(case: ModuleCase) -> str:
    """Check that one seed always gives the same initial weights, so that a run can be repeated."""
    first, again = _state(case.fresh(3)), _state(case.fresh(3))
    require(first.keys() == again.keys(), "the state dict has other keys every time")
    if changed := _differing(again, first):
        raise RuleError(f"one seed gives different initial values of {changed}")
    return ""


def survives_a_deep_copy(case: ModuleCase) -> str:
    """Check that a deep copy gives the same output: costs are counted on a copy."""
    module, x = case.ready(), case.images()
    require(torch.equal(copy.deepcopy(module)(x), module(x)), "a deep copy gives another output")
    return ""


def survives_pickling(case: ModuleCase) -> str:
    """Check that pickling keeps the output: models are passed to other processes."""
    module, x = case.ready(), case.images()
    again = pickle.loads(pickle.dumps(module))
    require(torch.equal(again(x), module(x)), "gives another output after pickling")
    return ""


def survives_a_state_file(case: ModuleCase) -> str:
    """Check that the state dict holds all state that decides the output."""
    module, x = case.ready(), case.images()
    module.train()(x)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = case.fresh(seed=1)
    other.load_state_dict(torch.load(file, weights_only=True))
    rule = "something that decides the output is not in the state dict (make it a parameter or a buffer)"
    require(torch.equal(other.eval()(x), module.eval()(x)), rule)
    return ""


def gradients(module: nn.Module, x: Tensor, *, autocast: bool = False) -> dict[str, Tensor]:
    """Return the gradients of the input and of every trained parameter.

    Args:
        module: The network, in training or evaluation mode.
        x: The input.
        autocast: Whether to run the forward pass under bfloat16 autocast.

    Raises:
        RuleError: If a gradient is missing or not finite.
    """
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        output = module(x)
    output.float().square().sum().backward()
    trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
    gradient_of = {name: value.grad for name, value in trained.items()} | {"input": x.grad}
    if absent := [name for name, gradient in gradient_of.items() if gradient is None]:
        raise RuleError(f"no gradient reaches {listed(absent)}")
    present = {name: gradient for name, gradient in gradient_of.items() if gradient is not None}
    if wild := [name for name, gradient in present.items() if not gradient.isfinite().all()]:
        raise RuleError(f"the gradient of {listed(wild)} is not finite")
    return present


def frozen(module: nn.Module) -> str:
    """Return a text such as "2 frozen parameters"; empty if every parameter is trained."""
    count = sum(not parameter.requires_grad for parameter in module.parameters())
    return number_of(count, "frozen parameter") if count else ""


def listed(names: list[str]) -> str:
    """Return the first three names and the number of the others."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _state(module: nn.Module) -> dict[str, Tensor]:
    values = module.state_dict().items()
    return {name: value.clone() for name, value in values if isinstance(value, Tensor)}


def _differing(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    return listed([name for name, value in actual.items() if not torch.equal(value, expected[name])])


def _mode(training: bool) -> str:
    return "training" if training else "evaluation"


USE: tuple[Check[ModuleCase], ...] = (
    Check("leaves its input alone", leaves_its_input_alone),
    Check("draws no random numbers", draws_no_random_numbers),
    Check("is repeatable", is_repeatable),
    Check("starts from its seed", starts_from_its_seed),
)
COPIES: tuple[Check[ModuleCase], ...] = (
    Check("survives a deep copy", survives_a_deep_copy),
    Check("survives pickling", survives_pickling),
    Check("survives a state file", survives_a_state_file),
)
