"""Contract of attention modules: the rules on which the other layers rely.

A module class may name parameters whose gradient is zero by its mathematics (a bias that a softmax
cancels) in a class attribute `zero_gradients`; every other parameter must get a gradient.
"""

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ema_lab.attention import build_attention
from ema_lab.contract import module as common
from ema_lab.contract.check import Check, NotApplicableError, RuleError, largest_difference, require
from ema_lab.contract.option import effect_of, options_are_explained
from ema_lab.models.initialisation import refuse_lazy
from ema_lab.models.insertion import insert
from ema_lab.profiling.measure import measure_cost
from ema_lab.registry.catalogue import ATTENTIONS
from ema_lab.registry.channels import CHANNELS_AS
from ema_lab.registry.signature import Option, source_file, split_target
from ema_lab.wording import number_of

SIZES = ((1, 1), (1, 6), (5, 1), (7, 7), (8, 13))
COST_SIZE = 56


@dataclass(frozen=True)
class AttentionCase:
    """Attention module under check.

    Attributes:
        target: A registered name or "package.module:Name".
        channels: Number of channels.
        options: Options of the module.
    """

    target: str
    channels: int = 64
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return source_file(split_target(ATTENTIONS[self.target].target)[0])

    @property
    def definition(self) -> str:
        return ATTENTIONS.signature(self.target).short_location

    def open_options(self) -> dict[str, Option]:
        """Return the options of the module without the parameter for the channels."""
        return ATTENTIONS.options(self.target, self.options.get(CHANNELS_AS))

    def fresh(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        module = build_attention(self.target, self.channels, **self.options)
        refuse_lazy(module)
        return module

    def ready(self) -> nn.Module:
        module = self.fresh().eval()
        with torch.no_grad():
            for parameter in module.parameters():
                fan_in = parameter.numel() / parameter.shape[0] if parameter.dim() else 1
                parameter.add_(torch.randn_like(parameter), alpha=0.2 / fan_in**0.5)
        return module

    def images(self, count: int = 3, size: tuple[int, int] = (6, 5)) -> Tensor:
        return torch.randn(count, self.channels, *size, generator=torch.Generator().manual_seed(1))

    def require_close(self, actual: Tensor, expected: Tensor) -> str:
        return largest_difference(actual, expected, rtol=1.3e-6, atol=1e-5)


def _keeps_shape_and_type(case: AttentionCase) -> str:
    for training in (True, False):
        for size in SIZES:
            x = case.images(2, size)
            output = case.ready().train(training)(x)
            where = f"in {'training' if training else 'evaluation'} on {tuple(x.shape)}"
            require(isinstance(output, Tensor), f"returns a {type(output).__name__} {where}")
            require(output.shape == x.shape, f"returns {tuple(output.shape)} {where}")
            require(output.dtype == x.dtype, f"returns {output.dtype} {where} of {x.dtype}")
            require(output.isfinite().all(), f"returns values that are not finite {where}")
    return f"{len(SIZES)} sizes from 1x1 to 8x13"


def _takes_a_lone_value_or_refuses_it(case: AttentionCase) -> str:
    """Check one pixel of one image, which has no variance.

    Batch normalisation may refuse the pixel in training, with a message of one line.
    """
    module, x = case.ready(), case.images(1, (1, 1))
    require(module(x).isfinite().all(), "one pixel of one image is not finite in evaluation")
    try:
        output = module.train()(x)
    except ValueError as error:
        normalises = any(isinstance(part, _BatchNorm) for part in module.modules())
        require(normalises, f"refuses one pixel of one image, without a batch normalisation: {error}")
        require("\n" not in str(error), "refuses one pixel of one image in more than one line")
        return f"refused in training: {error}"
    require(output.isfinite().all(), "one pixel of one image is not finite in training")
    return ""


def _gives_gradients(case: AttentionCase) -> str:
    module = case.ready()
    excused = set(getattr(module, "zero_gradients", ()))
    gradients = common.gradients(module, case.images())
    if zero := sorted(name for name, value in gradients.items() if not value.any() and name not in excused):
        raise RuleError(f"the gradient of {common.listed(zero)} is zero everywhere")
    return common.frozen(module)


def _computes_in_float64(case: AttentionCase) -> str:
    module, x = case.ready(), case.images()
    single = module(x)
    double = module.double()(x.double())
    require(double.dtype == torch.float64, f"returns {double.dtype} for torch.float64")
    return largest_difference(single, double, rtol=1e-4, atol=1e-5)


def _computes_under_autocast(case: AttentionCase) -> str:
    """Check results under bfloat16 autocast.

    The output may be bfloat16, because a last layer under autocast returns bfloat16.
    """
    module, x = case.ready(), case.images()
    exact, detail = module(x), ""
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = module(x.to(dtype))
        allowed = (dtype, torch.bfloat16)
        require(output.dtype in allowed, f"returns {output.dtype} for {dtype} under bfloat16 autocast")
        detail = largest_difference(output, exact, rtol=0.1, atol=0.1)
    return detail


def _trains_under_autocast(case: AttentionCase) -> str:
    common.gradients(case.ready().train(), case.images().bfloat16(), autocast=True)
    return ""


def _takes_channels_last(case: AttentionCase) -> str:
    module, x = case.ready(), case.images()
    expected = module(x)
    last = module.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    return case.require_close(last, expected)


def _compiles_into_one_graph(case: AttentionCase) -> str:
    module, x = case.ready(), case.images()
    with _fresh_compiler():
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
        return case.require_close(compiled(x), module(x))


@contextmanager
def _fresh_compiler() -> Iterator[None]:
    """Reset torch's compiler around a block, and print no log: torch logs a failure as a long traceback."""
    before = logging.root.manager.disable
    torch.compiler.reset()
    logging.disable(max(before, logging.ERROR))
    try:
        yield
    finally:
        logging.disable(before)
        torch.compiler.reset()


class _Host(nn.Module):
    """Network of one layer, after which attention can be inserted."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.norm(x)
        return normalised + 1


def _is_compiled_as_the_second_variant(case: AttentionCase) -> str:
    """Check that code compiled for a model without attention is not reused for one with attention.

    Which code is reused is decided before a backend sees it, so the cheapest one will do.
    """
    plain, x = _Host(case.channels).eval(), case.images()
    inserted = copy.deepcopy(plain)
    insert(inserted, "norm", case.ready())
    with _fresh_compiler():
        for host in (plain, inserted):
            detail = case.require_close(torch.compile(host, backend="eager")(x), host(x))
    return detail


def _builds_without_weights(case: AttentionCase) -> str:
    with torch.device("meta"):
        module = build_attention(case.target, case.channels, **case.options)
        shape = (2, case.channels, 4, 4)
        output = module(torch.empty(shape))
    require(output.shape == shape, f"returns {tuple(output.shape)} for {shape} on the meta device")
    real = [name for name, value in module.state_dict().items() if not value.is_meta]
    require(not real, f"{common.listed(real)} is not on the device that it was built on")
    return ""


def _cost_is_counted(case: AttentionCase) -> str:
    cost = measure_cost(case.ready(), image_size=COST_SIZE, channels=case.channels)
    parameters, macs = number_of(cost["parameters"], "parameter"), number_of(cost["macs"], "MAC")
    counts = f"{parameters}, {macs} at {COST_SIZE}x{COST_SIZE}"
    uncounted = ", ".join(name.removeprefix("aten::") for name in cost["uncounted"])
    return f"{counts}; no rule counts {uncounted}" if uncounted else counts


def _options_say_what_they_are(case: AttentionCase) -> str:
    return options_are_explained(case.open_options())


def _options_have_an_effect(case: AttentionCase) -> str:
    """Check that each option changes parameters, output or gradients, or refuses other values."""
    options = case.open_options()
    if not options:
        raise NotApplicableError("no options")
    effects, unknown = [], []
    for option in options.values():
        try:
            effects.append(_effect(case, option))
        except NotApplicableError:
            unknown.append(option.name)
    skipped = f"no other value is known to try: {', '.join(unknown)}" if unknown else ""
    if not effects:
        raise NotApplicableError(skipped)
    return "; ".join(filter(None, [*effects, skipped]))


def _effect(case: AttentionCase, option: Option) -> str:
    """Change one option of the case; without an effect, change the option of a module with defaults."""
    try:
        return _effect_beside(case, option)
    except RuleError:
        if not case.options:
            raise
        alone = {key: value for key, value in case.options.items() if key == CHANNELS_AS}
        return f"{_effect_beside(replace(case, options=alone), option)} with the others at their default"


def _effect_beside(case: AttentionCase, option: Option) -> str:
    base = _traits(case)

    def changes(value: object) -> bool:
        return not _are_close(base, _traits(replace(case, options={**case.options, option.name: value})))

    return effect_of(option, case.options.get(option.name, option.default), changes)


def _traits(case: AttentionCase) -> list[Tensor]:
    """Return all that an option may change: output and gradients of a fixed computation."""
    module = case.fresh()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    x = case.images(2, (6, 6)).requires_grad_()
    output = module(x)
    output.square().sum().backward()
    values = [output, x.grad, *(parameter.grad for parameter in module.parameters())]
    return [torch.zeros(0) if value is None else value.detach() for value in values]


def _are_close(first: list[Tensor], second: list[Tensor]) -> bool:
    if [value.shape for value in first] != [value.shape for value in second]:
        return False
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(first, second, strict=True))


CHECKS: tuple[Check[AttentionCase], ...] = (
    Check("is built", common.is_built, essential=True),
    Check("keeps shape and type", _keeps_shape_and_type),
    Check("takes a lone value or refuses it", _takes_a_lone_value_or_refuses_it),
    Check("treats images of a batch apart", common.treats_images_apart),
    Check("gives gradients", _gives_gradients),
    *common.USE,
    *common.COPIES,
    Check("computes in float64", _computes_in_float64),
    Check("computes under autocast", _computes_under_autocast),
    Check("trains under autocast", _trains_under_autocast),
    Check("takes channels_last", _takes_channels_last),
    Check("compiles into one graph", _compiles_into_one_graph),
    Check("is compiled as the second variant", _is_compiled_as_the_second_variant),
    Check("builds without weights", _builds_without_weights),
    Check("cost is counted", _cost_is_counted),
    Check("options are explained", _options_say_what_they_are),
    Check("options have an effect", _options_have_an_effect),
)
