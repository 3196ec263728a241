"""What a trial's runs show now: Optuna keeps a trial as it ended, whatever becomes of its runs."""

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
    """A run's values, one per objective, None unless it is done and has them all; and why it is stale."""

    values: tuple[float, ...] | None = None
    stale: tuple[str, ...] = ()


class Results:
    """The results of a store's runs by some objectives; a run is read again where its record is another."""

    def __init__(self, store: RunStore, objectives: Sequence[Objective]) -> None:
        self._store = store
        self._objectives = objectives
        self._staleness = Staleness()
        self._read: dict[str, tuple[tuple[int, int], Result]] = {}

    def values(self, run_ids: Sequence[str]) -> tuple[float, ...] | None:
        """Return the mean of each objective over runs; None unless the store has them all, finished."""
        found = [result.values for result in self._results(run_ids)]
        rows = [values for values in found if values is not None]
        if not rows or len(rows) < len(found):
            return None
        return tuple(map(fmean, zip(*rows, strict=True)))

    def stale(self, run_ids: Sequence[str]) -> tuple[str, ...]:
        """Return the parts whose source has changed since some run was done.

        Of a run whose result was put aside, and which is not done again, it is `superseded`.
        """
        return tuple(dict.fromkeys(part for result in self._results(run_ids) for part in result.stale))

    def _results(self, run_ids: Sequence[str]) -> Iterator[Result]:
        for run_id in run_ids:
            try:
                about = (self._store.folder(run_id) / RECORD).stat()
            except OSError:
                yield self._without_record(run_id)
                continue
            written = (about.st_mtime_ns, about.st_ino)
            if run_id not in self._read or self._read[run_id][0] != written:
                self._read[run_id] = written, self._result(run_id)
            yield self._read[run_id][1]

    def _without_record(self, run_id: str) -> Result:
        """Return what is known of a run that is not done; of another store's run that is nothing."""
        is_aside = (self._store.folder(run_id) / SUPERSEDED).exists()
        return Result(stale=(SUPERSEDED,) if is_aside else ())

    def _result(self, run_id: str) -> Result:
        try:
            record = self._store.record(run_id)
            if record is None or record.status != "done":
                return self._without_record(run_id)
            stale = self._staleness.parts(self._store.spec(run_id), record)
        except StoreError:
            return Result()
        try:
            return Result(tuple(one.of_run(self._store, run_id) for one in self._objectives), stale)
        except StoreError:  # it lacks this cost or curve
            return Result(None, stale)
