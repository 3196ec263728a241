"""Base class of progress events."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Base class of all events."""

    def lines(self) -> Iterable[str]:
        """Return the event as lines for a person: one for most events, none for some."""
        return ()
