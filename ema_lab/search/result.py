"""Current values of a trial's runs. Optuna keeps a trial as it ended, whatever happens to its runs later."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from ema_lab.errors import StoreError
from ema_lab.search.objective import Objective
from ema_lab.store.layout import RECORD, SUPERSEDED
from ema_lab.store.staleness import Staleness
from ema_lab.store.store import RunStore


@dataclass(frozen=True)
class Result:
    """Values of a run, one per objective (None unless the run is done and has all), and its stale parts."""

    values: tuple[float, ...] | None = None
    stale: tuple[str, ...] = ()


class Results:
    """Results of a store's runs by some objectives, cached until a run's record file changes."""

    def __init__(self, store: RunStore, objectives: Sequence[Objective]) -> None:
        self._store = store
        self._objectives = objectives
        self._staleness = Staleness()
        self._read: dict[str, tuple[tuple[int, int], Result]] = {}

    def values(self, run_ids: Sequence[str]) -> tuple[float, ...] | None:
        """Return the mean of each objective over runs; None unless the store has all of them finished."""
        values_by_run = [result.values for result in self._results(run_ids)]
        rows = [values for values in values_by_run if values is not None]
        if not rows or len(rows) < len(values_by_run):
            return None
        return tuple(map(fmean, zip(*rows, strict=True)))

    def stale(self, run_ids: Sequence[str]) -> tuple[str, ...]:
        """Return the parts whose source has changed since a run was done.

        The part is `superseded` for a run whose result was replaced and that is not done again.
        """
        return tuple(dict.fromkeys(part for result in self._results(run_ids) for part in result.stale))

    def _results(self, run_ids: Sequence[str]) -> Iterator[Result]:
        for run_id in run_ids:
            try:
                status = (self._store.folder(run_id) / RECORD).stat()
            except OSError:
                yield self._without_record(run_id)
                continue
            version = (status.st_mtime_ns, status.st_ino)
            if run_id not in self._read or self._read[run_id][0] != version:
                self._read[run_id] = version, self._result(run_id)
            yield self._read[run_id][1]

    def _without_record(self, run_id: str) -> Result:
        """Return the result of a run that is not done; empty for a run of another store."""
        is_superseded = (self._store.folder(run_id) / SUPERSEDED).exists()
        return Result(stale=(SUPERSEDED,) if is_superseded else ())

    def _result(self, run_id: str) -> Result:
        try:
            record = self._store.record(run_id)
            if record is None or record.status != "done":
                return self._without_record(run_id)
            stale = self._staleness.parts(self._store.spec(run_id), record)
        except StoreError:
            return Result()
        try:
            return Result(
                tuple(objective.of_run(self._store, run_id) for objective in self._objectives), stale
            )
        except StoreError:  # the record lacks this cost, or the run its curve
            return Result(None, stale)
