"""Where runs stand: state, staleness and failure of each, its files read once."""

from dataclasses import dataclass

from ema_lab.experiments.failure import Failure, failure_of
from ema_lab.experiments.staleness import Staleness
from ema_lab.experiments.store import MAX_ATTEMPTS, RunFacts, RunStore, State
from ema_lab.specs.run import RunSpec

NOTHING = RunFacts()


@dataclass(frozen=True)
class Standing:
    """Where a run stands. `stale`: the parts whose source has changed since it was done."""

    state: State = "pending"
    facts: RunFacts = NOTHING
    stale: tuple[str, ...] = ()
    failure: Failure | None = None

    @property
    def reason(self) -> str | None:
        """Why there is no result, where something is known: damaged files come first."""
        if self.facts.damage:
            return "; ".join(self.facts.damage)
        return self.failure.message if self.failure else None


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
        return Standing(state, facts, self._staleness.parts(spec, facts.record), failure_of(facts))
