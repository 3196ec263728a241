"""The base of every spec: frozen, strictly typed, and helpful about unknown keys."""

import json
import math
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from ema_lab.characters import name_problem, twins
from ema_lab.registry.registry import unknown_name

STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())


class Spec(BaseModel):
    """A frozen value. Unknown keys are errors that name the nearest known one."""

    model_config = STRICT

    @model_validator(mode="wrap")
    @classmethod
    def _suggest_known_keys(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            raise with_suggestions(error, cls.model_fields) from None


def with_suggestions(error: ValidationError, known: Iterable[str]) -> ValidationError:
    """Return `error` in our words; an unknown key names the nearest of the `known` ones."""
    return merged(error.title, error.errors(include_url=False), known)


def merged(title: str, items: Iterable[ErrorDetails], known: Iterable[str] = ()) -> ValidationError:
    """Return one error that holds all `items`, their messages in the form in which they are shown."""
    details = []
    items = list(items)
    places = [item["loc"] for item in items]
    for item in items:
        size = len(item["loc"])
        if item["type"] == "too_short" and any(p[:size] == item["loc"] and len(p) > size for p in places):
            continue  # pydantic counts a wrong item as absent: the item's own error says it all
        kind: str | PydanticCustomError = "missing"
        if item["type"] == "problem":
            kind = problem(item["msg"])
        elif item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
            kind = problem(unknown_name("key", str(item["loc"][0]), known))
        elif item["type"] != "missing":
            kind = problem(f"{item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}")
        details.append(InitErrorDetails(type=kind, loc=item["loc"], input=item["input"]))
    return ValidationError.from_exception_data(title, details)


def problem(message: str) -> PydanticCustomError:
    """Return an error whose text is shown as it is."""
    return PydanticCustomError("problem", "{message}", {"message": message})


def invalid(title: str, message: str, *loc: str | int, value: object = None) -> ValidationError:
    """Return one error at a place below the model that raises it."""
    details = InitErrorDetails(type=problem(message), loc=loc, input=value)
    return ValidationError.from_exception_data(title, [details])


def checked_name(name: str) -> str:
    """Return the name of a row, a label or the like, as it is.

    Raises:
        PydanticCustomError: If a reader could not see all of it, or where it ends.
    """
    if found := name_problem(name):
        raise problem(f"{found}, got {name!r}")
    return name


def apart(names: Any) -> Any:
    """Return names that a reader can tell apart.

    Raises:
        PydanticCustomError: If two of them look the same in print.
    """
    if pair := twins(list(names)):
        raise problem(f"{pair[0]!a} and {pair[1]!a} look the same in print: rename one of them")
    return names


Name = Annotated[str, AfterValidator(checked_name)]
Apart = AfterValidator(apart)  # of a mapping or a list of names


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and numbers in one normal form (1.0 is 1; no NaN)."""
    return json.dumps(_normal(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _normal(value: object) -> object:
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a spec holds finite numbers only, got {value}")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return value
