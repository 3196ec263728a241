"""Messages of models that cannot be built: the line at fault, and the values that fit every place."""

import re
from collections.abc import Iterator, Sequence

import torch

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.errors import EmaLabError
from ema_lab.models.build import sites_of
from ema_lab.registry.catalogue import ATTENTIONS
from ema_lab.specs.document import read_document
from ema_lab.specs.run import InsertionSpec, RunSpec

MAX_ROWS = 5  # named in one message
OPTION = re.compile(r"\b([a-z_]+)=(\d+)\b")  # in the message of a module


def problem_line(ablation: Ablation, cells: Sequence[Cell], text: str) -> str:
    """Return one line for a problem of some rows, at the line of the placement or of the option at fault."""
    names = list(dict.fromkeys(cell.row for cell in cells))
    more = f" and {len(names) - MAX_ROWS} more" if len(names) > MAX_ROWS else ""
    rows, first = f"{', '.join(names[:MAX_ROWS])}{more}", cells[0]
    if text.startswith("placement:"):
        return f"{_line_of(ablation, first.variant, 'placement') or ablation.path}: {rows}: {text}"
    refused = _refused_option(first.spec, text)
    if refused is None:
        return f"{ablation.path}: {rows}: {text}"
    option, fitting = refused
    where = next(
        filter(None, (_line_of(ablation, first.variant, key) for key in (option, "attention"))), None
    )
    fit = f"{', '.join(map(str, fitting))} fit every place" if fitting else "no value fits every place"
    return f"{where or ablation.path}: {rows}: {text.rstrip('.')}; model.attention.{option}: {fit}"


def _line_of(ablation: Ablation, variant: str, key: str) -> str:
    """Return "file:line" of a key of a variant: its own, else the base's; "" if the file has none."""
    document = read_document(ablation.path)
    places = [path for path in document.lines if any(key in str(part).split(".") for part in path)]
    own = [path for path in places if variant in path]
    base = [path for path in places if path[0] == "base"]
    return document.where((*own, *base)[0]) if own or base else ""


def _refused_option(spec: RunSpec, message: str) -> tuple[str, list[int]] | None:
    """Return the option that a module's message names with its value, and the values that fit.

    Args:
        spec: A run whose model cannot be built.
        message: The error, "ATTENTION after PLACE (N channels): REASON".

    Returns:
        None if the message names no whole number of an option of the model's attention.
    """
    for insertion in spec.model.insertions:
        attention = insertion.attention
        if not message.startswith(f"{attention.name} after ") or "across" in dir(
            ATTENTIONS[attention.name].load()
        ):
            continue
        values = {**_defaults(attention.name), **attention.options}
        for option, value in OPTION.findall(message):
            if type(values.get(option)) is int and str(values[option]) == value:
                return option, list(_fitting(spec, insertion, option))
    return None


def _defaults(name: str) -> dict[str, object]:
    return {key: option.default for key, option in ATTENTIONS.options(name).items()}


def _fitting(spec: RunSpec, insertion: InsertionSpec, option: str) -> Iterator[int]:
    """Yield the divisors of the least number of channels with which the attention can be built everywhere."""
    attention = insertion.attention
    channels = sorted({site.channels for name, site in sites_of(spec) if name == attention.name})
    for value in (number for number in range(1, channels[0] + 1) if channels[0] % number == 0):
        options = {**attention.options, option: value}
        try:
            with torch.device("meta"):
                for count in channels:
                    ATTENTIONS.build(attention.name, count, **options)
        except (EmaLabError, ValueError, TypeError):
            continue
        yield value
