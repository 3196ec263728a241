"""Base class of progress events, and the remark, which any command may make."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Base class of all events."""

    def lines(self) -> Iterable[str]:
        """Return the event as lines for a person: one for most events, none for some."""
        return ()


@dataclass(frozen=True)
class Remark(Event):
    """Sentence for a person about `subject`, such as a sweep or a row. It asks for no reaction."""

    subject: str
    text: str

    def lines(self) -> Iterable[str]:
        yield f"{self.subject}: {self.text}" if self.subject else self.text
