"""YAML files read with the line of every value, so that each error names its line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ema_lab.characters import escape_hidden
from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.files import is_readable, read_text
from ema_lab.specs.definition import BUNDLED_FOLDERS
from ema_lab.specs.scalar import COLLECTIONS, compose, scalar, text_problem
from ema_lab.specs.strict import merged

KeyPath = tuple[str | int, ...]


MAX_VALUES = 200_000  # per file; each use of an alias counts
MAX_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Document:
    """Value of a YAML file, with the line of each key path."""

    path: Path
    value: Any
    lines: Mapping[KeyPath, int]

    def where(self, key_path: KeyPath) -> str:
        """Return "file:line" of a key path, or of its nearest known parent."""
        while key_path and key_path not in self.lines:
            key_path = key_path[:-1]
        return f"{self.path}:{self.lines.get(key_path, 1)}"

    def nearest(self, loc: KeyPath) -> KeyPath:
        """Return the key path of a pydantic error location, which may also contain union tags."""
        key_path: KeyPath = ()
        for part in loc:
            if (*key_path, part) in self.lines:
                key_path = (*key_path, part)
        return key_path

    def problems(self, error: ValidationError, inside: KeyPath = ()) -> list[Problem]:
        """Return one problem per pydantic error, with its line. `inside`: key path of the validated part."""
        return [
            Problem(self.where(self.nearest((*inside, *loc))), message)
            for loc, message in error_messages(error, inside)
        ]


def error_messages(error: ValidationError, inside: KeyPath = ()) -> list[tuple[KeyPath, str]]:
    """Return the location of each error and a message that names its key."""
    messages = []
    for item in merged(error.title, error.errors(include_url=False)).errors():
        named = (*inside, *(part for part in item["loc"] if part != "[key]"))  # pydantic's word for a key
        key = escape_hidden(".".join(map(str, named)), allowed="")  # a message is one line
        text = "is missing" if item["type"] == "missing" else item["msg"]
        messages.append((item["loc"], f"{key}: {text}" if key else text))
    return messages


def read_document(path: Path) -> Document:
    """Read one YAML file. Only safe types and unique keys are accepted.

    Raises:
        DefinitionError: With the file and line of each problem.
    """
    if not is_readable(path, *BUNDLED_FOLDERS):
        raise DefinitionError([Problem(str(path), "is outside the bundle, so it is not read")])
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise DefinitionError([Problem(str(path), f"is larger than {MAX_BYTES // 2**20} MiB")])
        text = read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError([Problem(str(path), f"cannot be read: {_reason(error)}")]) from None
    return parse_document(text, path)


def parse_document(text: str, path: Path) -> Document:
    """Parse the text of one YAML file. `path` is its name in messages.

    Raises:
        DefinitionError: With the file and line of each problem.
    """
    try:
        node = compose(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        reason = escape_hidden(str(error.problem), allowed="")
        raise DefinitionError([Problem(f"{path}:{line}", f"is not YAML: {reason}")]) from None
    except yaml.YAMLError as error:
        raise DefinitionError([Problem(str(path), f"is not YAML: {_reason(error)}")]) from None
    except RecursionError:
        raise DefinitionError([Problem(str(path), "is nested too deeply")]) from None
    if not isinstance(node, yaml.MappingNode):
        raise DefinitionError([Problem(f"{path}:1", "must be a mapping of keys to values")])
    builder = _Builder(path)
    try:
        value = builder.build(node, ())
    except RecursionError:
        raise DefinitionError([Problem(str(path), "contains itself through an alias")]) from None
    if builder.problems:
        raise DefinitionError(builder.problems)
    return Document(path, value, builder.lines)


def read_value(text: str, name: str) -> Any:
    """Return the YAML value of a command-line argument, such as 3, [0, 1] or {name: ema, groups: 4}.

    Raises:
        SpecError: If the text is not YAML. `name`: of the argument, for the message.
    """
    try:
        return parse_document(f"value: {text}", Path(name)).value["value"]
    except DefinitionError as error:
        raise SpecError(f"{name}: {error.problems[0].message}, got {text!r}") from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]


class _Builder:
    """Converter of YAML nodes to plain data, which collects the line of each part and all problems."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._count = 0

    def build(self, node: yaml.Node, key_path: KeyPath) -> Any:
        self.lines.setdefault(key_path, node.start_mark.line + 1)
        self._count += 1
        if self._count > MAX_VALUES:
            rule = f"has more than {MAX_VALUES:,} values (each use of an alias counts)"
            raise DefinitionError([Problem(self._at(node), rule)])
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if node.tag not in COLLECTIONS:
            return self._refuse(node, f"the tag {node.tag!r} is not supported")
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*key_path, number)) for number, item in enumerate(node.value)]
        return self._mapping(node, key_path)

    def _mapping(self, node: yaml.Node, key_path: KeyPath) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(key_node, "a key must be a single word, not a list or mapping")
                continue
            key = str(key_node.value)
            if problem := text_problem(key):
                self._refuse(key_node, problem)
            elif key in built:
                self._refuse(key_node, f"the key {key!r} appears twice in one mapping")
            else:
                self.lines[(*key_path, key)] = key_node.start_mark.line + 1
                built[key] = self.build(value_node, (*key_path, key))
        return built

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if problem := text_problem(node.value):
            return self._refuse(node, problem)
        try:
            return scalar(node.tag, node.value)
        except ValueError as error:
            return self._refuse(node, str(error))

    def _refuse(self, node: yaml.Node, message: str) -> None:
        self.problems.append(Problem(self._at(node), message))

    def _at(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"


def require_file_name(document: Document, name: str) -> None:
    """Reject a `name:` that differs from the file name, so that lookup by name finds the file."""
    if name != document.path.stem:
        message = f"name: must equal the file's name {document.path.stem!r}, got {name!r}"
        raise DefinitionError([Problem(document.where(("name",)), message)])
