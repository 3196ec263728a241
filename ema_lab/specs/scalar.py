"""Words of YAML as values: YAML 1.2's core types, where `no` is a word, 1e-4 a number, and 010 ten."""

import math
import re
from typing import Any

import yaml

from ema_lab.characters import escape, hidden_in
from ema_lab.errors import SpecError

_TAG = "tag:yaml.org,2002:"
COLLECTIONS = {f"{_TAG}map", f"{_TAG}seq"}
_SHOWN = 40  # characters of a wrong word
_TYPES = {
    "bool": (r"true|false|True|False", "tfTF"),
    "null": (r"~|null|Null|", ["~", "n", "N", ""]),
    "int": (r"[-+]?[0-9]+", "-+0123456789"),
    "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
}
_PATTERNS = {kind: re.compile(pattern) for kind, (pattern, _) in _TYPES.items()}


class Loader(yaml.SafeLoader):
    """Reads the structure of a file and resolves its words; `scalar` gives their values."""


Loader.yaml_implicit_resolvers = {}
for _kind, (_pattern, _first) in _TYPES.items():
    Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(rf"^(?:{_pattern})\Z"), list(_first))


def read_scalar(text: str) -> Any:
    """Return the value that a word of the command line has in our YAML.

    Raises:
        SpecError: If it is a number too large to be read.
    """
    loader = Loader("")
    try:
        return scalar(loader.resolve(yaml.ScalarNode, text, (True, False)), text)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise SpecError(str(error)) from None
    finally:
        loader.dispose()


def scalar(tag: str, text: str) -> Any:
    """Return the value of a word with a tag.

    Raises:
        ValueError: If the tag is none of the core types, or the word is not of its type.
    """
    kind = tag.removeprefix(_TAG)
    if kind == "str":
        return text
    if kind not in _PATTERNS:
        raise ValueError(f"the tag {tag!r} is not understood")
    if not _PATTERNS[kind].fullmatch(text):
        raise ValueError(f"{_short(text)} is not of the type {tag!r}")
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    try:
        number = int(text) if kind == "int" else float(text)
        is_finite = math.isfinite(number)  # an integer may be beyond every float
    except (ValueError, OverflowError):
        is_finite = False
    if not is_finite:
        raise ValueError(f"{_short(text)} is too large for a number")
    return number


def text_problem(text: str) -> str | None:
    """Return what no word of a definition may hold: characters that no reader sees."""
    found = hidden_in(text)
    if any("\ud800" <= sign <= "\udfff" for sign in found):
        return r"has half of a character (\ud800 to \udfff): write it as it is, or as \U and eight digits"
    return f"has characters that no reader sees: {', '.join(map(escape, found))}" if found else None


def _short(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}... ({len(text)} characters)"
