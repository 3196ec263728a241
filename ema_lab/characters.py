"""Characters that no reader sees, and names that no reader can tell apart.

Control characters, directional marks and zero-width characters can command a terminal, turn text around,
or hide an edit. Definition files may not hold them; text from records, logs and errors shows them escaped.
"""

import re
import unicodedata

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # control, format, half a character, line separators
BREAKS = "\n\t"  # what prose may hold, and a terminal needs
# Letters of other scripts that are drawn like a Latin one, and the dashes.
_TWINS = str.maketrans(
    "АВЕКМНОРСТХЅІЈаеорсухѕіјΑΒΕΖΗΙΚΜΝΟΡΤΥΧο‐‑‒–—―−",
    "ABEKMHOPCTXSIJaeopcyxsijABEZHIKMNOPTYXo-------",
)


def hidden_in(text: str, allowed: str = BREAKS) -> list[str]:
    """Return the characters of a text that no reader sees, each once, but for those that are allowed."""
    if text.isprintable():
        return []
    return list(dict.fromkeys(sign for sign in text if sign not in allowed and _is_hidden(sign)))


def printable(text: str, allowed: str = BREAKS) -> str:
    r"""Return text whose hidden characters are written as Python writes them, such as \x1b and \u202e."""
    for sign in hidden_in(text, allowed):
        text = text.replace(sign, escape(sign))
    return text


def escape(sign: str) -> str:
    """Return a character as Python writes it in ASCII."""
    return ascii(sign)[1:-1]


def name_problem(name: str) -> str | None:
    """Return why a text cannot be the name of something, or None."""
    if not name.strip():
        return "a name must not be empty"
    if name != name.strip():
        return "a name must not begin or end with a blank"
    if found := hidden_in(name, allowed=""):
        return f"a name must be one line of visible characters, not {', '.join(map(escape, found))}"
    return None


def twins(names: list[str]) -> tuple[str, str] | None:
    """Return the first two different names that look the same in print, or None."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_appearance(name), name)
        if other != name:
            return other, name
    return None


def _is_hidden(sign: str) -> bool:
    return unicodedata.category(sign) in _HIDDEN


def _appearance(name: str) -> str:
    """Return what is drawn of a name, as far as common fonts draw different characters alike."""
    plain = unicodedata.normalize("NFKC", name).translate(_TWINS)
    return re.sub(r"\s+", " ", plain).strip()
