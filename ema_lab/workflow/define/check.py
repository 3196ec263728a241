"""Contract checks from Python: the same as the command `ema-lab check`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ema_lab.errors import SpecError, UnknownNameError
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS, DETECTOR_HEADS, DETECTORS
from ema_lab.registry.channels import CHANNELS_AS, means_channels
from ema_lab.registry.registry import Registry, unknown_name
from ema_lab.registry.signature import split_target
from ema_lab.specs.document import error_messages
from ema_lab.specs.strict import with_suggestions
from ema_lab.store.source import unhashed_imports
from ema_lab.wording import number_of
from ema_lab.workflow.events import CheckStarted, Remark
from ema_lab.workflow.execution import DEFAULT_DATA, Watch, ignore
from ema_lab.workflow.text import unhashed_lines

if TYPE_CHECKING:
    from ema_lab.contract.attention import AttentionCase
    from ema_lab.contract.check import Check, Result

DETECTOR_FAMILY = "ultralytics/"
REGISTRIES: Mapping[str, Registry] = {
    "attention": ATTENTIONS,
    "backbone": BACKBONES,
    "detector": DETECTOR_HEADS,
    "dataset": DATASETS,
}
FIRST_PARAMETERS = {
    "attention": ("channels",),
    "backbone": ("classes", "channels"),
    "detector": ("features", "classes"),
    "dataset": ("root",),
}
WIDTHS = (64, 128, 256)


@dataclass(frozen=True)
class Sizes:
    """Sizes of the tensors in a check; None takes the default, and is the only choice for other kinds.

    Attributes:
        channels: Attention: channels of the input; 64, or the next width that the module takes.
        image_size: Backbone: height and width of an image; 32.
        in_channels: Backbone: channels of an image; 3.
        classes: Backbone: number of classes; 10.
    """

    channels: int | None = None
    image_size: int | None = None
    in_channels: int | None = None
    classes: int | None = None

    def chosen(self) -> dict[str, int]:
        """Return the sizes that are not None."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class CheckOutcome:
    """Results of all checks of a subject, such as "attention, 64 channels"."""

    subject: str
    results: tuple["Result", ...]

    @property
    def ok(self) -> bool:
        """Whether no check has failed."""
        return all(result.outcome != "failed" for result in self.results)


def check(
    target: str,
    *,
    kind: str | None = None,
    options: Mapping[str, Any] | None = None,
    sizes: Sizes | None = None,
    data: Path | str = DEFAULT_DATA,
    watch: Watch = ignore,
) -> CheckOutcome:
    """Check a module, a backbone, a detector or a data set as the shipped ones are checked.

    Args:
        target: A registered name, or "package.module:Name".
        kind: "attention", "backbone", "detector" or "dataset"; None guesses it.
        options: Options of the target.
        sizes: Sizes of the tensors.
        data: Folder of the data sets.
        watch: Observer of the events of `ema_lab.workflow.events`.

    Raises:
        EmaLabError: If there is no such target or option. A check that fails raises nothing.
    """
    kind, sizes = _kind(target, kind), sizes or Sizes()
    checked_options = _checked_options(_registry(kind, target), target, options or {})
    _refuse_sizes_of_other_kinds(kind, sizes)
    from ema_lab.contract.check import run_checks  # loads torch

    work = _work(kind, target, checked_options, sizes, Path(data))
    results: list[Result] = []
    pending = run_checks(work.checks, work.subject)
    for number, each in enumerate(work.checks, start=1):
        watch(CheckStarted(each.name, number, len(work.checks)))
        results.append(next(pending))
    if ":" in target:
        for line in unhashed_lines(unhashed_imports(split_target(target)[0])):
            watch(Remark("", line))
    return CheckOutcome(work.description, tuple(results))


def _kind(target: str, kind: str | None) -> str:
    """Return the kind of a target.

    Raises:
        UnknownNameError: If there is no such kind or name.
        SpecError: If the kind of a user's own code is not clear.
    """
    if kind is not None and kind not in REGISTRIES:
        raise UnknownNameError(unknown_name("kind to check", kind, REGISTRIES))
    if ":" not in target:
        return _registered_kind(target, kind)
    signature = ATTENTIONS.signature(target)  # raises if the target cannot be read
    if kind is not None:
        return kind
    for name, parameters in FIRST_PARAMETERS.items():
        if signature.positional[: len(parameters)] == parameters:
            return name
    if signature.positional and means_channels(signature.positional[0]):
        return "attention"
    problem = (
        "has no __init__ that can be read"
        if signature.inherits
        else f"takes ({', '.join(signature.positional)})"
    )
    rules = ", ".join(f"{name} ({', '.join(first)})" for name, first in FIRST_PARAMETERS.items())
    raise SpecError(f"{target} {problem}, so its kind is not clear; say --kind, one of {rules}")


def _registered_kind(name: str, kind: str | None) -> str:
    if kind is not None:
        _ = _registry(kind, name)[name]  # raises if there is no such name
        return kind
    for known_kind, registry in REGISTRIES.items():
        if registry.knows(name):
            whole = registry is BACKBONES and (name in DETECTORS or name.startswith(DETECTOR_FAMILY))
            return "detector" if whole else known_kind
    every_name = [known for registry in REGISTRIES.values() for known in registry]
    message = unknown_name("attention, backbone, detector or data set", name, every_name)
    raise UnknownNameError(f"{message}; your own is package.module:Name")


def _registry(kind: str, target: str) -> Registry:
    """Return the registry that builds a target. A whole detector is built like a backbone."""
    whole = kind == "detector" and (
        BACKBONES.signature(target).positional[:2] == FIRST_PARAMETERS["backbone"]
        if ":" in target
        else BACKBONES.knows(target)
    )
    return BACKBONES if whole else REGISTRIES[kind]


def _checked_options(registry: Registry, target: str, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return registry.check(target, dict(options))
    except ValidationError as error:
        problems = error_messages(with_suggestions(error, registry.options(target, options.get(CHANNELS_AS))))
        raise SpecError("\n".join(f"--option {message}" for _, message in problems)) from None


def _refuse_sizes_of_other_kinds(kind: str, sizes: Sizes) -> None:
    for name in sizes.chosen():
        owner = "attention" if name == "channels" else "backbone"
        if owner != kind:
            raise SpecError(f"--{name.replace('_', '-')} is for a check of kind {owner}, this one is {kind}")


@dataclass(frozen=True)
class _Work:
    """Checks, their subject, and its description."""

    description: str
    checks: "tuple[Check[Any], ...]"
    subject: Any


def _work(kind: str, target: str, options: Mapping[str, Any], sizes: Sizes, data: Path) -> _Work:
    if kind == "attention":
        from ema_lab.contract import attention

        gate = attention.AttentionCase(target, sizes.channels or WIDTHS[0], options)
        gate = gate if sizes.channels else _at_an_accepted_width(gate)
        return _Work(f"attention, {number_of(gate.channels, 'channel')}", attention.CHECKS, gate)
    if kind == "backbone":
        from ema_lab.contract import backbone

        net = backbone.BackboneCase(target, options=options, **sizes.chosen())
        image = f"{net.in_channels} x {net.image_size} x {net.image_size}"
        return _Work(f"backbone, {number_of(net.classes, 'class')}, {image}", backbone.CHECKS, net)
    if kind == "detector":
        from ema_lab.contract import detector

        on_backbone = _registry(kind, target) is DETECTOR_HEADS
        description = f"detector, on {detector.CARRIER}" if on_backbone else "detector"
        return _Work(description, detector.CHECKS, detector.DetectorCase(target, on_backbone, options))
    from ema_lab.contract import dataset, scenes

    case = dataset.DatasetCase(target, data, options)
    if case.facts is not None and case.facts.task == "detection":
        return _Work("data set of scenes", scenes.CHECKS, scenes.SceneCase(target, data, options))
    return _Work("data set", dataset.CHECKS, case)


def _at_an_accepted_width(case: "AttentionCase") -> "AttentionCase":
    """Return the case at the first width that the module accepts, or else at its own width."""
    for width in WIDTHS:
        wider = replace(case, channels=width)
        try:
            wider.fresh()
        except ValueError:  # how a module refuses a width
            continue
        except (Exception, SystemExit):  # the first check fails with it
            return wider
        return wider
    return case
