"""Options of a callable, read from its source without importing it.

A constructor's keyword-only parameters are its option list: they are declared once, there, and the
command line can check and explain them without the seconds that importing torch takes.
"""

import ast
import importlib.util
import re
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ema_lab.errors import SpecError
from ema_lab.files import is_readable

_ANNOTATION_NAMES: Mapping[str, Any] = {
    "bool": bool, "dict": dict, "float": float, "int": int, "list": list, "object": object,
    "str": str, "tuple": tuple, "Literal": Literal, "Any": Any, "Mapping": Mapping,
}  # fmt: skip
REQUIRED = object()


@dataclass(frozen=True)
class Option:
    """One keyword-only parameter: its type, its default (`REQUIRED` without one) and its meaning."""

    name: str
    type: Any
    type_text: str
    default: object
    meaning: str


@dataclass(frozen=True)
class Signature:
    """What a definition takes and says about itself.

    Attributes:
        path: The file that it is in.
        line: Where its own constructor is, or else the definition itself.
        doc: Its docstring.
        module_doc: The docstring of its file.
        options: Its keyword-only parameters.
        positional: Its other parameters, without `self`.
        inherits: Whether its constructor is that of another class, so that nothing can be read of it.
    """

    path: Path
    line: int
    doc: str
    module_doc: str
    options: Mapping[str, Option]
    positional: tuple[str, ...]
    inherits: bool

    def why_not(self, option: str) -> str:
        """Return why something that it may well take is no option, in one line; "" where that is not so."""
        rule = "options must be keyword-only parameters (after a `*`)"
        where = f"{self.path}:{self.line}"
        if self.inherits:
            return f"{rule} of the class's own __init__, and it has no __init__ of its own ({where})"
        if option in self.positional:
            return f"{rule}, but {option!r} is a positional one ({where})"
        return ""


def source_file(module: str) -> Path:
    """Return the file of a dotted module name, importing nothing, not even parent packages.

    Raises:
        SpecError: If there is no such module, it is not a Python file, or it may not be read.
    """
    path = _module_file(module)
    if not is_readable(path, *_installed()):
        raise SpecError(f"the module {module!r} lies outside of what is checked ({path}): it is not read")
    return path


@cache
def _installed() -> frozenset[Path]:
    """Return the folders of installed packages."""
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
    raise SpecError(f"no Python module {module!r} can be found from here")


def split_target(target: str) -> tuple[str, str]:
    """Split "package.module:attribute"."""
    module, _, attribute = target.partition(":")
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", target):
        raise SpecError(f"{target!r} must have the form package.module:Name")
    return module, attribute


def defining_target(target: str) -> str:
    """Follow `from module import Name` from "package.module:Name" to where the name is defined.

    Raises:
        SpecError: If a module on the way is not there, or the imports go round in a circle.
    """
    seen = [target]
    while (following := _imported_from(*split_target(seen[-1]))) is not None:
        if following in seen:
            raise SpecError(f"{target!r} is imported in a circle: {' -> '.join([*seen, following])}")
        seen.append(following)
    return seen[-1]


def _imported_from(module: str, attribute: str) -> str | None:
    """Return what a module's own attribute is imported from; None where it is defined there, or unknown."""
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
    """Read the signature of a class or function "package.module:Name" from its source."""
    module, attribute = split_target(target)
    path = source_file(module)
    return _read(path, attribute, path.stat().st_mtime_ns)


def read_literal(module: str, name: str) -> tuple[str, Any]:
    """Read the value of a module-level `name = literal`, and where it stands ("file:line").

    Raises:
        SpecError: If there is none, or it is more than a literal.
    """
    path = source_file(module)
    for node in _tree(path, path.stat().st_mtime_ns).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            try:
                return f"{path}:{node.lineno}", ast.literal_eval(node.value)
            except ValueError:
                raise SpecError(f"{path}:{node.lineno}: {name} must be a literal") from None
    raise SpecError(f"{path} has no module-level {name}")


@cache
def _tree(path: Path, _modified: int) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise SpecError(f"{path}:{error.lineno}: {error.msg}") from None


@cache
def _read(path: Path, attribute: str, modified: int) -> Signature:
    tree = _tree(path, modified)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            return _signature(path, tree, node)
    raise SpecError(f"{path} defines no class or function {attribute!r}")


def _signature(path: Path, tree: ast.Module, node: ast.ClassDef | ast.FunctionDef) -> Signature:
    function: ast.FunctionDef | None = node if isinstance(node, ast.FunctionDef) else None
    if isinstance(node, ast.ClassDef):
        methods = (item for item in node.body if isinstance(item, ast.FunctionDef))
        function = next((item for item in methods if item.name == "__init__"), None)
    doc = ast.get_docstring(node) or ""
    options, positional = {}, []
    if function is not None:
        options = _options(function, _argument_meanings(doc), path)
        positional = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return Signature(
        path,
        (function or node).lineno,
        doc,
        ast.get_docstring(tree) or "",
        options,
        tuple(positional[1:] if isinstance(node, ast.ClassDef) else positional),
        inherits=function is None,
    )


def _options(function: ast.FunctionDef, meanings: Mapping[str, str], path: Path) -> dict[str, Option]:
    if function.args.kwarg is not None:
        raise SpecError(
            f"{path}:{function.lineno}: **{function.args.kwarg.arg} would accept options and ignore them"
        )
    options = {}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        try:
            value = REQUIRED if default is None else ast.literal_eval(default)
        except ValueError:
            raise SpecError(
                f"{path}:{argument.lineno}: the default of {argument.arg!r} must be a literal"
            ) from None
        text = "object" if argument.annotation is None else ast.unparse(argument.annotation)
        meaning = meanings.get(argument.arg, "")
        options[argument.arg] = Option(argument.arg, _type(text, path, argument), text, value, meaning)
    return options


def _type(text: str, path: Path, argument: ast.arg) -> Any:
    if text[:1] in "'\"":
        raise SpecError(f"{path}:{argument.lineno}: the type of option {argument.arg!r} must not be quoted")
    names = set(re.findall(r"[A-Za-z_]\w*", re.sub(r"'[^']*'|\"[^\"]*\"", "", text)))
    if unknown := names - _ANNOTATION_NAMES.keys() - {"None", "True", "False"}:
        raise SpecError(
            f"{path}:{argument.lineno}: option {argument.arg!r} has the type {text}, "
            f"but only {', '.join(sorted(_ANNOTATION_NAMES))} can be checked (unknown: {', '.join(unknown)})"
        )
    return eval(text, {"__builtins__": {}}, dict(_ANNOTATION_NAMES))  # names were checked above


def _argument_meanings(doc: str) -> dict[str, str]:
    """Return the texts of a docstring's `Args:` section by argument name."""
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
