"""Options of every command that say how much is printed."""

from collections.abc import Sequence

EVERYWHERE = (
    ("-q, --quiet", "Print errors and failures only, beside the data."),
    ("-v, --verbose", "Print more, such as each epoch of a run."),
)
VOLUMES = {"-q": -1, "--quiet": -1, "-v": 1, "--verbose": 1}


def split_volume(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Return how much is to be said, and the arguments without the options that say so."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    level = sum(VOLUMES.get(word, 0) for word in arguments[:end])
    return level, [word for number, word in enumerate(arguments) if number >= end or word not in VOLUMES]
