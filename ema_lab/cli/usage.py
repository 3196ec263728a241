"""Usage errors of the command-line parser, worded like all other messages."""

import re
from typing import Any

_VALUE = r"Invalid value for '(?P<name>[^']+)': "
_RULES = (  # by typer's version, the second of a pair
    (r"Input should be a valid integer.*", "must be a whole number"),
    (r"'(?P<got>.*)' is not a valid (int|integer)( range)?\.?", "must be a whole number, got {got!r}"),
    (r"Input should be a valid number.*", "must be a number"),
    (r"'(?P<got>.*)' is not a valid float( range)?\.?", "must be a number, got {got!r}"),
    (r"Input should be greater than or equal to (?P<low>\S+)", "must be {low} or more"),
    (r"(?P<got>\S+) is not in the range x>=(?P<low>[^\s.]+)\.?", "must be {low} or more, got {got}"),
    (r"Input should be less than or equal to (?P<high>\S+)", "must be {high} or less"),
    (
        r"(?P<got>\S+) is not in the range (?P<low>\S+?)<=x<=(?P<high>[^\s]+?)\.?",
        "must be {low} to {high}, got {got}",
    ),
    (r"(Value error, )?'(?P<got>.*)' is not one of (?P<names>.*?)\.?", "must be one of {names}, got {got!r}"),
)


def usage_message(error: Any) -> str:
    """Return a parser's error as one line, with the command whose help says more."""
    text = " ".join(error.format_message().split()).rstrip(".")
    for pattern, rule in _RULES:
        if found := re.fullmatch(_VALUE + pattern, text):
            parts = {key: value or "" for key, value in found.groupdict().items()}
            parts["names"] = parts.get("names", "").replace("'", "")
            text = f"{parts['name']} {rule.format(**parts)}"
            break
    return f"{text}; see {error.ctx.command_path} --help" if error.ctx else text
