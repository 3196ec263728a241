"""Check that an attention module receives the number of channels in the right parameter."""

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
    """Return whether a parameter's name means a number of channels, such as `in_planes` or `c1`."""
    parts = [re.sub(r"\d+$", "", part) for part in name.lower().strip("_").split("_")]
    known = all(part in _NOUNS | _MODIFIERS for part in parts)
    return name == "d_model" or (known and any(part in _NOUNS for part in parts))


def check_channels(subject: str, signature: Signature, channels_as: object) -> None:
    """Reject a module whose first parameter is not the number of channels, unless `channels_as` names one.

    Args:
        subject: Kind and name of the module, for messages.
        signature: Signature of the module.
        channels_as: Parameter that takes the number of channels. None means the first.

    Raises:
        SpecError: If no suitable parameter is known. The message explains how to name one.
    """
    parameters = {*signature.positional_options, *signature.unreadable, *signature.options}
    if channels_as is not None:
        _check_choice(subject, signature, channels_as, parameters)
        return
    if signature.inherits:
        return
    reason = _first_parameter_problem(signature)
    if reason:
        choice = next(iter(_candidates(signature)), "PARAMETER")
        target = subject.partition(" ")[2]
        hint = f"say which parameter does: {{name: {target}, {CHANNELS_AS}: {choice}}}"
        if not parameters - {*signature.positional[:1]}:
            hint = "write a subclass whose __init__ takes it"
        elif choice == "PARAMETER":
            hint += ", or write a subclass whose __init__ takes it first"
        raise SpecError(f"{subject} {reason} ({signature.location}); {hint}")


def _check_choice(subject: str, signature: Signature, choice: object, parameters: Collection[str]) -> None:
    if not isinstance(choice, str) or choice not in parameters:
        listed = ", ".join(dict.fromkeys([*signature.positional, *signature.options])) or "none"
        rule = f"{CHANNELS_AS} must name one of its parameters ({listed}), got {choice!r}"
        raise SpecError(f"{subject}: {rule} ({signature.location})")
    if signature.positional[:1] == (choice,) and not _first_parameter_problem(signature):
        raise SpecError(f"{subject}: {CHANNELS_AS} changes nothing: {choice!r} comes first already")


def _candidates(signature: Signature) -> list[str]:
    return [name for name in [*signature.positional[1:], *signature.options] if means_channels(name)]


def _first_parameter_problem(signature: Signature) -> str:
    if not signature.positional:
        return "has no parameter for the number of channels"
    first = signature.positional[0]
    prefix = f"would get the number of channels as {first!r}, its first parameter, "
    option = signature.positional_options.get(first)
    if option is not None and option.type in (bool, str, float):
        return f"{prefix}which is a {option.type_text}"
    if first in signature.switches:
        return f"{prefix}which is a switch (True or False)"
    if not means_channels(first):
        return f"{prefix}whose name does not mean channels"
    return ""
