"""Values of an attention's option that fit every place of a model, for the message of one that does not."""

import re
from collections.abc import Iterator

import torch

from ema_lab.errors import EmaLabError
from ema_lab.models.build import sites_of
from ema_lab.registry.catalogue import ATTENTIONS
from ema_lab.specs.run import InsertionSpec, RunSpec

OPTION = re.compile(r"\b([a-z_]+)=(\d+)\b")  # in the message of a module


def refused_option(spec: RunSpec, message: str) -> tuple[str, list[int]] | None:
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
