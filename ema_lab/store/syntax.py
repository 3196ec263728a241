"""Syntax hashes of source files: independent of formatting, comments and docstrings.

The hash of a file of this package also ignores the module paths of its own imports and the texts of error
messages. Neither changes a number, so that a moved file or a reworded error leaves results valid.
"""

import ast
import hashlib
import re
from functools import lru_cache

PACKAGE = __name__.partition(".")[0]
TARGET = re.compile(rf"{PACKAGE}(?:\.\w+)+:(\w+)")
_LOGGERS = {"logger", "logging", "warnings"}


@lru_cache(maxsize=4096)
def syntax_hash(source: str) -> str:
    """Return a hash of source code that ignores formatting, comments and docstrings."""
    return _hashed(_canonical(ast.parse(source)))


@lru_cache(maxsize=4096)
def package_hash(source: str) -> str:
    """Return a hash of a file of this package that also ignores import paths and error texts."""
    reduced = _Reduced()
    tree = reduced.visit(ast.parse(source))
    return _hashed((_canonical(tree), sorted(reduced.imported)))


def _hashed(canonical: object) -> str:
    return hashlib.sha256(repr(canonical).encode()).hexdigest()


def is_type_checking(node: ast.AST) -> bool:
    """Return whether a node is `if TYPE_CHECKING:`, whose body never runs."""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


class _Reduced(ast.NodeTransformer):
    """Remove from a tree all that changes no number, and collect the names imported from the package."""

    def __init__(self) -> None:
        self.imported: set[tuple[str, str]] = set()

    def visit_Import(self, node: ast.Import) -> ast.Import | None:
        own = [alias for alias in node.names if alias.name.partition(".")[0] == PACKAGE]
        self.imported |= {(alias.name.rpartition(".")[2], alias.asname or PACKAGE) for alias in own}
        node.names = [alias for alias in node.names if alias not in own]
        return node if node.names else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom | None:
        if not node.level and (node.module or "").partition(".")[0] != PACKAGE:
            return node
        self.imported |= {(alias.name, alias.asname or alias.name) for alias in node.names}
        return None

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.AST]:
        if is_type_checking(node):
            return [item for child in node.orelse for item in _as_list(self.visit(child))]
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return self.generic_visit(_WithoutTexts().visit(node))

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Attribute) and _leftmost_name(node.func) in _LOGGERS:
            node = _WithoutTexts().visit(node)
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and (target := TARGET.fullmatch(node.value)):
            return ast.Constant(target.group(1))
        return node


class _WithoutTexts(ast.NodeTransformer):
    """Replace every string of a tree by the empty string."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")


def _as_list(visited: ast.AST | list[ast.AST] | None) -> list[ast.AST]:
    return visited if isinstance(visited, list) else [visited] if visited is not None else []


def _leftmost_name(node: ast.AST) -> str:
    """Return `logging` for `logging.getLogger(...).warning`."""
    while isinstance(node, ast.Attribute | ast.Call):
        node = node.value if isinstance(node, ast.Attribute) else node.func
    return node.id if isinstance(node, ast.Name) else ""


def _canonical(node: object) -> object:
    """Return a syntax tree as nested tuples without empty fields, equal on every Python version."""
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if name not in {"ctx", "kind"}]
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
