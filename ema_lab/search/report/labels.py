"""Short labels of a search's parameters and values, for tables and axes."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def value_text(value: Any) -> str:
    """Format a value for a table. The trial's record has all digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return the shortest suffix of each dotted key that tells it from the others."""
    parts = {key: key.split(".") for key in keys}
    lengths = dict.fromkeys(keys, 1)
    while True:
        short = {key: ".".join(parts[key][-lengths[key] :]) for key in keys}
        shared = {name for name, count in Counter(short.values()).items() if count > 1}
        longer = [key for key in keys if short[key] in shared and lengths[key] < len(parts[key])]
        if not longer:
            return short
        for key in longer:
            lengths[key] += 1


def choice_labels(choices: Sequence[Any]) -> dict[str, str]:
    """Return unique axis labels of listed values by their JSON, such as `ema groups=8`."""
    keys = [json.dumps(choice, sort_keys=True) for choice in choices]
    names = [label(choice) for choice in choices]
    shared = {name for name, count in Counter(names).items() if count > 1}
    return {key: key if name in shared else name for key, name in zip(keys, names, strict=True)}


def label(value: Any) -> str:
    """Format a value as an axis label, such as `ema groups=8`."""
    if isinstance(value, Mapping):
        rest = " ".join(f"{key}={label(option)}" for key, option in value.items() if key != "name")
        return " ".join(filter(None, (str(value.get("name", "")), rest)))
    if isinstance(value, list):
        return ",".join(map(label, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value_text(value)
