"""YAML files with the line of every value, so that each problem can say where it is."""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ema_lab.errors import DefinitionError, Problem
from ema_lab.specs.strict import merged

Place = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core types: `no` and `on` are words, 1e-4 is a number, 010 is ten."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false|True|False)$", "tfTF"),
    ("null", r"^(?:~|null|Null|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
HALF_CHARACTER = r"has half of a character (\ud800 to \udfff): write it as it is, or as \U and eight digits"
_COLLECTIONS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


@dataclass(frozen=True)
class Document:
    """The value of a file and the line of each of its parts."""

    path: Path
    value: Any
    lines: Mapping[Place, int]

    def where(self, place: Place) -> str:
        """Return "file:line" of a place, or of the nearest part above it."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.path}:{self.lines.get(place, 1)}"

    def nearest(self, loc: Place) -> Place:
        """Return the place that a validation error's location means (it may name union tags too)."""
        place: Place = ()
        for part in loc:
            if (*place, part) in self.lines:
                place = (*place, part)
        return place

    def problems(self, error: ValidationError, inside: Place = ()) -> list[Problem]:
        """Translate pydantic's errors into one line each."""
        return [
            Problem(self.where(self.nearest((*inside, *loc))), message)
            for loc, message in error_messages(error, inside)
        ]


def error_messages(error: ValidationError, inside: Place = ()) -> list[tuple[Place, str]]:
    """Return each error's location and a message that names the key."""
    messages = []
    for item in merged(error.title, error.errors(include_url=False)).errors():
        key = ".".join(map(str, (*inside, *item["loc"])))
        text = "is missing" if item["type"] == "missing" else item["msg"]
        messages.append((item["loc"], f"{key}: {text}" if key else text))
    return messages


def read_scalar(text: str) -> Any:
    """Return the value that a word has in our YAML: 1e-4 is a number, `no` is a word."""
    loader = _Loader("")
    try:
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return loader.construct_object(yaml.ScalarNode(tag, text))
    finally:
        loader.dispose()


def read_document(path: Path) -> Document:
    """Read one YAML file: safe types only, no key twice.

    Raises:
        DefinitionError: With the file and line of what is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError([Problem(str(path), f"cannot be read: {_reason(error)}")]) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DefinitionError([Problem(f"{path}:{line}", f"is not YAML: {error.problem}")]) from None
    except yaml.YAMLError as error:
        raise DefinitionError([Problem(str(path), f"is not YAML: {_reason(error)}")]) from None
    except RecursionError:
        raise DefinitionError([Problem(str(path), "is nested too deeply")]) from None
    if not isinstance(node, yaml.MappingNode):
        raise DefinitionError([Problem(f"{path}:1", "must be a mapping of keys to values")])
    lines: dict[Place, int] = {}
    problems: list[Problem] = []
    loader = _Loader("")
    try:
        value = _build(loader, node, (), lines, problems, path)
    except RecursionError:
        raise DefinitionError([Problem(str(path), "contains itself, by an alias")]) from None
    finally:
        loader.dispose()
    if problems:
        raise DefinitionError(problems)
    return Document(path, value, lines)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


def _is_broken(node: yaml.Node) -> bool:
    """Whether a word has half of a character, as JSON writes those beyond 16 bits: in two escapes."""
    return isinstance(node, yaml.ScalarNode) and re.search("[\ud800-\udfff]", node.value) is not None


def _build(
    loader: yaml.SafeLoader,
    node: yaml.Node,
    place: Place,
    lines: dict[Place, int],
    problems: list[Problem],
    path: Path,
) -> Any:
    lines.setdefault(place, node.start_mark.line + 1)
    if _is_broken(node):
        problems.append(Problem(f"{path}:{node.start_mark.line + 1}", HALF_CHARACTER))
        return None
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
        where = f"{path}:{node.start_mark.line + 1}"
        problems.append(Problem(where, f"the tag {node.tag!r} is not understood"))
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, x, (*place, i), lines, problems, path) for i, x in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        built: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            here = f"{path}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                problems.append(Problem(here, "a key must be a word"))
            elif _is_broken(key_node):
                problems.append(Problem(here, HALF_CHARACTER))
            elif key in built:
                problems.append(Problem(here, f"the key {key!r} stands twice in one mapping"))
            else:
                lines[(*place, key)] = key_node.start_mark.line + 1
                built[key] = _build(loader, value_node, (*place, key), lines, problems, path)
        return built
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError, KeyError) as error:
        what = getattr(error, "problem", None) or f"{node.value!r} is not of the type {node.tag!r}"
        problems.append(Problem(f"{path}:{node.start_mark.line + 1}", what))
        return None
