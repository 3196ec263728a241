"""Command `check`: hold a module, a backbone, a detector or a data set to its contract."""

import contextlib
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ema_lab.cli.groups import expanded
from ema_lab.cli.options import MOST, Data, Json
from ema_lab.cli.output import print_rows, say
from ema_lab.errors import DefinitionError, SpecError
from ema_lab.specs.document import parse_document
from ema_lab.specs.scalar import read_scalar
from ema_lab.workflow.define.check import Sizes
from ema_lab.workflow.define.check import check as check_target
from ema_lab.workflow.events import CheckStarted, Event, Remark
from ema_lab.workflow.execution import DEFAULT_DATA

PLAIN_SECONDS = 2.0


@dataclass(frozen=True)
class SizeOptions:
    """Sizes of the tensors in a check."""

    channels: Annotated[
        int | None,
        typer.Option(
            "--channels",
            min=1,
            max=MOST,
            help="Attention: channels of the input; 64, or the next width that the module takes.",
        ),
    ] = None
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=1, max=MOST, help="Backbone: height and width; 32.")
    ] = None
    in_channels: Annotated[
        int | None, typer.Option("--in-channels", min=1, max=MOST, help="Backbone: channels of an image; 3.")
    ] = None
    classes: Annotated[
        int | None, typer.Option("--classes", min=1, max=MOST, help="Backbone: classes; 10.")
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(expanded(check))


def check(
    target: Annotated[str, typer.Argument(help="A registered name, or package.module:Name of your own.")],
    *,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="attention, backbone, detector or dataset; guessed by default."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="An option of the target; may be repeated."),
    ] = None,
    sizes: SizeOptions,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> int:
    """Check a module, backbone, detector or data set.

    The checks are those of the shipped ones. Exit code 1 if one fails.

    An attention module keeps (B, C, H, W) on any size, treats images apart, gives gradients, can be
    copied, pickled, compiled and trained in bfloat16, and ignores none of its options. A detector of your
    own takes (features, classes) or, with --kind detector, (classes, channels). A failure is printed with
    its reason and, if your code raised it, with its line.

    Examples: ema-lab check my_gate:MyGate --option bias=false;
    ema-lab check resnet50 --image-size 64; ema-lab check digits
    """
    options = _read_options(option or [])
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings(), _Display() as display:
        warnings.simplefilter("ignore")  # of the code under check, whose failures are results
        outcome = check_target(
            target, kind=kind, options=options, sizes=Sizes(**vars(sizes)), data=data, watch=display
        )
    results = outcome.results
    rows = [{"check": each.name, "result": each.outcome, "detail": each.detail} for each in results]
    print_rows(rows if as_json else _with_causes_once(rows), as_json=as_json)
    counts = Counter(each.outcome for each in results)
    parts = [f"{counts[state]} {state}" for state in ("passed", "failed", "does not apply") if counts[state]]
    say(f"{target} ({outcome.subject}): {', '.join(parts)}")
    return 0 if outcome.ok else 1


def _with_causes_once(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Merge failed checks that have the same cause: the first one stays, with the number of the others."""
    failed = Counter(row["detail"] for row in rows if row["result"] == "failed")
    shown: dict[str, dict[str, str]] = {}
    for row in rows:
        key = row["detail"] if row["result"] == "failed" else row["check"]
        more = failed[key] - 1
        tail = f"; {more} more check{'s fail' if more > 1 else ' fails'} of it" if more > 0 else ""
        shown.setdefault(key, {**row, "detail": f"{row['detail']}{tail}"})
    return list(shown.values())


def _read_options(texts: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for item in texts:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise SpecError(f"--option takes KEY=VALUE, such as groups=8, got {item!r}")
        options[key] = _value(key, value)
    return options


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


class _Display(contextlib.ExitStack):
    """Observer that names the running check: live on a terminal, else in a line if it takes a while."""

    def __init__(self) -> None:
        super().__init__()
        console = Console(stderr=True)
        self._status = self.enter_context(console.status("")) if console.is_terminal else None
        self._last = time.monotonic()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Remark):
            say(*event.lines())
        if not isinstance(event, CheckStarted):
            return
        line = f"[{event.number}/{event.total}] {event.name}"
        if self._status is not None:
            self._status.update(line.replace("[", r"\["))
        elif time.monotonic() - self._last > PLAIN_SECONDS:
            say(line)
            self._last = time.monotonic()
