"""Names of the registry in a spec, with the options that differ from their default."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from ema_lab.errors import SpecError
from ema_lab.registry.channels import CHANNELS_AS
from ema_lab.registry.registry import Registry
from ema_lab.specs.strict import Spec, invalid, merged, with_suggestions


class NamedSpec(Spec):
    """Registered name with the options that differ from their default.

    Attributes:
        name: Registered name, or package.module:Name of your own.
        options: Options that differ from their default.
    """

    name: str
    options: Mapping[str, Any] = {}

    def resolved(self) -> dict[str, Any]:
        """Return the spec as plain data without options at their default."""
        return {"name": self.name, **self.options}

    @property
    def names(self) -> tuple[str, ...]:
        """Name of the module and of the modules that it wraps with `of`."""
        inner = self.options.get("of")
        below = NamedSpec(name=inner["name"], options=_without_name(inner)).names if inner else ()
        return (self.name, *below)


def _without_name(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != "name"}


def named(registry: Registry, value: object) -> NamedSpec:
    """Parse `name` or `{name: ..., option: ...}` and check the options against the signature.

    Raises:
        ValidationError: If the value, the name or an option is invalid.
    """
    if isinstance(value, NamedSpec):
        return value
    if value is None:
        raise invalid(registry.kind, f"must name one of {', '.join(registry)}, not null")
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise invalid(registry.kind, "must be a name or a mapping with a name", value=value)
    name = value["name"]
    options = _without_name(value)
    if "of" in options:
        options["of"] = _resolve_wrapped(registry, options["of"])
    return NamedSpec(name=name, options=checked_options(registry, name, options, "name"))


def _resolve_wrapped(registry: Registry, value: object) -> dict[str, Any]:
    """Parse the spec that a wrapper wraps with `of`."""
    try:
        return named(registry, value).resolved()
    except ValidationError as error:
        details = [{**item, "loc": ("of", *item["loc"])} for item in error.errors(include_url=False)]
        raise merged(registry.kind, details) from None  # type: ignore[arg-type]


def checked_options(
    registry: Registry, name: str, options: Mapping[str, Any], *name_key: str, other_keys: Iterable[str] = ()
) -> dict[str, Any]:
    """Check options and return those that differ from their defaults.

    Args:
        registry: Registry of `name`.
        name: Registered name.
        options: Options to check.
        name_key: Location of the name in the spec, for errors about the name.
        other_keys: Further valid keys of the spec, suggested for an unknown option.

    Raises:
        ValidationError: If an option or the name is invalid. Locations are relative to the spec.
    """
    try:
        return registry.check(name, options)
    except SpecError as error:
        raise invalid(registry.kind, str(error), *name_key, value=name) from None
    except ValidationError as error:
        known = registry.options(name, options.get(CHANNELS_AS))
        raise with_suggestions(error, [*known, *other_keys]) from None
