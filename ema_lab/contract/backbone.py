"""Contract of backbones: the rules on which placement, insertion and training rely."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ema_lab.contract import module as common
from ema_lab.contract.check import Check, NotApplicableError, RuleError, largest_difference, require
from ema_lab.contract.option import options_are_explained
from ema_lab.models.build import build_model, named_backbone, sites_of
from ema_lab.profiling.measure import measure_cost
from ema_lab.registry.catalogue import BACKBONES
from ema_lab.registry.signature import source_file, split_target
from ema_lab.specs.run import RunSpec
from ema_lab.wording import number_of

BLOCK_END = "block_end"
WITH_WEIGHTS = "eca"  # an attention module that has weights and fits any width
RECIPE = {"epochs": 1, "batch_size": 2, "optimizer": {"name": "sgd", "lr": 0.1}}


@dataclass(frozen=True)
class BackboneCase:
    """Backbone under check.

    Attributes:
        target: A registered name or "package.module:build".
        image_size: Height and width of the images.
        in_channels: Channels of the images.
        classes: Number of classes.
        options: Options of the backbone.
    """

    target: str
    image_size: int = 32
    in_channels: int = 3
    classes: int = 10
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return source_file(split_target(BACKBONES[self.target].target)[0])

    @property
    def definition(self) -> str:
        return BACKBONES.signature(self.target).short_location

    def spec(self, attention: str = "none", after: str = BLOCK_END, seed: int = 0) -> RunSpec:
        data = {"channels": self.in_channels, "image_size": self.image_size, "classes": self.classes}
        placement = {} if attention == "none" else {"placement": {"after": after}}
        model = {"backbone": self.target, **self.options, "attention": attention, **placement}
        tree = {"model": model, "data": {"name": "synthetic", **data}, "recipe": RECIPE, "seed": seed}
        return RunSpec.model_validate(tree)

    def fresh(self, seed: int = 0) -> nn.Module:
        return build_model(self.spec(seed=seed))

    def ready(self) -> nn.Module:
        return self.fresh().eval()

    def images(self, count: int = 3) -> Tensor:
        shape = (count, self.in_channels, self.image_size, self.image_size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(1))

    def require_close(self, actual: Tensor, expected: Tensor) -> str:
        """Compare on the scale of the largest output, which is arbitrary in an untrained deep network."""
        scale = expected.detach().abs().max().clamp_min(1e-30)
        return largest_difference(actual / scale, expected / scale, rtol=0, atol=1e-4)

    def places(self) -> list[str]:
        """Return the named places of the backbone.

        Raises:
            NotApplicableError: If the backbone names no place.
        """
        sizes = (self.classes, self.in_channels)
        backbone = named_backbone(self.target, *sizes, options=self.options, device="meta")
        if not backbone.places:
            reason = backbone.note or "a placement must give patterns of submodules"
            raise NotApplicableError(f"names no place; {reason}")
        return list(backbone.places)


def _returns_one_score_per_class(case: BackboneCase) -> str:
    for training in (True, False):
        output = case.fresh().train(training)(case.images())
        where = f"in {'training' if training else 'evaluation'} on {tuple(case.images().shape)}"
        other = "a classifier returns one tensor; a detector is checked with --kind detector"
        require(isinstance(output, Tensor), f"returns a {type(output).__name__} {where}: {other}")
        wanted = (3, case.classes)
        require(output.shape == wanted, f"returns {tuple(output.shape)}, not {wanted}, {where}")
        require(output.dtype == torch.float32, f"returns {output.dtype} {where}")
        require(output.isfinite().all(), f"returns values that are not finite {where}")
    return f"(3, {case.in_channels}, {case.image_size}, {case.image_size}) -> (3, {case.classes})"


def _builds_without_weights(case: BackboneCase) -> str:
    model = build_model(case.spec(), device="meta").eval()
    output = model(torch.empty(case.images(2).shape, device="meta"))
    require(output.shape == (2, case.classes), f"returns {tuple(output.shape)} on the meta device")
    real = [name for name, value in model.state_dict().items() if not value.is_meta]
    require(not real, f"{common.listed(real)} is not on the device that it was built on")
    return ""


def _gives_gradients(case: BackboneCase) -> str:
    module = case.fresh().train()
    common.gradients(module, case.images())
    return common.frozen(module)


def _is_paired_with_and_without_attention(case: BackboneCase) -> str:
    """Check that insertion renames no weight, and that shared weights start bit-equal."""
    if BLOCK_END not in case.places():
        raise NotApplicableError(f"names no place {BLOCK_END!r}")
    plain = case.fresh().state_dict()
    inserted = build_model(case.spec(WITH_WEIGHTS)).state_dict()
    if lost := [name for name in plain if name not in inserted]:
        raise RuleError(f"insertion renames {common.listed(lost)}")
    if moved := [name for name in plain if not torch.equal(plain[name], inserted[name])]:
        raise RuleError(f"{common.listed(moved)} starts from other values once attention is inserted")
    added = len(inserted) - len(plain)
    require(added > 0, f"nothing is inserted at {BLOCK_END}")
    return f"{number_of(len(plain), 'value')} shared, {added} added by {WITH_WEIGHTS}"


def _named_places_are_there(case: BackboneCase) -> str:
    counts = {name: len(sites_of(case.spec("identity", after=name))) for name in case.places()}
    empty = [name for name, count in counts.items() if not count]
    require(not empty, f"no submodule is at {common.listed(empty)}")
    return ", ".join(f"{name}: {number_of(count, 'site')}" for name, count in counts.items())


def _cost_is_counted(case: BackboneCase) -> str:
    cost = measure_cost(case.ready(), image_size=case.image_size, channels=case.in_channels)
    return f"{number_of(cost['parameters'], 'parameter')}, {number_of(cost['macs'], 'MAC')}"


def _options_say_what_they_are(case: BackboneCase) -> str:
    return options_are_explained(BACKBONES.options(case.target))


CHECKS: tuple[Check[BackboneCase], ...] = (
    Check("is built", common.is_built, essential=True),
    Check("returns one score per class", _returns_one_score_per_class),
    Check("treats images of a batch apart", common.treats_images_apart),
    Check("gives gradients", _gives_gradients),
    *common.USE,
    Check("is paired with and without attention", _is_paired_with_and_without_attention),
    Check("has its named places", _named_places_are_there),
    *common.COPIES,
    Check("builds without weights", _builds_without_weights),
    Check("cost is counted", _cost_is_counted),
    Check("options are explained", _options_say_what_they_are),
)
