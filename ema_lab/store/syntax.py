"""Syntax hashes of source files: independent of formatting, comments and docstrings.

The hash of a file of this package also ignores the module paths of its own imports and the texts of error
messages. Neither changes a number, so that a moved file or a reworded error leaves results valid.
"""

import ast
import hashlib
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from ema_lab.store.syntax_cache import Imports as Imports
from ema_lab.store.syntax_cache import Syntax, SyntaxCache, cache_file

PACKAGE = __name__.partition(".")[0]
TARGET = re.compile(rf"{PACKAGE}(?:\.\w+)+:(\w+)")
_LOGGERS = {"logger", "logging", "warnings"}
_IGNORED = {"ctx", "kind"}  # fields that follow from others
_DOCUMENTED = {"Module", "ClassDef", "FunctionDef", "AsyncFunctionDef"}


@lru_cache(maxsize=4096)
def syntax_hash(source: str) -> str:
    """Return a hash of source code that ignores formatting, comments and docstrings."""
    return _hashed(_canonical(ast.parse(source)))


@lru_cache(maxsize=4096)
def package_hash(source: str) -> str:
    """Return a hash of a file of this package that also ignores import paths and error texts."""
    return package_syntax(source)[0]


@lru_cache(maxsize=4096)
def package_syntax(source: str) -> Syntax:
    """Return `package_hash` and `imported_names` of a file of this package, which is parsed once for both."""
    return _cache().get(source, _package_syntax)


@cache
def _cache() -> SyntaxCache:
    return SyntaxCache(cache_file(Path(__file__)))


def _package_syntax(source: str) -> Syntax:
    reduced = _Reduced()
    canonical = reduced.of(ast.parse(source))
    return _hashed((canonical, sorted(reduced.imported))), tuple(reduced.names)


def _hashed(canonical: object) -> str:
    return hashlib.sha256(repr(canonical).encode()).hexdigest()


def is_type_checking(node: ast.AST) -> bool:
    """Return whether a node is `if TYPE_CHECKING:`, whose body never runs."""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


class _Reduced:
    """Builder of a tree's nested tuples without all that changes no number; see `_canonical`.

    Attributes:
        imported: Names imported from the package, with the names that the file gives them.
        names: Level and dotted name of each import; see `imported_names`.
    """

    def __init__(self) -> None:
        self.imported: set[tuple[str, str]] = set()
        self.names: dict[tuple[int, str], None] = {}

    def of(self, node: ast.AST, with_texts: bool = True) -> Any:
        """Return a node as nested tuples; without texts, every string in it is empty."""
        if isinstance(node, ast.Constant):
            return self._constant(node.value, with_texts)
        name = type(node).__name__
        if name == "Raise" or (isinstance(node, ast.Call) and _is_logging(node)):
            with_texts = False
        result: list[Any] = [name]
        for field in node._fields:
            if field in _IGNORED:
                continue
            value = getattr(node, field, None)
            if isinstance(value, ast.AST):
                value = self.of(value, with_texts)
            elif isinstance(value, list):
                value = self._list(value, with_texts)
                if field == "body" and name in _DOCUMENTED and _is_text(value):
                    value = value[1:]
            if value is not None and value != () and not (name == "Assert" and field == "msg"):
                result.append((field, value))
        return ("Constant", ("value", "")) if name == "JoinedStr" and not with_texts else tuple(result)

    def _constant(self, value: object, with_texts: bool) -> Any:
        if isinstance(value, str):
            if target := TARGET.fullmatch(value):
                self.names[0, value.partition(":")[0]] = None
                value = target[1]
            if not with_texts:
                value = ""
        return ("Constant",) if value is None else ("Constant", ("value", value))

    def _list(self, items: list[Any], with_texts: bool) -> tuple[Any, ...]:
        result: list[Any] = []
        for item in items:
            if isinstance(item, ast.Import | ast.ImportFrom):
                result += self._import(item, with_texts)
            elif isinstance(item, ast.If) and is_type_checking(item):
                result += self._list(item.orelse, with_texts)
            else:
                result.append(self.of(item, with_texts) if isinstance(item, ast.AST) else item)
        return tuple(result)

    def _import(self, node: ast.Import | ast.ImportFrom, with_texts: bool) -> list[Any]:
        """Return an import from elsewhere as it is, and note the names that come from this package."""
        self.names |= dict.fromkeys(named_by(node))
        if isinstance(node, ast.Import):
            own = [alias for alias in node.names if alias.name.partition(".")[0] == PACKAGE]
            self.imported |= {(alias.name.rpartition(".")[2], alias.asname or PACKAGE) for alias in own}
            others = self._list([alias for alias in node.names if alias not in own], with_texts)
            return [("Import", ("names", others))] if others else []
        if not node.level and (node.module or "").partition(".")[0] != PACKAGE:
            return [self.of(node, with_texts)]
        self.imported |= {(alias.name, alias.asname or alias.name) for alias in node.names}
        return []


def _is_text(body: tuple[Any, ...]) -> bool:
    """Return whether statements begin with a docstring."""
    first: tuple[Any, ...] = body[0] if body else ()
    return (
        first[:1] == ("Expr",)
        and first[1][1][:1] == ("Constant",)
        and isinstance(dict(first[1][1][1:]).get("value"), str)
    )


def _is_logging(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and _leftmost_name(node.func) in _LOGGERS


def named_by(node: ast.Import | ast.ImportFrom) -> list[tuple[int, str]]:
    """Return the level (0: absolute) and the dotted name of each import of a statement.

    `from a import b` gives `a` and `a.b`, because `b` may be a module.
    """
    if isinstance(node, ast.Import):
        return [(0, alias.name) for alias in node.names]
    prefix = f"{node.module}." if node.module else ""
    return [
        (node.level, name) for name in (node.module or "", *(f"{prefix}{alias.name}" for alias in node.names))
    ]


def _leftmost_name(node: ast.AST) -> str:
    """Return `logging` for `logging.getLogger(...).warning`."""
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return node.id if isinstance(node, ast.Name) else ""


def _canonical(node: object) -> object:
    """Return a syntax tree as nested tuples without empty fields, equal on every Python version."""
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if name not in _IGNORED]
        if _has_docstring(node):
            fields = [(name, value[1:] if name == "body" else value) for name, value in fields]
        kept = [(name, _canonical(value)) for name, value in fields if value not in (None, [])]
        return (type(node).__name__, *kept)
    if isinstance(node, list):
        return tuple(map(_canonical, node))
    return node


def _has_docstring(node: ast.AST) -> bool:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
