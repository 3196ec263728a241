"""Which results are stale: the source of a part has changed since they were made.

`equivalent.yaml` lists changes that are known to change no result, so that a refactoring need not
train anything again.
"""

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from ema_lab.specs.document import read_document
from ema_lab.specs.run import RunSpec
from ema_lab.specs.strict import Spec
from ema_lab.store.record import RunRecord
from ema_lab.store.source import Sources

EQUIVALENT = Path(__file__).with_name("equivalent.yaml")
SourceHash = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Equivalence(Spec):
    """One change of one part's source that changes no result, and how that is known."""

    part: Literal["module", "backbone", "data", "training"]
    old: SourceHash
    new: SourceHash
    reason: Annotated[str, Field(min_length=10)]


def load_equivalences(path: Path = EQUIVALENT) -> list[Equivalence]:
    """Read a list of declared equivalences."""
    listed = read_document(path).value["equivalent"]
    return TypeAdapter(list[Equivalence]).validate_python(listed)


Steps = Mapping[tuple[str, str], Collection[str]]  # part and old hash: what it is equivalent to now


def steps_of(items: Iterable[Equivalence]) -> Steps:
    """Return declared changes by part and old hash; files that shared a hash may have none in common now."""
    steps: dict[tuple[str, str], set[str]] = {}
    for item in items:
        steps.setdefault((item.part, item.old), set()).add(item.new)
    return steps


@cache
def _declared() -> Steps:
    return steps_of(load_equivalences())


def equivalent(part: str, old: str, new: str, declared: Steps | None = None) -> bool:
    """Whether a part's source is the same, or was changed only as is declared to change no result."""
    steps = _declared() if declared is None else declared
    reached: set[str] = set()
    waiting = [old]
    while waiting:
        step = waiting.pop()
        if step == new:
            return True
        if step not in reached:
            reached.add(step)
            waiting += steps.get((part, step), ())
    return False


def changed_parts(recorded: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return the parts whose source is another one now; of what was not recorded nothing is known."""
    return tuple(part for part in now if part in recorded and not equivalent(part, recorded[part], now[part]))


class Staleness:
    """Tells which results are stale, for one look at the source as it is now."""

    def __init__(self) -> None:
        self._sources = Sources()

    def parts(self, spec: RunSpec, record: RunRecord | None) -> tuple[str, ...]:
        """Return the parts whose source has changed since the run was done; none if it is not done."""
        if record is None or record.status != "done":
            return ()
        return changed_parts(record.source, self._sources.of(spec))
