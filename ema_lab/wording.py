"""Wording of messages: numbers with their nouns, verbs that agree, and long values made short."""

import re
from collections.abc import Iterable

LONGEST = 200  # characters of a value in a message
_LONG_VALUE = re.compile(rf"'[^']{{{LONGEST},}}'|\"[^\"]{{{LONGEST},}}\"|\S{{{LONGEST},}}")


def number_of(number: int | float, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1: `1 class`, `1,200 classes`."""
    text = f"{number:,}" if isinstance(number, int) else f"{number:,g}"
    return f"{text} {noun if number == 1 else _plural(noun)}"


def are(number: int) -> str:
    """Return the verb of a counted subject: `is` for 1, else `are`."""
    return "is" if number == 1 else "are"


def _plural(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    hisses = noun.endswith(("s", "x", "ch", "sh")) and not noun.endswith("och")  # epochs, batches
    return f"{noun}es" if hisses else f"{noun}s"


def shortened(text: str, limit: int = LONGEST) -> str:
    """Return text of about `limit` characters at most. A longer one keeps both ends, and their distance."""
    if len(text) <= limit:
        return text
    head, tail = limit * 3 // 4, limit // 4
    return f"{text[:head]}[... {number_of(len(text) - head - tail, 'character')} ...]{text[-tail:]}"


def with_short_values(message: str, arguments: Iterable[str] = ()) -> str:
    """Return a message whose long words, long quoted values and long arguments are shortened.

    Args:
        message: The message.
        arguments: Arguments of the command, such as `--only` and `KEY=VALUE`, which the message may repeat.
    """
    values = {part.strip() for argument in arguments for part in (argument, argument.partition("=")[2])}
    for value in sorted((value for value in values if len(value) > LONGEST), key=len, reverse=True):
        message = message.replace(value, shortened(value))
    return _LONG_VALUE.sub(lambda match: shortened(match[0]), message)
