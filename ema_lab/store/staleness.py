"""Staleness: a result is stale if the source of one of its parts has changed since.

`equivalent.yaml` lists source changes that are known to change no result, so that no run is trained again
after a refactoring.
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
    """Declared change of a part's source that changes no result, with the evidence as `reason`."""

    part: Literal["module", "backbone", "data", "training"]
    old: SourceHash
    new: SourceHash
    reason: Annotated[str, Field(min_length=10)]


def load_equivalences(path: Path = EQUIVALENT) -> list[Equivalence]:
    """Read the declared equivalences of a YAML file."""
    listed = read_document(path).value["equivalent"]
    return TypeAdapter(list[Equivalence]).validate_python(listed)


Steps = Mapping[tuple[str, str], Collection[str]]  # (part, old hash): equivalent newer hashes


def steps_of(items: Iterable[Equivalence]) -> Steps:
    """Index declared changes by part and old hash.

    One old hash may have several successors: parts that shared a hash may differ today.
    """
    steps: dict[tuple[str, str], set[str]] = {}
    for item in items:
        steps.setdefault((item.part, item.old), set()).add(item.new)
    return steps


@cache
def _declared() -> Steps:
    return steps_of(load_equivalences())


def equivalent(part: str, old: str, new: str, declared: Steps | None = None) -> bool:
    """Return whether two hashes of a part are equal or linked by a chain of declared changes."""
    if old == new:
        return True  # without reading the declared changes
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
    """Return the parts whose recorded source differs from the source now.

    A part that an older record lacks counts as unchanged.
    """
    return tuple(part for part in now if part in recorded and not equivalent(part, recorded[part], now[part]))


class Staleness:
    """Staleness test against one snapshot of the source."""

    def __init__(self) -> None:
        self._sources = Sources()
        self._changed: dict[object, tuple[str, ...]] = {}  # by the hashes now and the recorded ones

    def parts(self, spec: RunSpec, record: RunRecord | None) -> tuple[str, ...]:
        """Return the parts whose source has changed since a run was done; empty for an unfinished run."""
        if record is None or record.status != "done":
            return ()
        return self.changed(spec, record.source)

    def changed(self, spec: RunSpec, recorded: Mapping[str, str]) -> tuple[str, ...]:
        """Return the parts of a run whose source differs from the recorded hashes."""
        now = self._sources.of(spec)
        key = (*now.items(), None, *recorded.items())
        if key not in self._changed:
            self._changed[key] = changed_parts(recorded, now)
        return self._changed[key]
