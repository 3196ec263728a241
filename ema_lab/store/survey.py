"""Where runs stand: state, staleness and failure of each, its files read once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

from ema_lab.errors import StoreError
from ema_lab.specs.run import RunSpec
from ema_lab.store.document import read_json
from ema_lab.store.failure import Failure, failure_of
from ema_lab.store.layout import HEARTBEAT
from ema_lab.store.staleness import Staleness
from ema_lab.store.store import MAX_ATTEMPTS, RunFacts, RunStore, State

NOTHING = RunFacts()


@dataclass(frozen=True)
class Heartbeat:
    """The last sign of life of a run's training: in which epoch (from 1), and how many seconds ago."""

    epoch: int
    seconds_ago: float

    @classmethod
    def read(cls, store: RunStore, run_id: str) -> Self | None:
        """Return a run's last sign of life, or None where there is none that can be read."""
        try:
            beat = read_json(store.folder(run_id) / HEARTBEAT)
            age = datetime.now(UTC) - datetime.fromisoformat(beat["time"])
            return cls(int(beat["epoch"]), max(0.0, age.total_seconds()))
        except (OSError, StoreError, ValueError, OverflowError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Standing:
    """Where a run stands. `stale`: the parts whose source has changed since it was done.

    `heartbeat`: of a run that is on.
    """

    state: State = "pending"
    facts: RunFacts = NOTHING
    stale: tuple[str, ...] = ()
    failure: Failure | None = None
    heartbeat: Heartbeat | None = None

    @property
    def reason(self) -> str | None:
        """Why there is no result, where something is known: damaged files come first."""
        if self.facts.damage:
            return "; ".join(self.facts.damage)
        return self.failure.message if self.failure else None


def damage_lines(store: RunStore, run_ids: Iterable[str]) -> Iterator[str]:
    """Yield a line for each file of these runs that cannot be used."""
    for run_id in run_ids:
        yield from store.facts(run_id).damage


class Survey:
    """One look at a store: what the source is and which runs have a folder is asked once."""

    def __init__(self, store: RunStore, max_attempts: int = MAX_ATTEMPTS) -> None:
        self._store = store
        self._max_attempts = max_attempts
        self._staleness = Staleness()
        self._present = store.folder_names()

    def standing(self, spec: RunSpec) -> Standing:
        """Return where a run stands."""
        run_id = spec.run_id
        if run_id not in self._present:
            return Standing()
        facts = self._store.facts(run_id)
        state = self._store.state_of(run_id, facts, self._max_attempts)
        beat = Heartbeat.read(self._store, run_id) if state == "running" else None
        stale = self._staleness.parts(spec, facts.record)
        over = replace(facts, attempts=facts.attempts[:-1]) if state == "running" else facts
        return Standing(state, facts, stale, failure_of(over), beat)
