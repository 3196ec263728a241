"""Options of a callable, read from its source without importing or evaluating the code.

A constructor's parameters are its option list, so each option is declared once. The command line checks
and explains options without importing torch, which takes seconds.
"""

import ast
import difflib
import importlib.util
import re
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from ema_lab.errors import SpecError
from ema_lab.files import is_readable
from ema_lab.registry.annotation import AnnotationError, type_of

REQUIRED = object()


@dataclass(frozen=True)
class Option:
    """One option: name, type, default (`REQUIRED` if none) and docstring text."""

    name: str
    type: Any
    type_text: str
    default: object = field(hash=False)  # may be a list
    meaning: str


@dataclass(frozen=True)
class Signature:
    """Parameters and docstrings of a class or function.

    Attributes:
        path: File of the constructor.
        line: Line of the constructor, or of the definition if it has none.
        doc: Docstring of the class or function.
        module_doc: Docstring of its file.
        options: Keyword-only parameters.
        positional: All other parameters, without `self`.
        positional_options: Positional parameters that have a type and can be passed by name.
        unreadable: Positional parameters that cannot be options, with the reason for each.
        required: Unreadable parameters without a default.
        switches: Positional parameters whose default is True or False.
        bases: Base classes, as named in the file.
        inherits: Whether no constructor of the class can be read.
    """

    path: Path
    line: int
    doc: str
    module_doc: str
    options: Mapping[str, Option]
    positional: tuple[str, ...]
    positional_options: Mapping[str, Option]
    unreadable: Mapping[str, str]
    required: tuple[str, ...]
    switches: tuple[str, ...]
    bases: tuple[str, ...]
    inherits: bool

    @property
    def location(self) -> str:
        """File path and line of the constructor."""
        return f"{self.path}:{self.line}"

    @property
    def short_location(self) -> str:
        """File name and line of the constructor."""
        return f"{self.path.name}:{self.line}"

    def rejection_reason(self, option: str) -> str:
        """Return one line on why a parameter cannot be an option, or "" for an unknown parameter."""
        if self.inherits:
            return f"options are parameters of __init__, and no __init__ of it can be read ({self.location})"
        if option in self.unreadable:
            return f"the parameter {option!r} {self.unreadable[option]} ({self.location})"
        if option in self.positional:
            return f"the parameter {option!r} is passed by its position ({self.location})"
        return ""


def source_file(module: str) -> Path:
    """Return the file of a dotted module name without importing it or its parent packages.

    Raises:
        SpecError: If the module is missing, is not a Python file, or must not be read.
    """
    path = _module_file(module)
    if not is_readable(path, *_installed()):
        raise SpecError(f"the module {module!r} is outside the bundle ({path}), so it is not read")
    return path


@cache
def _installed() -> frozenset[Path]:
    """Return the resolved folders of installed packages."""
    kinds = ("purelib", "platlib", "stdlib")
    return frozenset(Path(sysconfig.get_path(kind)).resolve() for kind in kinds)


def _module_file(module: str) -> Path:
    root, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(root)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        local = Path.cwd().joinpath(*module.split("."))
        folders = [local.parent]
        rest = [local.name]
    else:
        folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
        if not rest and spec.origin and spec.origin.endswith(".py"):
            return Path(spec.origin)
    for folder in folders:
        base = folder.joinpath(*rest)
        for file in (base.with_name(base.name + ".py"), base / "__init__.py"):
            if file.is_file():
                return file
    near = difflib.get_close_matches(module, [path.stem for path in Path.cwd().glob("*.py")], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise SpecError(f"no Python module {module!r} on the import path or in this folder{hint}")


def split_target(target: str) -> tuple[str, str]:
    """Split "package.module:attribute" into module and attribute."""
    module, _, attribute = target.partition(":")
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", target):
        raise SpecError(f"{target!r} must have the form package.module:Name")
    return module, attribute


def defining_target(target: str) -> str:
    """Follow `from module import Name` from "package.module:Name" to the module that defines the name.

    Raises:
        SpecError: If a module on the way is missing, or the imports form a cycle.
    """
    seen = [target]
    while (next_target := _imported_from(*split_target(seen[-1]))) is not None:
        if next_target in seen:
            raise SpecError(f"{target!r} has circular imports: {' -> '.join([*seen, next_target])}")
        seen.append(next_target)
    return seen[-1]


def _imported_from(module: str, attribute: str) -> str | None:
    """Return the target that a module imports an attribute from, or None if it imports no such name."""
    path = source_file(module)
    for node in _tree(path, path.stat().st_mtime_ns).body:
        if not isinstance(node, ast.ImportFrom):
            continue
        names = [alias.name for alias in node.names if (alias.asname or alias.name) == attribute]
        if not names:
            continue
        parts = module.split(".")
        package = parts if path.name == "__init__.py" else parts[:-1]
        above = package[: len(package) + 1 - node.level] if node.level else []
        return f"{'.'.join([*above, *([node.module] if node.module else [])])}:{names[-1]}"
    return None


def read_signature(target: str) -> Signature:
    """Read the signature of a class or function "package.module:Name" from its source.

    A class without a constructor takes the constructor of its first base class with a readable one.

    Raises:
        SpecError: If the source is missing or unreadable, or an option has an unsupported type.
    """
    own = _own_signature(target)
    if not own.inherits:
        return own
    for base in _base_targets(target, own):
        try:
            inherited = read_signature(base)
        except (SpecError, RecursionError):  # a library's base class, whose parameters need not be readable
            continue
        if not inherited.inherits:
            return replace(inherited, doc=own.doc or inherited.doc, module_doc=own.module_doc)
    return own


def _own_signature(target: str) -> Signature:
    module, attribute = split_target(target)
    path = source_file(module)
    return _read(path, attribute, path.stat().st_mtime_ns)


def _base_targets(target: str, signature: Signature) -> Iterator[str]:
    module, attribute = split_target(target)
    for base in signature.bases:
        next_target = _imported_from(module, base) or f"{module}:{base}"
        if base != attribute and not next_target.startswith("torch."):
            yield next_target


def read_literal(module: str, name: str) -> tuple[str, Any]:
    """Return the location ("file:line") and value of a module-level `name = literal`.

    Raises:
        SpecError: If the module has no such assignment, or its value is not a literal.
    """
    path = source_file(module)
    for node in _tree(path, path.stat().st_mtime_ns).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return f"{path}:{node.lineno}", _literal(node.value, f"{path}:{node.lineno}: {name}")
    raise SpecError(f"{path} has no module-level {name}")


@cache
def _tree(path: Path, _modified: int) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        location = f"{path}:{error.lineno}" if error.lineno else str(path)  # null bytes have no line
        raise SpecError(f"{location}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # bytes that are no text; too deeply nested
        raise SpecError(f"{path} cannot be read as Python: {error or type(error).__name__}") from None


@cache
def _read(path: Path, attribute: str, modified: int) -> Signature:
    tree = _tree(path, modified)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            return _signature(path, tree, node)
    names = [node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    close = difflib.get_close_matches(attribute, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; it defines {', '.join(names) or 'none'}"
    raise SpecError(f"{path} defines no class or function {attribute!r}{hint}")


def _signature(path: Path, tree: ast.Module, node: ast.ClassDef | ast.FunctionDef) -> Signature:
    function: ast.FunctionDef | None = node if isinstance(node, ast.FunctionDef) else None
    bases: tuple[str, ...] = ()
    if isinstance(node, ast.ClassDef):
        methods = (item for item in node.body if isinstance(item, ast.FunctionDef))
        function = next((item for item in methods if item.name == "__init__"), None)
        bases = tuple(base.id for base in node.bases if isinstance(base, ast.Name))
    doc = ast.get_docstring(node) or ""
    reader = _Reader(path, _argument_meanings(doc))
    if function is not None:
        reader.read(function, skip=isinstance(node, ast.ClassDef))
    return Signature(
        path,
        (function or node).lineno,
        doc,
        ast.get_docstring(tree) or "",
        reader.options,
        tuple(reader.positional),
        reader.positional_options,
        reader.unreadable,
        tuple(reader.required),
        tuple(reader.switches),
        bases,
        inherits=function is None,
    )


class _Reader:
    """Classifier of a function's parameters into options and others."""

    def __init__(self, path: Path, meanings: Mapping[str, str]) -> None:
        self.options: dict[str, Option] = {}
        self.positional: list[str] = []
        self.positional_options: dict[str, Option] = {}
        self.unreadable: dict[str, str] = {}
        self.required: list[str] = []
        self.switches: list[str] = []
        self._path = path
        self._meanings = meanings

    def read(self, function: ast.FunctionDef, *, skip: bool) -> None:
        """Classify all parameters. With `skip`, ignore the first one, `self`."""
        arguments = function.args
        if arguments.kwarg is not None:
            rule = f"**{arguments.kwarg.arg} would accept options and ignore them"
            raise SpecError(f"{self._path}:{function.lineno}: {rule}")
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            try:
                self.options[argument.arg] = self._option(argument, default)
            except AnnotationError as error:
                where = f"{self._path}:{argument.lineno}"
                raise SpecError(f"{where}: option {argument.arg!r} {error}") from None
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
        for argument, default in list(zip(positional, defaults, strict=True))[skip:]:
            self._positional(argument, default, named=argument in arguments.args)

    def _positional(self, argument: ast.arg, default: ast.expr | None, *, named: bool) -> None:
        self.positional.append(argument.arg)
        if isinstance(default, ast.Constant) and isinstance(default.value, bool):
            self.switches.append(argument.arg)
        try:
            if not named:
                raise AnnotationError("cannot be passed by name")
            if argument.annotation is None:
                value = "= ..." if default is None else f"= {ast.unparse(default)}"
                raise AnnotationError(f"has no type: write it as `{argument.arg}: int {value}`")
            self.positional_options[argument.arg] = self._option(argument, default)
        except AnnotationError as error:
            self.unreadable[argument.arg] = str(error)
            self.required += [argument.arg] if default is None else []

    def _option(self, argument: ast.arg, default: ast.expr | None) -> Option:
        kind = object if argument.annotation is None else type_of(argument.annotation)
        text = "object" if argument.annotation is None else ast.unparse(argument.annotation)
        try:
            value = REQUIRED if default is None else _literal(default, "its default")
        except SpecError as error:
            raise AnnotationError(f"cannot be an option: {error}") from None
        return Option(argument.arg, kind, text, value, self._meanings.get(argument.arg, ""))


def _literal(node: ast.expr, what: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise SpecError(f"{what} must be a literal") from None


def _argument_meanings(doc: str) -> dict[str, str]:
    """Return the description of each argument from a docstring's `Args:` section."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    if section is None:
        return {}
    meanings: dict[str, str] = {}
    name = ""
    for line in section.group(1).splitlines():
        if entry := re.match(r"^ {4}(\w+): (.*)$", line):
            name = entry.group(1)
            meanings[name] = entry.group(2).strip()
        elif name and line.strip():
            meanings[name] += " " + line.strip()
    return meanings
