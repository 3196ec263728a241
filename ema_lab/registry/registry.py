"""Registries of named modules: lookup, option checks and help, all without importing the code."""

import difflib
import importlib.metadata
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

from ema_lab.errors import EmaLabError, SpecError, UnknownNameError, error_summary
from ema_lab.registry.channels import CHANNELS_AS, check_channels
from ema_lab.registry.signature import (
    REQUIRED,
    Option,
    Signature,
    defining_target,
    read_signature,
    source_file,
    split_target,
)

MAX_LISTED_NAMES = 24
GROUP_PREFIX = "ema_lab."


@dataclass(frozen=True)
class Entry:
    """Code location of a registered name, with the arguments that the name fixes.

    Attributes:
        target: The code, as "package.module:Name".
        fixed: Arguments that the name fixes.
        distribution: Installed package that declares the name. Empty for our own names.
    """

    target: str
    fixed: Mapping[str, object] = field(default_factory=dict)
    distribution: str = ""

    def load(self) -> Any:
        """Import and return the class or function.

        Raises:
            SpecError: If the import fails.
        """
        module, attribute = split_target(self.target)
        source_file(module)  # raises a one-line error for a missing module
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))  # a user's own module is next to their ablations
        try:
            return getattr(importlib.import_module(module), attribute)
        except EmaLabError:
            raise
        except (Exception, SystemExit) as error:  # an import may raise any error
            raise SpecError(f"{self.target} cannot be imported: {error_summary(error)}") from error


class Registry(Mapping[str, Entry]):
    """Table of our own names plus the names that installed packages declare.

    "package.module:Name" is a valid name too and needs no registration.

    Args:
        kind: Noun for a registered name in messages, such as "attention".
        table: Our own names.
        group: Entry point group in which packages declare further names. None reads no entry points.
        families: Target by name prefix, and the argument that takes the rest of the name.
        leading: Number of arguments that `build` passes by position.
        takes_channels: Whether the single positional argument is a number of channels. The option
            `channels_as` then names its parameter, unless the parameter comes first.
    """

    def __init__(
        self,
        kind: str,
        table: Mapping[str, str | Entry],
        group: str | None = None,
        families: Mapping[str, tuple[str, str]] | None = None,
        *,
        leading: int = 1,
        takes_channels: bool = False,
    ) -> None:
        self.kind = kind
        self.group = group
        self.leading = leading
        self.takes_channels = takes_channels
        self._table = {k: v if isinstance(v, Entry) else Entry(v) for k, v in table.items()}
        self._families = families or {}

    def __getitem__(self, name: str) -> Entry:
        if ":" in name:
            return Entry(defining_target(name))
        for prefix, (target, argument) in self._families.items():
            if name.startswith(prefix):
                return Entry(target, {argument: name.removeprefix(prefix)})
        offers = [*([self._table[name]] if name in self._table else []), *self._declared().get(name, ())]
        if not offers:
            known = [*self, *(f"{prefix}..." for prefix in self._families)]
            raise UnknownNameError(unknown_name(self.kind, name, known))
        if len(offers) > 1:
            owners = " and ".join(sorted(entry.distribution or "ema-lab itself" for entry in offers))
            rule = "uninstall one, or name its code as package.module:Name"
            raise SpecError(f"the {self.kind} {name!r} is declared by {owners}; {rule}")
        entry = offers[0]
        with suppress(SpecError):  # reading the signature raises the same error with more context
            entry = replace(entry, target=defining_target(entry.target)) if entry.distribution else entry
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._table, *self._declared()}))

    def __len__(self) -> int:
        return len({*self._table, *self._declared()})

    def _declared(self) -> Mapping[str, tuple[Entry, ...]]:
        return installed(self.group) if self.group else {}

    def knows(self, name: str) -> bool:
        """Return whether the registry has a name without a colon."""
        return name in [*self] or name.startswith(tuple(self._families))

    def signature(self, name: str) -> Signature:
        """Return the signature of the code behind `name`: parameters and docstrings."""
        return read_signature(self[name].target)

    def options(self, name: str, channels_as: object = None) -> dict[str, Option]:
        """Return the options that a spec may set: parameters that neither the name nor `build` fills.

        Args:
            name: A registered name, or "package.module:Name".
            channels_as: Parameter that takes the number of channels, if not the first.
        """
        entry = self[name]
        return self._options(entry, read_signature(entry.target), channels_as)

    def _options(self, entry: Entry, signature: Signature, channels_as: object) -> dict[str, Option]:
        taken = [*self._passed_parameters(signature, channels_as), *entry.fixed]
        available = {**signature.positional_options, **signature.options}
        return {key: option for key, option in available.items() if key not in taken}

    def _passed_parameters(self, signature: Signature, channels_as: object) -> tuple[object, ...]:
        """Return the parameters that `build` fills by position."""
        if channels_as is not None and self.takes_channels:
            return (channels_as,)
        return signature.positional[: self.leading]

    def check(self, name: str, options: Mapping[str, object]) -> dict[str, Any]:
        """Check `options` with strict types and return them without those at their default.

        Raises:
            pydantic.ValidationError: With one error per wrong option.
            SpecError: If a parameter's declaration rules it out as an option, or if the parameter for
                the number of channels is unknown.
        """
        entry = self[name]
        channels_as, settings, known = self._split(name, entry, options)
        checked = _options_model(entry.target, known).model_validate(settings)
        kept = {
            key: value
            for key, value in checked.model_dump().items()
            if value != known[key].default or _boolean_pattern(value) != _boolean_pattern(known[key].default)
        }
        return kept | ({} if channels_as is None else {CHANNELS_AS: channels_as})

    def build(self, name: str, *arguments: object, **options: object) -> Any:
        """Call the code behind `name` with arguments and options.

        Raises:
            SpecError: If an option is unknown.
        """
        entry = self[name]
        channels_as, settings, known = self._split(name, entry, options)
        if unknown := [option for option in settings if option not in known]:
            raise SpecError(unknown_name(f"option of {self.kind} {name!r}", unknown[0], known))
        if channels_as is not None:
            return entry.load()(**{str(channels_as): arguments[0]}, **entry.fixed, **settings)
        return entry.load()(*arguments, **entry.fixed, **settings)

    def _split(
        self, name: str, entry: Entry, options: Mapping[str, object]
    ) -> tuple[object, dict[str, object], dict[str, Option]]:
        """Return the parameter of the channels (None: the first), the other options, and all that exist."""
        settings, channels_as, subject = dict(options), None, f"{self.kind} {name!r}"
        signature = read_signature(entry.target)
        if self.takes_channels:
            channels_as = settings.pop(CHANNELS_AS, None)
            check_channels(subject, signature, channels_as)
        known = self._options(entry, signature, channels_as)
        self._reject_non_options(subject, known, signature, settings)
        passed = [*self._passed_parameters(signature, channels_as), *entry.fixed]
        if needed := [parameter for parameter in signature.required if parameter not in passed]:
            raise SpecError(f"{subject} cannot be built: {signature.rejection_reason(needed[0])}")
        return channels_as, settings, known

    @staticmethod
    def _reject_non_options(
        subject: str, known: Iterable[str], signature: Signature, settings: Iterable[str]
    ) -> None:
        for option in settings:
            if option not in known and (reason := signature.rejection_reason(option)):
                raise SpecError(f"{subject} has no option {option!r}: {reason}")


def _boolean_pattern(value: object) -> object:
    """Return the nested positions of booleans, because True == 1 in Python but not for a module."""
    if isinstance(value, Mapping):
        return {key: _boolean_pattern(item) for key, item in value.items()}
    return (
        [_boolean_pattern(item) for item in value]
        if isinstance(value, list | tuple)
        else isinstance(value, bool)
    )


def installed(group: str) -> Mapping[str, tuple[Entry, ...]]:
    """Return the entries that installed packages declare in an entry point group, by name."""
    return all_installed().get(group, {})


@cache
def all_installed() -> Mapping[str, Mapping[str, tuple[Entry, ...]]]:
    """Return the entries that installed packages declare in this package's groups, by group and name.

    One search serves all groups, because it reads a file of every installed package.
    """
    points = importlib.metadata.entry_points()
    groups: dict[str, dict[str, tuple[Entry, ...]]] = {}
    for group in (name for name in points.groups if name.startswith(GROUP_PREFIX)):
        entries = groups.setdefault(group, {})
        for point in points.select(group=group):
            owner = point.dist.name if point.dist else "a package without a name"
            entries[point.name] = (*entries.get(point.name, ()), Entry(point.value, distribution=owner))
    return groups


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest known name and all known names."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    more = f" and {len(names) - MAX_LISTED_NAMES} more" if len(names) > MAX_LISTED_NAMES else ""
    return f"no {kind} is named {name!r}; {hint}known: {', '.join(names[:MAX_LISTED_NAMES]) or 'none'}{more}"


_MODELS: dict[tuple[str, str], type[BaseModel]] = {}


def _options_model(target: str, options: Mapping[str, Option]) -> type[BaseModel]:
    """Return the pydantic model of a target's options, cached."""
    key = (target, repr(options))  # a default may be a list, which has no hash
    if key not in _MODELS:
        _MODELS[key] = _new_options_model(target, options)
    return _MODELS[key]


def _new_options_model(target: str, options: Mapping[str, Option]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        name: (option.type, ... if option.default is REQUIRED else option.default)
        for name, option in options.items()
    }
    settings = ConfigDict(
        strict=True, extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )
    return create_model(target.partition(":")[2], __config__=settings, **fields)
