"""Option types, read from the syntax tree of their annotations without evaluating code."""

import ast
import operator
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any, Literal, Union

_TYPES: Mapping[str, Any] = {
    "bool": bool, "dict": dict, "float": float, "int": int, "list": list, "object": object,
    "str": str, "tuple": tuple, "Any": Any, "Mapping": Mapping, "Dict": dict, "List": list, "Tuple": tuple,
}  # fmt: skip
_FORMS = ("Literal", "Optional", "Union")
_MODULES = {"typing", "t", "collections.abc", "abc", "builtins"}
_NUM_PARAMETERS = {"list": (1,), "List": (1,), "dict": (2,), "Dict": (2,), "Mapping": (2,)}
KNOWN = sorted({*_TYPES, *_FORMS})


class AnnotationError(ValueError):
    """Unsupported annotation. The message names the unsupported part and the supported forms."""


def type_of(annotation: ast.expr) -> Any:
    """Return the type of an annotation made of names, constants, subscripts, tuples and `|`.

    Raises:
        AnnotationError: If the annotation has any other part.
    """
    match annotation:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str()):
            raise AnnotationError("must not be quoted")
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _union([type_of(left), type_of(right)])
        case ast.Subscript(value=value, slice=parameters):
            return _subscript(_name(value), list(_elements(parameters)))
    if (name := _name(annotation)) in _TYPES:
        return _TYPES[name]
    raise _unknown(annotation)


def _name(node: ast.expr) -> str:
    """Return the last part of a name: `Literal` for both `Literal` and `typing.Literal`."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=module, attr=name) if _is_module(module):
            return name
    raise _unknown(node)


def _is_module(node: ast.expr) -> bool:
    return isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in _MODULES


def _elements(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.Tuple):
        yield from node.elts
    else:
        yield node


def _subscript(name: str, parameters: list[ast.expr]) -> Any:
    if name == "Literal" and parameters:
        values = tuple(_literal(node) for node in parameters)
        return Literal[values]
    if name == "Union" and parameters:
        return _union([type_of(node) for node in parameters])
    if name == "Optional" and len(parameters) == 1:
        return _union([type_of(parameters[0]), None])
    if name in ("tuple", "Tuple"):
        return _TYPES[name][tuple(_tuple_parameter(node) for node in parameters)]
    if len(parameters) in _NUM_PARAMETERS.get(name, ()):
        return _TYPES[name][tuple(type_of(node) for node in parameters)]
    raise AnnotationError(f"has {name}[{', '.join(map(ast.unparse, parameters))}], which is not a type")


def _tuple_parameter(node: ast.expr) -> Any:
    return ... if isinstance(node, ast.Constant) and node.value is ... else type_of(node)


def _union(parts: list[Any]) -> Any:
    return reduce(operator.or_, (type(None) if part is None else Union[part] for part in parts))  # noqa: UP007


def _literal(node: ast.expr) -> str | int | bool | None:
    value: object = ...
    match node:
        case ast.Constant(value=value):
            pass
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))):
            value = -number
    if value is None or isinstance(value, str | int):
        return value
    raise AnnotationError(f"has {ast.unparse(node)} in a Literal, which takes texts, whole numbers and None")


def _unknown(node: ast.expr) -> AnnotationError:
    rule = f"but only {', '.join(KNOWN)}, [...] and | can be checked"
    return AnnotationError(f"has the type {_short(node)}, {rule}")


def _short(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else text[:57] + "..."
