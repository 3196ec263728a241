"""Volume of messages: the options -q and -v, which every command takes."""

from collections.abc import Sequence

VOLUME_OPTIONS = (
    ("-q, --quiet", "Print errors and failures only, beside the data."),
    ("-v, --verbose", "Print more, such as each epoch of a run."),
)
STEPS = {"-q": -1, "--quiet": -1, "-v": 1, "--verbose": 1}


class _Volume:
    """Volume of this process: -1 is quiet, 0 normal, 1 verbose."""

    level = 0


def split_volume(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Return the volume that the arguments ask for, and the arguments without -q and -v."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    level = sum(STEPS.get(word, 0) for word in arguments[:end])
    return level, [word for number, word in enumerate(arguments) if number >= end or word not in STEPS]


def set_volume(level: int) -> None:
    """Set the volume: below 0 is quiet, 0 normal, above 0 verbose."""
    _Volume.level = level


def is_verbose() -> bool:
    """Return whether -v was given."""
    return _Volume.level > 0


def is_quiet() -> bool:
    """Return whether -q was given: only errors and failures are printed."""
    return _Volume.level < 0
