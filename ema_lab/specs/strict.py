"""Base class of all specs: frozen, strictly typed, with suggestions for unknown keys. Ranges of numbers."""

import json
import math
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from ema_lab.characters import find_lookalikes, name_problem
from ema_lab.specs.messages import MISSING, plain_errors

STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, protected_namespaces=())
PositiveInt = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
AreaShare = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Spec(BaseModel):
    """Frozen, strictly typed value. An unknown key is an error that names the nearest known key."""

    model_config = STRICT

    @model_validator(mode="wrap")
    @classmethod
    def _suggest_known_keys(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(value)
        except ValidationError as error:
            items = error.errors(include_url=False)
            raise merged(error.title, items, cls.model_fields, value, cls) from None


def with_suggestions(error: ValidationError, known: Iterable[str]) -> ValidationError:
    """Return `error` with our messages, which suggest the nearest of the `known` keys for an unknown key."""
    return merged(error.title, error.errors(include_url=False), known)


def merged(
    title: str,
    items: Iterable[ErrorDetails],
    known: Iterable[str] = (),
    value: object = None,
    form: type[BaseModel] | None = None,
) -> ValidationError:
    """Return one error with all `items`, rewritten to our messages; see `plain_errors`."""
    details = [
        InitErrorDetails(type=MISSING if message == MISSING else problem(message), loc=loc, input=given)
        for loc, message, given in plain_errors(list(items), known, value, form)
    ]
    return ValidationError.from_exception_data(title, details)


def problem(message: str) -> PydanticCustomError:
    """Return a pydantic error whose message is kept verbatim."""
    return PydanticCustomError("problem", "{message}", {"message": message})


def invalid(title: str, message: str, *loc: str | int, value: object = None) -> ValidationError:
    """Return a validation error with one problem at `loc`, relative to the model that raises it."""
    details = InitErrorDetails(type=problem(message), loc=loc, input=value)
    return ValidationError.from_exception_data(title, [details])


def checked_name(name: str) -> str:
    """Return a valid name (of a row, an axis or a label) unchanged.

    Raises:
        PydanticCustomError: If the name is empty, has invisible characters, or begins or ends with a blank.
    """
    if reason := name_problem(name):
        raise problem(f"{reason}, got {name!r}")
    return name


def check_distinct(names: Any) -> Any:
    """Return names unchanged if no two of them look the same.

    Raises:
        PydanticCustomError: If two names look the same in print.
    """
    if pair := find_lookalikes(list(names)):
        raise problem(f"{pair[0]!a} and {pair[1]!a} look the same in print: rename one of them")
    return names


Name = Annotated[str, AfterValidator(checked_name)]
Distinct = AfterValidator(check_distinct)  # for a mapping by name, or a list of names


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and normalised numbers: 1.0 becomes 1.

    Raises:
        ValueError: If a number is not finite.
    """
    if type(value) is int:  # a seed, for each cell of a grid
        return str(value)
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
