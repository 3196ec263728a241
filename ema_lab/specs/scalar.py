"""YAML scalars under YAML 1.2's core schema, where `no` is a string, 1e-4 a number and 010 ten."""

import math
import re
from contextlib import suppress
from typing import Any

import yaml

from ema_lab.characters import escape, hidden_characters
from ema_lab.errors import SpecError

_TAG = "tag:yaml.org,2002:"
COLLECTIONS = {f"{_TAG}map", f"{_TAG}seq"}
_MAX_QUOTED = 40  # characters of an invalid scalar in a message
_TYPES = {
    "bool": (r"true|false|True|False", "tfTF"),
    "null": (r"~|null|Null|", ["~", "n", "N", ""]),
    "int": (r"[-+]?[0-9]+", "-+0123456789"),
    "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
}
_PATTERNS = {kind: re.compile(pattern) for kind, (pattern, _) in _TYPES.items()}


class Loader(yaml.SafeLoader):
    """Loader of a file's structure and scalar tags. `scalar` converts each scalar to its value."""


Loader.yaml_implicit_resolvers = {}
for _kind, (_pattern, _first) in _TYPES.items():
    Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(rf"^(?:{_pattern})\Z"), list(_first))
_Fast = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class _FastLoader(_Fast):  # type: ignore[misc,valid-type]
    yaml_implicit_resolvers = Loader.yaml_implicit_resolvers


_READ_ALIKE = re.compile(r"[\n \"->@-~\xa0-\u2027\u2030-\ud7ff]*")  # without tabs, ! and ?


def compose(text: str) -> yaml.Node | None:
    """Return the root node of a YAML text, or None for an empty one.

    libyaml, where PyYAML has it, takes a tenth of the time. It reads texts of the characters that both
    parsers read alike; the problems of a text are always those that Python's parser finds.
    """
    if yaml.__with_libyaml__ and _READ_ALIKE.fullmatch(text):
        with suppress(yaml.YAMLError):
            return yaml.compose(text, Loader=_FastLoader)
    return yaml.compose(text, Loader=Loader)


def read_scalar(text: str) -> Any:
    """Return the value of a command-line argument, read as a YAML scalar.

    Raises:
        SpecError: If the number is too large.
    """
    loader = Loader("")
    try:
        return scalar(loader.resolve(yaml.ScalarNode, text, (True, False)), text)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise SpecError(str(error)) from None
    finally:
        loader.dispose()


def scalar(tag: str, text: str) -> Any:
    """Return the value of a tagged scalar.

    Raises:
        ValueError: If the tag is not a core type, or the text does not match the tag.
    """
    kind = tag.removeprefix(_TAG)
    if kind == "str":
        return text
    if kind not in _PATTERNS:
        raise ValueError(f"the tag {tag!r} is not supported")
    if not _PATTERNS[kind].fullmatch(text):
        raise ValueError(f"{_short(text)} is not of the type {tag!r}")
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    try:
        number = int(text) if kind == "int" else float(text)
        is_finite = math.isfinite(number)  # an integer may exceed the float range
    except (ValueError, OverflowError):
        is_finite = False
    if not is_finite:
        raise ValueError(f"{_short(text)} is too large for a number")
    return number


def text_problem(text: str) -> str | None:
    """Return a message if a scalar contains invisible characters, else None."""
    hidden = hidden_characters(text)
    if any("\ud800" <= character <= "\udfff" for character in hidden):
        return (
            r"has half of a character (\ud800 to \udfff): write the character itself, or \U and eight digits"
        )
    return f"has invisible characters: {', '.join(map(escape, hidden))}" if hidden else None


def _short(text: str) -> str:
    return repr(text) if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]!r}... ({len(text)} characters)"
