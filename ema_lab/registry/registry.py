"""Named things that a spec can ask for, looked up, checked and explained without importing them."""

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

from ema_lab.errors import EmaLabError, SpecError, UnknownNameError, located
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

SHOWN_NAMES = 24


@dataclass(frozen=True)
class Entry:
    """Where the code behind a name is, and the arguments that the name already fixes.

    `distribution` is the installed package that declares the name, empty for our own.
    """

    target: str
    fixed: Mapping[str, object] = field(default_factory=dict)
    distribution: str = ""

    def load(self) -> Any:
        """Import and return the class or function."""
        module, attribute = split_target(self.target)
        source_file(module)  # says in one line what is missing
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))  # a user's own module lies beside their ablations
        try:
            return getattr(importlib.import_module(module), attribute)
        except EmaLabError:
            raise
        except (Exception, SystemExit) as error:  # importing may run anything
            raise SpecError(f"{self.target} cannot be imported: {located(error)}") from error


class Registry(Mapping[str, Entry]):
    """A fixed table of names, and those that installed packages add.

    "package.module:Name" is understood too and needs no line anywhere.

    Args:
        kind: What the names stand for, for messages.
        table: Our own names.
        group: The entry point group in which packages declare further names; None reads none.
        families: The code behind every name that starts with a prefix, and the argument that takes the
            rest of the name.
        leading: The number of arguments that `build` passes by position.
        takes_channels: Whether the only one of them is a number of channels. The option `channels_as`
            then names the parameter that takes it, where that is not the first one.
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
            owners = " and ".join(entry.distribution or "ema-lab itself" for entry in offers)
            rule = "uninstall one, or name its code as package.module:Name"
            raise SpecError(f"the {self.kind} {name!r} is declared by {owners}; {rule}")
        entry = offers[0]
        with suppress(SpecError):  # what is wrong with it is said where it is read
            entry = replace(entry, target=defining_target(entry.target)) if entry.distribution else entry
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._table, *self._declared()}))

    def __len__(self) -> int:
        return len({*self._table, *self._declared()})

    def _declared(self) -> Mapping[str, tuple[Entry, ...]]:
        return installed(self.group) if self.group else {}

    def knows(self, name: str) -> bool:
        """Whether a name without a colon stands for something here."""
        return name in [*self] or name.startswith(tuple(self._families))

    def signature(self, name: str) -> Signature:
        """Return what the code behind `name` takes and says about itself."""
        return read_signature(self[name].target)

    def options(self, name: str, channels_as: object = None) -> dict[str, Option]:
        """Return the options that a spec may set: parameters that the name and `build` leave open.

        Args:
            name: The name.
            channels_as: The parameter that takes the number of channels, where it is not the first.
        """
        entry, signature = self[name], self.signature(name)
        taken = [*self._passed(signature, channels_as), *entry.fixed]
        found = {**signature.positional_options, **signature.options}
        return {key: option for key, option in found.items() if key not in taken}

    def _passed(self, signature: Signature, channels_as: object) -> tuple[object, ...]:
        """Return the parameters that `build` gives a value without being asked."""
        if channels_as is not None and self.takes_channels:
            return (channels_as,)
        return signature.positional[: self.leading]

    def check(self, name: str, options: Mapping[str, object]) -> dict[str, Any]:
        """Return `options` with strict types, those at their default left out.

        Raises:
            pydantic.ValidationError: With one error per wrong option.
            SpecError: If a parameter is given that cannot be an option as it is declared, or if it is not
                known which parameter takes the number of channels.
        """
        channels_as, given = self._split(name, options)
        known = self.options(name, channels_as)
        checked = _options_model(self[name].target, known).model_validate(given)
        kept = {
            key: value
            for key, value in checked.model_dump().items()
            if value != known[key].default or _truths(value) != _truths(known[key].default)
        }
        return kept | ({} if channels_as is None else {CHANNELS_AS: channels_as})

    def build(self, name: str, *arguments: object, **options: object) -> Any:
        """Call the code behind `name`.

        Raises:
            SpecError: If there is no such option.
        """
        channels_as, given = self._split(name, options)
        known = self.options(name, channels_as)
        if unknown := [option for option in given if option not in known]:
            raise SpecError(unknown_name(f"option of {self.kind} {name!r}", unknown[0], known))
        entry = self[name]
        if channels_as is not None:
            return entry.load()(**{str(channels_as): arguments[0]}, **entry.fixed, **given)
        return entry.load()(*arguments, **entry.fixed, **given)

    def _split(self, name: str, options: Mapping[str, object]) -> tuple[object, dict[str, object]]:
        """Return the parameter that takes the channels (None for the first), and the other options."""
        given, channels_as, what = dict(options), None, f"{self.kind} {name!r}"
        signature = self.signature(name)
        if self.takes_channels:
            channels_as = given.pop(CHANNELS_AS, None)
            check_channels(what, signature, channels_as)
        self._refuse_what_is_declared_otherwise(what, self.options(name, channels_as), signature, given)
        passed = [*self._passed(signature, channels_as), *self[name].fixed]
        if needed := [one for one in signature.required if one not in passed]:
            raise SpecError(f"{what} cannot be built: {signature.why_not(needed[0])}")
        return channels_as, given

    @staticmethod
    def _refuse_what_is_declared_otherwise(
        what: str, known: Iterable[str], signature: Signature, given: Iterable[str]
    ) -> None:
        for option in given:
            if option not in known and (reason := signature.why_not(option)):
                raise SpecError(f"{what} has no option {option!r}: {reason}")


def _truths(value: object) -> object:
    """Return where in a value truths are: Python takes True for 1, but a module need not."""
    if isinstance(value, Mapping):
        return {key: _truths(item) for key, item in value.items()}
    return [_truths(item) for item in value] if isinstance(value, list | tuple) else isinstance(value, bool)


@cache
def installed(group: str) -> Mapping[str, tuple[Entry, ...]]:
    """Return what installed packages declare in an entry point group, by name; read once per process."""
    found: dict[str, tuple[Entry, ...]] = {}
    for point in importlib.metadata.entry_points(group=group):
        owner = point.dist.name if point.dist else "a package without a name"
        found[point.name] = (*found.get(point.name, ()), Entry(point.value, distribution=owner))
    return found


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that stands for nothing: what is wrong, the nearest, what exists."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"no {kind} is named {name!r}; {hint}known: {', '.join(names[:SHOWN_NAMES]) or 'none'}{more}"


_MODELS: dict[tuple[str, str], type[BaseModel]] = {}


def _options_model(target: str, options: Mapping[str, Option]) -> type[BaseModel]:
    """Return the form of options, made once; a default may be a list, so that its text is the key."""
    key = (target, repr(options))
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
