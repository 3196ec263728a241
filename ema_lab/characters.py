"""Invisible characters and lookalike names.

Control characters, directional marks and zero-width characters can command a terminal, reverse text or
hide an edit. Definition files must not contain them. Text from records, logs and errors escapes them.
"""

import re
import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # control, format, surrogate, line separators
BREAKS = "\n\t"  # allowed in prose
# Letters of other scripts that look like Latin ones, and dashes that look like a hyphen.
_LOOKALIKES = str.maketrans(
    "АВЕКМНОРСТХЅІЈаеорсухѕіјΑΒΕΖΗΙΚΜΝΟΡΤΥΧο‐‑‒–—―−",
    "ABEKMHOPCTXSIJaeopcyxsijABEZHIKMNOPTYXo-------",
)


def hidden_characters(text: str, allowed: str = BREAKS) -> list[str]:
    """Return the distinct invisible characters of a text, except the allowed ones."""
    if text.isprintable():
        return []
    return list(
        dict.fromkeys(character for character in text if character not in allowed and _is_hidden(character))
    )


def escape_hidden(text: str, allowed: str = BREAKS) -> str:
    r"""Return text with its invisible characters escaped as in Python, such as \x1b and \u202e."""
    if text.isprintable():  # most are
        return text
    for character in hidden_characters(text, allowed):
        text = text.replace(character, escape(character))
    return text


def escape(character: str) -> str:
    """Return the ASCII escape of a character."""
    return ascii(character)[1:-1]


def name_problem(name: str) -> str | None:
    """Return the rule that a name breaks, or None for a valid name."""
    if not name.strip():
        return "a name must not be empty"
    if name != name.strip():
        return "a name must not begin or end with a blank"
    if hidden := hidden_characters(name, allowed=""):
        return f"a name must be one line of visible characters, not {', '.join(map(escape, hidden))}"
    return None


def find_lookalikes(names: list[str]) -> tuple[str, str] | None:
    """Return the first pair of different names that look the same in print, or None."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_appearance(name), name)
        if other != name:
            return other, name
    return None


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN


def _appearance(name: str) -> str:
    """Return a name with lookalike characters unified: names that look the same give equal texts."""
    plain = unicodedata.normalize("NFKC", name).translate(_LOOKALIKES)
    return re.sub(r"\s+", " ", plain).strip()
