"""Durations, numbers and stale results as text."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ema_lab.errors import SpecError
from ema_lab.wording import are, number_of

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def read_duration(option: str, text: str | None) -> float | None:
    """Return the seconds of a duration such as 90s, 45m or 1h30m; None for None.

    Raises:
        SpecError: If the text is no duration above zero.
    """
    if text is None:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if "".join(map("".join, parts)) != text or not parts or not any(float(number) for number, _ in parts):
        raise SpecError(f"{option} takes a time such as 90s, 45m, 2h or 1h30m, got {text!r}")
    return sum(float(number) * SECONDS[unit] for number, unit in parts)


def write_duration(seconds: float) -> str:
    """Return a duration as text in its two largest units."""
    seconds = round(seconds) if seconds >= 10 else round(seconds, 1)
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def unhashed_lines(modules: Mapping[str, Path]) -> Iterator[str]:
    """Yield a line per module that a user's code imports and that no source hash covers."""
    for name, path in sorted(modules.items()):
        rule = "no hash covers it, and a change of it marks no result as stale; move it beside your module"
        yield f"{name} ({path}) is imported from another folder than your module's: {rule}"


def untrained_line(row: str, names: Sequence[str]) -> str:
    """Return the line on parameters that a row's recipe never trains."""
    number = f"{number_of(len(names), 'parameter')} {are(len(names))}"
    return f"{row}: {number} never trained (decays: yolov5), such as {names[0]}"


def stale_lines(ablation: str, counts: Mapping[str, int]) -> Iterator[str]:
    """Yield a line per set of changed parts: number of stale results, and command that renews them."""
    for parts, number in counts.items():
        changed = f"the source of {parts.replace(' ', ', ')} has changed"
        them = "them" if number > 1 else "it"
        remedy = f"ema-lab run {ablation} --refresh trains {them} again"
        yield f"{number_of(number, 'stale result')}: {changed}; {remedy}"
