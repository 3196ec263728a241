"""What a search has shown so far: its trials, how they ended, and which are the best. Read only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ema_lab.errors import StoreError
from ema_lab.search.objective import Objective, read_objectives
from ema_lab.search.result import Results
from ema_lab.search.storage import (
    journal_path,
    open_storage,
    quiet_optuna,
    read_journal,
    storage_errors,
)
from ema_lab.search.sweep import Sweep
from ema_lab.store.curve import read_curve
from ema_lab.store.store import RunStore

VALUES, RUN_IDS, WARM, CELL, MESSAGE = "values", "run_ids", "warm", "cell", "message"
STEPS = "steps"  # a study's attribute: whether its trials report by epoch or by seed, see `Strategy.steps`
HISTORY = "retry_history"  # Optuna's: the numbers under which a trial was tried before
STATES: Mapping[str, str] = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(frozen=True)
class Ended:
    """A trial that is over.

    Attributes:
        number: Its number in the study; those tried again have another one.
        state: done, pruned or failed.
        choice: The value of each parameter, by dotted key.
        values: One per objective, where it was trained to its end: as its runs have them now.
        run_ids: Its runs, one per seed.
        warm: Whether it was learned from finished runs of the store.
        message: Why it ended otherwise than done.
        seconds: From its begin to its end in this search; runs that were there before cost it nothing.
        tried_as: The numbers under which it was tried before, the first one first.
        stale: Why its values are those of an earlier source, see `Results.stale`.
    """

    number: int
    state: str
    choice: Mapping[str, Any]
    values: tuple[float, ...] | None = None
    run_ids: tuple[str, ...] = ()
    warm: bool = False
    message: str = ""
    seconds: float | None = None
    tried_as: tuple[int, ...] = ()
    stale: tuple[str, ...] = ()

    @property
    def first_number(self) -> int:
        """The number under which it was first tried: its place among all trials."""
        return self.tried_as[0] if self.tried_as else self.number


@dataclass
class Counts:
    """How many of a study's own trials stand where."""

    done: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0
    warm: int = 0

    @property
    def over(self) -> int:
        """Trials that were tried, however they ended."""
        return self.done + self.pruned + self.failed

    @property
    def own(self) -> int:
        """Trials that count towards `--trials`: all but those that the store gave."""
        return self.over + self.running + self.waiting


class History:
    """A sweep's study, to be looked at."""

    def __init__(self, sweep: Sweep, objectives: tuple[Objective, ...], store: RunStore, study: Any) -> None:
        self.sweep = sweep
        self.objectives = objectives
        self.store = store
        self.study = study
        self.results = Results(store, objectives)

    def trials(self) -> list[Ended]:
        """Return the trials that are over, in their order; those tried again stand once."""
        trials = self.study.get_trials(deepcopy=False)
        replaced = replaced_numbers(trials)
        return [
            self._as_it_is(_ended(trial))
            for trial in trials
            if trial.state.name in STATES and trial.number not in replaced
        ]

    def _as_it_is(self, one: Ended) -> Ended:
        """Return a trial with its runs' values as they are now; those of another store are as it ended."""
        if one.values is None:
            return one
        values = self.results.values(one.run_ids) or one.values
        return replace(one, values=values, stale=self.results.stale(one.run_ids))

    def reported(self, run_ids: Sequence[str]) -> dict[int, float]:
        """Return what a trial of such runs reports by step; nothing unless the store has them, finished."""
        first, *others = self.objectives
        if others or not first.is_metric or self.results.values(run_ids) is None:
            return {}
        if self._steps == "seed":
            means = enumerate(self.results.values([run_id]) for run_id in run_ids)
            return {number: values[0] for number, values in means if values is not None}
        curve = read_curve(self.store.folder(run_ids[0]))
        return {int(row["epoch"]): row[first.name] for row in curve if first.name in row}

    @cached_property
    def _steps(self) -> Any:
        return self.study.user_attrs.get(STEPS)

    def counts(self) -> Counts:
        """Return how many trials stand where."""
        counts = Counts()
        trials = self.study.get_trials(deepcopy=False)
        replaced = replaced_numbers(trials)
        names = {**STATES, "RUNNING": "running"}
        for trial in trials:
            if trial.number in replaced:
                continue
            name = "warm" if trial.user_attrs.get(WARM) else names.get(trial.state.name, "waiting")
            setattr(counts, name, getattr(counts, name) + 1)
        return counts

    def running_run_ids(self) -> list[str]:
        """Return the runs of the trials that no process has ended yet."""
        trials = self.study.get_trials(deepcopy=False)
        found = (t.user_attrs.get(RUN_IDS, ()) for t in trials if t.state.name == "RUNNING")
        return [run_id for run_ids in found for run_id in run_ids]

    def best(self) -> list[Ended]:
        """Return the finished trials that no other beats: one objective's best, or the Pareto front."""
        done = [trial for trial in self.trials() if trial.values is not None]
        signs = [one.sign for one in self.objectives]
        return [one for one in done if not any(_beats(other, one, signs) for other in done)]

    def ranked(self) -> list[Ended]:
        """Return all trials that are over: the Pareto front, other finished ones, pruned, failed.

        Finished ones stand in the order of the first objective, the best first.
        """
        front = {one.number for one in self.best()} if len(self.objectives) > 1 else set()
        sign = self.objectives[0].sign
        states = list(STATES.values())

        def rank(one: Ended) -> tuple[Any, ...]:
            first = -sign * one.values[0] if one.values else 0.0
            return states.index(one.state), one.number not in front, first, one.number

        return sorted(self.trials(), key=rank)


def find_history(
    sweep: Sweep, objectives: Sequence[str], store: RunStore, storage: str | None = None
) -> History:
    """Find the study of a sweep's file as it is now; nothing is created or changed.

    Args:
        sweep: The sweep.
        objectives: As `--objective` has them; without any, the file's metric.
        store: Where its runs and by default its journal are.
        storage: A URL where it is kept instead.

    Raises:
        StoreError: If there is none; the message says which there are.
    """
    import optuna

    wanted = read_objectives(sweep, objectives)
    path = journal_path(store, sweep.name)
    if storage is None and not path.exists():
        raise StoreError(
            f"there is no search of {sweep.name} in {store.root}; `ema-lab sweep {sweep.path}` begins one"
        )
    opened = read_journal(path) if storage is None else open_storage(storage, store, sweep.name)
    with quiet_optuna():
        names = optuna.get_all_study_names(opened)
        if sweep.study_name(wanted) in names:
            study = optuna.load_study(study_name=sweep.study_name(wanted), storage=opened)
            return History(sweep, wanted, store, study)
        others = [
            optuna.load_study(study_name=name, storage=opened)
            for name in names
            if name.startswith(f"{sweep.name}-")
        ]
    where = path if storage is None else "the storage"
    raise StoreError(f"no search of {sweep.path} by {_listed(wanted)} in {where}{_others(sweep, others)}")


def has_searches(store: RunStore, sweep: str, storage: str | None = None) -> bool:
    """Return whether any study of a sweep's name was begun: in the store's journal, or in a storage."""
    if storage is None:
        return journal_path(store, sweep).exists()
    import optuna

    opened = open_storage(storage, store, sweep)
    with quiet_optuna(), storage_errors():
        return any(name.startswith(f"{sweep}-") for name in optuna.get_all_study_names(opened))


def searched_run_ids(store: RunStore, storage: str | None = None) -> set[str]:
    """Return the runs of all trials of all searches whose journals are in a store, or that a storage keeps.

    Raises:
        StoreError: If a journal cannot be read, or the storage does not answer.
    """
    import optuna

    opened = [read_journal(path) for path in sorted(journal_path(store, "").parent.glob("*.journal"))]
    if storage is not None:
        opened.append(open_storage(storage, store, ""))
    with quiet_optuna(), storage_errors():
        return {
            run_id
            for one in opened
            for name in optuna.get_all_study_names(one)
            for trial in optuna.load_study(study_name=name, storage=one).get_trials(deepcopy=False)
            for run_id in trial.user_attrs.get(RUN_IDS, ())
        }


def num_repeated(trials: Sequence[Ended]) -> int:
    """Return the number of a search's own trials whose runs an earlier trial had, or the store gave."""
    known: set[tuple[str, ...]] = set()
    count = 0
    for one in sorted(trials, key=lambda each: each.first_number):
        count += bool(one.run_ids) and not one.warm and one.run_ids in known
        known.add(one.run_ids)
    return count


def _others(sweep: Sweep, studies: Sequence[Any]) -> str:
    """Say what else is there: the same file by other objectives, or another state of the file."""
    same = []
    for study in studies:
        names = zip(study.metric_names or (), study.directions, strict=False)
        found = tuple(Objective(name, +1 if way.name == "MAXIMIZE" else -1) for name, way in names)
        if found and sweep.study_name(found) == study.study_name:
            same.append(" ".join(f"--objective {one}" for one in found))
    if same:
        return f"; there is one by {', one by '.join(same)}"
    if not studies:
        return ""
    count = f"{len(studies)} of other bases, spaces or seeds" if len(studies) > 1 else "one of another"
    return f"; there {'are' if len(studies) > 1 else 'is'} {count}: the file was changed since"


def _listed(objectives: Sequence[Objective]) -> str:
    return " and ".join(map(str, objectives))


def _ended(trial: Any) -> Ended:
    warm = bool(trial.user_attrs.get(WARM))
    return Ended(
        trial.number,
        STATES[trial.state.name],
        trial.user_attrs.get(VALUES, {}),
        tuple(trial.values) if trial.state.name == "COMPLETE" else None,
        tuple(trial.user_attrs.get(RUN_IDS, ())),
        warm,
        trial.user_attrs.get(MESSAGE, ""),
        trial.duration.total_seconds() if trial.duration and not warm else None,
        tuple(trial.system_attrs.get(HISTORY, ())),
    )


def replaced_numbers(trials: Sequence[Any]) -> set[int]:
    """Return the numbers of trials that stand under another number now: they were tried again."""
    return {number for trial in trials for number in trial.system_attrs.get(HISTORY, ())}


def _beats(one: Ended, other: Ended, signs: Sequence[int]) -> bool:
    """Whether a trial is better in one objective and worse in none; of equal ones the first stands."""
    assert one.values is not None
    assert other.values is not None
    gains = [sign * (a - b) for sign, a, b in zip(signs, one.values, other.values, strict=True)]
    return min(gains) >= 0 and (max(gains) > 0 or one.number < other.number)
