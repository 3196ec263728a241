"""Run status: state, staleness and failure of each run, with its files read once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ema_lab.specs.run import RunSpec
from ema_lab.store.failure import Failure, ended_failure
from ema_lab.store.heartbeat import Heartbeat
from ema_lab.store.staleness import Staleness
from ema_lab.store.store import MAX_ATTEMPTS, RunFacts, RunStore, State

NOTHING = RunFacts()


@dataclass(frozen=True)
class RunStatus:
    """Status of a run.

    Attributes:
        state: State in the store.
        facts: Record and attempts.
        stale: Parts whose source has changed since the run was done.
        failure: Failure of the last counted attempt; that of a running attempt is not known yet.
        heartbeat: Progress of a running run.
    """

    state: State = "pending"
    facts: RunFacts = NOTHING
    stale: tuple[str, ...] = ()
    failure: Failure | None = None
    heartbeat: Heartbeat | None = None

    @property
    def reason(self) -> str | None:
        """Why the run has no result, if known; damaged files take precedence over a failure."""
        if self.facts.damage:
            return "; ".join(self.facts.damage)
        return self.failure.sentence if self.failure else None


def damage_lines(store: RunStore, run_ids: Iterable[str]) -> Iterator[str]:
    """Yield one line per damaged file of these runs."""
    for run_id in run_ids:
        yield from store.facts(run_id).damage


class Survey:
    """Snapshot of a store: reads the source hashes and the folder names once for all runs."""

    def __init__(self, store: RunStore, max_attempts: int = MAX_ATTEMPTS) -> None:
        self._store = store
        self._max_attempts = max_attempts
        self._staleness = Staleness()
        self._present = store.folder_names()

    def status(self, spec: RunSpec) -> RunStatus:
        """Return the status of a run."""
        run_id = spec.run_id
        if run_id not in self._present:
            return RunStatus()
        facts = self._store.facts(run_id)
        state = self._store.state_of(run_id, facts, self._max_attempts)
        beat = Heartbeat.read(self._store.folder(run_id)) if state == "running" else None
        stale = self._staleness.parts(spec, facts.record)
        return RunStatus(state, facts, stale, ended_failure(facts, state), beat)
