"""Contract of detectors: the rules on which placement, insertion, training and evaluation rely.

A detector is one of two things. It returns raw heads, and YOLOv5's loss trains it; or it has a loss and a
decoding of its own (`ema_lab.models.detector.OwnLossDetector`). It is built whole from (classes, channels),
or put on the stages of a backbone from (features, classes).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ema_lab.contract import module as common
from ema_lab.contract.check import Check, NotApplicableError, RuleError, largest_difference, require
from ema_lab.contract.option import options_are_explained
from ema_lab.models.build import build_backbone, build_model, sites_of
from ema_lab.models.detector import detection_problem
from ema_lab.profiling.measure import measure_cost
from ema_lab.registry.catalogue import BACKBONES, DETECTOR_HEADS
from ema_lab.registry.registry import Registry
from ema_lab.registry.signature import source_file, split_target
from ema_lab.specs.run import RunSpec
from ema_lab.tasks.task import Batch, Task, load_task
from ema_lab.wording import number_of

BLOCK_END = "block_end"
CARRIER = "shufflenet_v2_x0_5"  # the backbone below a detector that needs one
WITH_WEIGHTS = "eca"  # an attention module that has weights and fits any width
RECIPE = {"epochs": 1, "batch_size": 2, "optimizer": {"name": "sgd", "lr": 0.1}}
IMAGES = 3


@dataclass(frozen=True)
class DetectorCase:
    """Detector under check, on made-up scenes of 64 pixels and two classes.

    Attributes:
        target: A registered name or "package.module:build".
        on_backbone: Whether it is put on a backbone's stages, or is one itself.
        options: Options of the detector.
    """

    target: str
    on_backbone: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def registry(self) -> Registry:
        """The registry that builds it."""
        return DETECTOR_HEADS if self.on_backbone else BACKBONES

    @property
    def source(self) -> Path:
        return source_file(split_target(self.registry[self.target].target)[0])

    @property
    def definition(self) -> str:
        return self.registry.signature(self.target).short_location

    def spec(self, attention: str = "none", after: str = BLOCK_END, seed: int = 0) -> RunSpec:
        model: dict[str, Any] = {"backbone": self.target, **self.options}
        if self.on_backbone:
            model = {"detector": {"name": self.target, **self.options}, "backbone": CARRIER}
        placement = {} if attention == "none" else {"placement": {"after": after}}
        model |= {"attention": attention, **placement}
        tree = {"model": model, "data": {"name": "synthetic_scenes"}, "recipe": RECIPE, "seed": seed}
        return RunSpec.model_validate(tree)

    @property
    def task(self) -> Task:
        return load_task(self.spec().data)

    def detector(self, seed: int = 0) -> nn.Module:
        """Build the detector with the initial weights of a seed."""
        return build_model(self.spec(seed=seed))

    def fresh(self, seed: int = 0) -> nn.Module:
        return _Flat(self.detector(seed))

    def ready(self) -> nn.Module:
        return self.fresh().eval()

    def images(self, count: int = IMAGES) -> Tensor:
        images: Tensor = self.batch(count)[0]
        return images

    def batch(self, count: int = IMAGES) -> Batch:
        """Return made-up images from 0 to 1, one box in each, and their numbers."""
        images, targets = self.task.made_up_batch(count)
        return images / 255, targets, torch.arange(count)

    def require_close(self, actual: Tensor, expected: Tensor) -> str:
        """Compare on the scale of the largest output, which is arbitrary in an untrained deep network."""
        scale = expected.detach().abs().max().clamp_min(1e-30)
        return largest_difference(actual / scale, expected / scale, rtol=0, atol=1e-4)

    def places(self) -> list[str]:
        """Return the named places of the detector.

        Raises:
            NotApplicableError: If it names no place.
        """
        backbone = build_backbone(self.spec(), device="meta")
        if not backbone.places:
            reason = backbone.note or "a placement must give patterns of submodules"
            raise NotApplicableError(f"names no place; {reason}")
        return list(backbone.places)


class _Flat(nn.Module):
    """A detector whose outputs are one row of numbers for each image."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.detector(x)
        parts = outputs if isinstance(outputs, tuple | list) else [outputs]
        for part in parts:
            found = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            fits = isinstance(part, Tensor) and part.ndim > 1 and len(part) == len(x)
            require(fits, f"must return tensors (B, ...), got {found} for {number_of(len(x), 'image')}")
        return torch.cat([part.flatten(1) for part in parts], 1)


def _outputs_fit_the_task(case: DetectorCase) -> str:
    case.task.check_model(case.spec())
    with torch.no_grad():
        values = case.ready()(case.images())
    require(values.isfinite().all(), "returns values that are not finite")
    return f"{number_of(values.shape[1], 'number')} for an image"


def _learns_from_boxes(case: DetectorCase) -> str:
    model, (images, targets, indices) = case.detector().train(), case.batch()
    for words, rows in (("one box in each image", targets), ("no box at all", targets[:0])):
        loss = case.task.loss(model, (images, rows, indices), case.spec().recipe)
        require(loss.loss.ndim == 0 and loss.loss.isfinite(), f"the loss of {words} is {loss.loss}")
        require(loss.loss.requires_grad, f"the loss of {words} has no gradient")
    return ", ".join(loss.sums)


def _gives_gradients(case: DetectorCase) -> str:
    model = case.detector().train()
    case.task.loss(model, case.batch(), case.spec().recipe).loss.backward()
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if absent := [name for name, value in trained.items() if value.grad is None]:
        raise RuleError(f"no gradient reaches {common.listed(absent)}")
    wild = [
        name for name, value in trained.items() if value.grad is not None and not value.grad.isfinite().all()
    ]
    require(not wild, f"the gradient of {common.listed(wild)} is not finite")
    return common.frozen(model)


def _finds_boxes(case: DetectorCase) -> str:
    model, images = case.detector().eval(), case.images()
    with torch.no_grad():
        found: Any = case.task.inference(model, images, case.spec().recipe)
    require(not (problem := detection_problem(found, images, case.task.facts.classes)), problem)
    return f"{number_of(sum(map(len, found)), 'detection')} in {number_of(len(images), 'image')}"


def _builds_without_weights(case: DetectorCase) -> str:
    model = _Flat(build_model(case.spec(), device="meta")).eval()
    model(torch.empty(case.images(2).shape, device="meta"))
    real = [name for name, value in model.state_dict().items() if not value.is_meta]
    require(not real, f"{common.listed(real)} is not on the device that it was built on")
    return ""


def _is_paired_with_and_without_attention(case: DetectorCase) -> str:
    """Check that insertion renames no weight, and that shared weights start bit-equal."""
    if BLOCK_END not in case.places():
        raise NotApplicableError(f"names no place {BLOCK_END!r}")
    plain, inserted = case.detector().state_dict(), build_model(case.spec(WITH_WEIGHTS)).state_dict()
    if lost := [name for name in plain if name not in inserted]:
        raise RuleError(f"insertion renames {common.listed(lost)}")
    if moved := [name for name in plain if not torch.equal(plain[name], inserted[name])]:
        raise RuleError(f"{common.listed(moved)} starts from other values once attention is inserted")
    return f"{number_of(len(plain), 'value')} shared, {len(inserted) - len(plain)} added by {WITH_WEIGHTS}"


def _named_places_are_there(case: DetectorCase) -> str:
    counts = {name: len(sites_of(case.spec("identity", after=name))) for name in case.places()}
    return ", ".join(f"{name}: {number_of(count, 'site')}" for name, count in counts.items())


def _cost_is_counted(case: DetectorCase) -> str:
    cost = measure_cost(case.ready(), image_size=case.task.facts.image_size)
    return f"{number_of(cost['parameters'], 'parameter')}, {number_of(cost['macs'], 'MAC')}"


def _options_say_what_they_are(case: DetectorCase) -> str:
    return options_are_explained(case.registry.options(case.target))


CHECKS: tuple[Check[DetectorCase], ...] = (
    Check("is built", common.is_built, essential=True),
    Check("outputs fit the task", _outputs_fit_the_task, essential=True),
    Check("learns from boxes", _learns_from_boxes),
    Check("gives gradients", _gives_gradients),
    Check("finds boxes", _finds_boxes),
    Check("treats images of a batch apart", common.treats_images_apart),
    Check("leaves its input alone", common.leaves_its_input_alone),
    Check("draws no random numbers", common.draws_no_random_numbers),
    Check("is repeatable", common.is_repeatable),
    Check("starts from its seed", common.starts_from_its_seed),
    Check("is paired with and without attention", _is_paired_with_and_without_attention),
    Check("has its named places", _named_places_are_there),
    Check("survives a deep copy", common.survives_a_deep_copy),
    Check("survives pickling", common.survives_pickling),
    Check("survives a state file", common.survives_a_state_file),
    Check("builds without weights", _builds_without_weights),
    Check("cost is counted", _cost_is_counted),
    Check("options are explained", _options_say_what_they_are),
)
