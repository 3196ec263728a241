"""The rule for the parameter of an attention module that takes the number of channels."""

import re
from collections.abc import Collection

from ema_lab.errors import SpecError
from ema_lab.registry.signature import Signature

CHANNELS_AS = "channels_as"
_NOUNS = {
    *("c", "ch", "chs", "chan", "chans", "channel", "channels", "nc", "cin", "inc"),
    *("inchannel", "inchannels", "dim", "dims", "indim", "feature", "features", "feat", "feats"),
    *("filters", "plane", "planes", "inplane", "inplanes", "inp", "inchans"),
}
_MODIFIERS = {
    *("n", "num", "number", "of", "in", "input", "out", "output", "gate", "hidden", "embed", "embedding"),
    *("base", "total", "x"),
}


def means_channels(name: str) -> bool:
    """Whether a parameter's name says that it is a number of channels, as `in_planes` and `c1` do."""
    parts = [re.sub(r"\d+$", "", part) for part in name.lower().strip("_").split("_")]
    known = all(part in _NOUNS | _MODIFIERS for part in parts)
    return name == "d_model" or (known and any(part in _NOUNS for part in parts))


def check_channels(what: str, signature: Signature, channels_as: object) -> None:
    """Refuse a definition whose first parameter is not the number of channels, unless one is named.

    Args:
        what: The kind and the name, for messages.
        channels_as: The parameter that takes the number of channels; None for the first.

    Raises:
        SpecError: With how to say which parameter it is.
    """
    named = {*signature.positional_options, *signature.unreadable, *signature.options}
    if channels_as is not None:
        _check_choice(what, signature, channels_as, named)
        return
    if signature.inherits:
        return
    reason = _why_not_first(signature)
    if reason:
        choice = next(iter(_candidates(signature)), "PARAMETER")
        target = what.partition(" ")[2]
        hint = f"say which parameter does: {{name: {target}, {CHANNELS_AS}: {choice}}}"
        if not named - {*signature.positional[:1]}:
            hint = "write a subclass whose __init__ takes it"
        elif choice == "PARAMETER":
            hint += ", or write a subclass whose __init__ takes it first"
        raise SpecError(f"{what} {reason} ({signature.place}); {hint}")


def _check_choice(what: str, signature: Signature, choice: object, named: Collection[str]) -> None:
    if not isinstance(choice, str) or choice not in named:
        parameters = ", ".join(dict.fromkeys([*signature.positional, *signature.options])) or "none"
        rule = f"{CHANNELS_AS} must name one of its parameters ({parameters}), got {choice!r}"
        raise SpecError(f"{what}: {rule} ({signature.place})")
    if signature.positional[:1] == (choice,) and not _why_not_first(signature):
        raise SpecError(f"{what}: {CHANNELS_AS} changes nothing: {choice!r} comes first already")


def _candidates(signature: Signature) -> list[str]:
    return [name for name in [*signature.positional[1:], *signature.options] if means_channels(name)]


def _why_not_first(signature: Signature) -> str:
    if not signature.positional:
        return "has no parameter for the number of channels"
    first = signature.positional[0]
    words = f"would get the number of channels as {first!r}, its first parameter, "
    option = signature.positional_options.get(first)
    if option is not None and option.type in (bool, str, float):
        return f"{words}which is a {option.type_text}"
    if first in signature.switches:
        return f"{words}which is on or off"
    if not means_channels(first):
        return f"{words}whose name does not mean channels"
    return ""
