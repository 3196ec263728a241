"""Rules of options: each has an explanation, and none is accepted and then ignored."""

import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from ema_lab.contract.check import NotApplicableError, RuleError
from ema_lab.registry.signature import REQUIRED, Option
from ema_lab.wording import number_of

SOME_INTEGERS = (2, 3, 4, 5, 7, 8, 1)
SOME_NUMBERS = (0.5, 1.0, 2.0, 4.0, 8.0)


def options_are_explained(options: Mapping[str, Option]) -> str:
    """Check that every option has a type and an explanation; return the number of options."""
    if not options:
        raise NotApplicableError("no options")
    if untyped := [name for name, option in options.items() if option.type is object]:
        raise RuleError(f"option {untyped[0]!r} has no type: its values cannot be checked")
    if mute := [name for name, option in options.items() if not option.meaning]:
        raise RuleError(f"option {mute[0]!r} has no line under `Args:` of the docstring")
    return number_of(len(options), "option")


def alternatives(option: Option, current: object) -> list[object]:
    """Return other values to try for an option; empty if its type suggests none."""
    values: list[object] = []
    for kind in _kinds(option.type):
        values += _alternatives(kind, current)
    return [value for value in dict.fromkeys(values) if value != current or type(value) is not type(current)]


def _kinds(kind: Any) -> Iterator[Any]:
    if get_origin(kind) in (Union, types.UnionType):
        for part in get_args(kind):
            yield from _kinds(part)
    else:
        yield kind


def _alternatives(kind: Any, current: object) -> list[object]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if kind is bool:
        return [not current] if isinstance(current, bool) else [True, False]
    if kind is int and (current is None or current is REQUIRED):
        return list(SOME_INTEGERS)
    if kind is int and isinstance(current, int):
        near = [2 * current, current // 2, current + 2, current // 4, current // 8, 1]
        return [value for value in near if value > 0 or current < 1]
    if kind is float and (current is None or current is REQUIRED):
        return list(SOME_NUMBERS)
    if kind is float and isinstance(current, int | float):
        return [2.0 * current, current / 2, 100.0 * current, current / 100] if current else [1.0, 0.5]
    return []


def effect_of(option: Option, current: object, changes: Callable[[object], bool]) -> str:
    """Try other values of an option, and return the first effect as a line of text.

    A value that raises a ValueError counts as refused. At least one accepted value must make a difference.

    Args:
        option: The option.
        current: The option's value in the reference module.
        changes: Whether a value makes a difference; raises whatever building or running the module raises.

    Raises:
        RuleError: If some values are accepted and none of them makes a difference.
        NotApplicableError: If the option's type suggests no other value.
    """
    tried = alternatives(option, current)
    if not tried:
        raise NotApplicableError(f"{option.name}: no other value is known to try")
    accepted: list[object] = []
    errors: list[Exception] = []
    for value in tried:
        try:
            if changes(value):
                return f"{option.name}={value!r} changes it"
            accepted.append(value)
        except Exception as error:  # a refused value says nothing about the others
            errors.append(error)
    if accepted:
        values = ", ".join(map(repr, accepted))
        raise RuleError(f"option {option.name!r} changes nothing: tried {values} in place of {current!r}")
    if wrong := [error for error in errors if not isinstance(error, ValueError)]:
        raise wrong[0]
    return f"{option.name} refuses {', '.join(map(repr, tried))}"
