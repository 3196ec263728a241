"""The command that holds a module, a backbone or a data set to its contract: check."""

import contextlib
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from ema_lab.cli.options import Data, Json
from ema_lab.cli.output import print_rows, say
from ema_lab.errors import DefinitionError, SpecError, UnknownNameError
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS
from ema_lab.registry.channels import CHANNELS_AS, means_channels
from ema_lab.registry.registry import Registry, unknown_name
from ema_lab.specs.document import error_messages, parse_document
from ema_lab.specs.scalar import read_scalar
from ema_lab.specs.strict import with_suggestions
from ema_lab.workflow.execution import DEFAULT_DATA

if TYPE_CHECKING:
    from ema_lab.contract.attention import AttentionCase
    from ema_lab.contract.check import Check, Result

REGISTRIES: Mapping[str, Registry] = {"attention": ATTENTIONS, "backbone": BACKBONES, "dataset": DATASETS}
FIRST_PARAMETERS = {"attention": ("channels",), "backbone": ("classes", "channels"), "dataset": ("root",)}
WIDTHS = (64, 128, 256)
PLAIN_SECONDS = 2.0


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(check)


def check(
    target: Annotated[str, typer.Argument(help="A registered name, or package.module:Name of your own.")],
    kind: Annotated[
        str | None, typer.Option("--kind", help="attention, backbone or dataset; guessed by default.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of it; may be repeated."),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option("--channels", min=1, help="Attention: its width; 64, or the next that it takes."),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=1, help="Backbone: height and width; 32.")
    ] = None,
    in_channels: Annotated[
        int | None, typer.Option("--in-channels", min=1, help="Backbone: channels of an image; 3.")
    ] = None,
    classes: Annotated[int | None, typer.Option("--classes", min=1, help="Backbone: classes; 10.")] = None,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> int:
    """Check a module, a backbone or a data set as the shipped ones are checked; 1 if a check fails.

    An attention module keeps (B, C, H, W) on any size, treats images apart, gives gradients, can be
    copied, pickled, compiled and trained in bfloat16, and ignores none of its options. What fails is
    told with its reason and, where your code raised it, with its line.

    Examples: ema-lab check my_gate:MyGate --option bias=false;
    ema-lab check resnet50 --image-size 64; ema-lab check digits
    """
    kind = _kind(target, kind)
    options = _options(REGISTRIES[kind], target, option or [])
    given = {"image_size": image_size, "in_channels": in_channels, "classes": classes}
    sizes = {name: value for name, value in given.items() if value is not None}
    _refuse_sizes_of_other_kinds(kind, [*sizes, *(["channels"] if channels else [])])
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the code under check; what fails is told anyway
        work = _work(kind, target, options, channels, sizes, data)
        results = list(_shown_as_they_come(work))
    rows = [{"check": one.name, "result": one.outcome, "detail": one.detail} for one in results]
    print_rows(rows, as_json=as_json)
    counts = Counter(one.outcome for one in results)
    parts = [f"{counts[word]} {word}" for word in ("passed", "failed", "does not apply") if counts[word]]
    say(f"{target} ({work.words}): {', '.join(parts)}")
    return 1 if counts["failed"] else 0


def _kind(target: str, given: str | None) -> str:
    if given is not None and given not in REGISTRIES:
        raise UnknownNameError(unknown_name("kind to check", given, REGISTRIES))
    if ":" not in target:
        found = [kind for kind, registry in REGISTRIES.items() if target in list(registry)]
        if given is not None:
            _ = REGISTRIES[given][target]  # says what there is
            return given
        if not found:
            names = [name for registry in REGISTRIES.values() for name in registry]
            message = unknown_name("attention, backbone or data set", target, names)
            raise UnknownNameError(f"{message}; your own is package.module:Name")
        return found[0]
    signature = ATTENTIONS.signature(target)  # says what is wrong with the target
    if given is not None:
        return given
    for kind, first in FIRST_PARAMETERS.items():
        if signature.positional[: len(first)] == first:
            return kind
    if signature.positional and means_channels(signature.positional[0]):
        return "attention"
    what = (
        "has no __init__ that can be read"
        if signature.inherits
        else f"takes ({', '.join(signature.positional)})"
    )
    rules = ", ".join(f"{kind} ({', '.join(first)})" for kind, first in FIRST_PARAMETERS.items())
    raise SpecError(f"{target} {what}, which does not tell its kind; say --kind, one of {rules}")


def _value(key: str, text: str) -> Any:
    """Read an option's value: a scalar, or for `of` a module, such as ema or {name: ema, groups: 4}."""
    if key != "of":
        return read_scalar(text)
    if not text.startswith("{"):
        return {"name": text}
    try:
        return parse_document(text, Path("--option of")).value
    except DefinitionError:
        raise SpecError(f"--option of takes a name or {{name: ema, groups: 4}}, got {text!r}") from None


def _options(registry: Registry, target: str, given: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise SpecError(f"--option takes KEY=VALUE, such as groups=8, got {item!r}")
        options[key] = _value(key, value)
    try:
        return registry.check(target, options)
    except ValidationError as error:
        problems = error_messages(with_suggestions(error, registry.options(target, options.get(CHANNELS_AS))))
        raise SpecError("\n".join(f"--option {message}" for _, message in problems)) from None


def _refuse_sizes_of_other_kinds(kind: str, given: Iterable[str]) -> None:
    for name in given:
        owner = "attention" if name == "channels" else "backbone"
        if owner != kind:
            raise SpecError(f"--{name.replace('_', '-')} is for a check of kind {owner}, this one is {kind}")


@dataclass(frozen=True)
class _Work:
    """Checks, what they are run on, and what that is in words."""

    words: str
    checks: "Sequence[Check[Any]]"
    subject: Any


def _work(
    kind: str,
    target: str,
    options: Mapping[str, Any],
    channels: int | None,
    sizes: Mapping[str, int],
    data: Any,
) -> _Work:
    if kind == "attention":
        from ema_lab.contract import attention

        gate = attention.AttentionCase(target, channels or WIDTHS[0], options)
        gate = gate if channels else _at_a_width_that_it_takes(gate)
        return _Work(f"attention, {gate.channels} channels", attention.CHECKS, gate)
    if kind == "backbone":
        from ema_lab.contract import backbone

        net = backbone.BackboneCase(target, options=options, **sizes)
        words = f"backbone, {net.classes} classes, {net.in_channels} x {net.image_size} x {net.image_size}"
        return _Work(words, backbone.CHECKS, net)
    from ema_lab.contract import dataset, scenes

    case = dataset.DatasetCase(target, data, options)
    if case.facts is not None and case.facts.task == "detection":
        return _Work("data set of scenes", scenes.CHECKS, scenes.SceneCase(target, data, options))
    return _Work("data set", dataset.CHECKS, case)


def _at_a_width_that_it_takes(case: "AttentionCase") -> "AttentionCase":
    """Return the case at the first width that the module does not refuse, or else as it is."""
    for width in WIDTHS:
        wider = replace(case, channels=width)
        try:
            wider.fresh()
        except ValueError:  # how a module refuses a width
            continue
        except (Exception, SystemExit):  # the first check tells it
            return wider
        return wider
    return case


def _shown_as_they_come(work: _Work) -> "Iterator[Result]":
    """Yield the results; the check that is being run is shown if that takes a while."""
    from ema_lab.contract.check import run_checks

    console = Console(stderr=True)
    results = run_checks(work.checks, work.subject)
    last = time.monotonic()
    with console.status("") if console.is_terminal else contextlib.nullcontext() as status:
        for number, one in enumerate(work.checks, start=1):
            words = f"[{number}/{len(work.checks)}] {one.name}"
            if status is not None:
                status.update(words.replace("[", r"\["))
            elif time.monotonic() - last > PLAIN_SECONDS:
                say(words)
                last = time.monotonic()
            yield next(results)
