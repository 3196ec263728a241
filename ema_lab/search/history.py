"""Read-only history of a search: its trials, their outcomes, and the best of them."""

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
STEPS = "steps"  # study attribute: trials report by epoch or by seed, see `Strategy.steps`
HISTORY = "retry_history"  # Optuna's trial attribute: earlier numbers of a retried trial
STATES: Mapping[str, str] = {"COMPLETE": "done", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(frozen=True)
class EndedTrial:
    """Trial that has ended.

    Attributes:
        number: Number in the study. A retried trial gets a new number.
        state: done, pruned or failed.
        choice: The value of each parameter, by dotted key.
        values: Current values of the trial's runs, one per objective; None unless the trial is done.
        run_ids: Ids of the trial's runs, one per seed.
        warm: Whether the trial was learned from finished runs of the store.
        message: Reason why the trial failed or was pruned.
        seconds: Duration of the trial in this search. Runs that were finished before take no time.
        tried_as: Earlier numbers of a retried trial, in order.
        stale: Parts whose source has changed since the trial's runs finished, see `Results.stale`.
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
        """Number under which the trial was first tried, which gives its position among all trials."""
        return self.tried_as[0] if self.tried_as else self.number


@dataclass
class Counts:
    """Number of a study's own trials per state."""

    done: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0
    warm: int = 0

    @property
    def over(self) -> int:
        """Number of trials that have ended, in whatever state."""
        return self.done + self.pruned + self.failed

    @property
    def own(self) -> int:
        """Number of trials that count towards `--trials`: all but warm trials."""
        return self.over + self.running + self.waiting


class History:
    """Read-only view of a sweep's study."""

    def __init__(self, sweep: Sweep, objectives: tuple[Objective, ...], store: RunStore, study: Any) -> None:
        self.sweep = sweep
        self.objectives = objectives
        self.store = store
        self.study = study
        self.results = Results(store, objectives)

    def trials(self) -> list[EndedTrial]:
        """Return the ended trials in order. A retried trial appears once."""
        trials = self.study.get_trials(deepcopy=False)
        replaced = replaced_numbers(trials)
        return [
            self._with_current_values(_ended(trial))
            for trial in trials
            if trial.state.name in STATES and trial.number not in replaced
        ]

    def _with_current_values(self, trial: EndedTrial) -> EndedTrial:
        """Return a trial with the current values of its runs.

        Trials of another store keep their recorded values.
        """
        if trial.values is None:
            return trial
        values = self.results.values(trial.run_ids) or trial.values
        return replace(trial, values=values, stale=self.results.stale(trial.run_ids))

    def reported(self, run_ids: Sequence[str]) -> dict[int, float]:
        """Return the values by step that a trial of these runs reports.

        The result is empty unless the store has all runs finished.
        """
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
        """Return the number of trials per state."""
        return count_trials(self.study.get_trials(deepcopy=False))

    def running_run_ids(self) -> list[str]:
        """Return the runs of trials that are still running."""
        trials = self.study.get_trials(deepcopy=False)
        running = (t.user_attrs.get(RUN_IDS, ()) for t in trials if t.state.name == "RUNNING")
        return [run_id for run_ids in running for run_id in run_ids]

    def best(self) -> list[EndedTrial]:
        """Return the finished trials that no other beats: the best of one objective, or the Pareto front."""
        done = [trial for trial in self.trials() if trial.values is not None]
        signs = [objective.sign for objective in self.objectives]
        return [trial for trial in done if not any(_beats(other, trial, signs) for other in done)]

    def ranked(self) -> list[EndedTrial]:
        """Return all ended trials: the Pareto front, other finished trials, pruned, failed.

        Finished trials are sorted by the first objective, best first.
        """
        front = {trial.number for trial in self.best()} if len(self.objectives) > 1 else set()
        sign = self.objectives[0].sign
        states = list(STATES.values())

        def rank(trial: EndedTrial) -> tuple[Any, ...]:
            first = -sign * trial.values[0] if trial.values else 0.0
            return states.index(trial.state), trial.number not in front, first, trial.number

        return sorted(self.trials(), key=rank)


def count_trials(trials: Sequence[Any]) -> Counts:
    """Return the number of a study's trials per state. A retried trial counts once."""
    counts = Counts()
    replaced = replaced_numbers(trials)
    names = {**STATES, "RUNNING": "running"}
    for trial in trials:
        if trial.number in replaced:
            continue
        name = "warm" if trial.user_attrs.get(WARM) else names.get(trial.state.name, "waiting")
        setattr(counts, name, getattr(counts, name) + 1)
    return counts


def find_history(
    sweep: Sweep, objectives: Sequence[str], store: RunStore, storage: str | None = None
) -> History:
    """Find the study that matches a sweep file's current content. Create and change nothing.

    Args:
        sweep: The sweep.
        objectives: Values of `--objective`; the file's metric if empty.
        store: Store of the runs, and by default of the journal.
        storage: URL of another storage.

    Raises:
        StoreError: If no such study exists. The message lists those that do.
    """
    import optuna

    wanted = read_objectives(sweep, objectives)
    path = journal_path(store, sweep.name)
    if storage is None and not path.exists():
        raise StoreError(
            f"there is no search of {sweep.name} in {store.root}; start one with `ema-lab sweep {sweep.path}`"
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
    raise StoreError(
        f"no search of {sweep.path} by {_listed(wanted)} in {where}{_other_studies(sweep, others)}"
    )


def has_searches(store: RunStore, sweep: str, storage: str | None = None) -> bool:
    """Return whether the store's journal or the storage has any study of a sweep's name."""
    if storage is None:
        return journal_path(store, sweep).exists()
    import optuna

    opened = open_storage(storage, store, sweep)
    with quiet_optuna(), storage_errors():
        return any(name.startswith(f"{sweep}-") for name in optuna.get_all_study_names(opened))


def searched_run_ids(store: RunStore, storage: str | None = None) -> set[str]:
    """Return the runs of all trials of all searches in a store's journals and in a storage.

    Raises:
        StoreError: If a journal cannot be read, or the storage does not answer.
    """
    import optuna

    storages = [read_journal(path) for path in sorted(journal_path(store, "").parent.glob("*.journal"))]
    if storage is not None:
        storages.append(open_storage(storage, store, ""))
    with quiet_optuna(), storage_errors():
        return {
            run_id
            for opened in storages
            for name in optuna.get_all_study_names(opened)
            for trial in optuna.load_study(study_name=name, storage=opened).get_trials(deepcopy=False)
            for run_id in trial.user_attrs.get(RUN_IDS, ())
        }


def num_repeated(trials: Sequence[EndedTrial]) -> int:
    """Return the number of a search's own trials whose runs an earlier or warm trial had."""
    known: set[tuple[str, ...]] = set()
    count = 0
    for trial in sorted(trials, key=lambda each: each.first_number):
        count += bool(trial.run_ids) and not trial.warm and trial.run_ids in known
        known.add(trial.run_ids)
    return count


def _other_studies(sweep: Sweep, studies: Sequence[Any]) -> str:
    """Describe the other studies: the same file by other objectives, or another state of the file."""
    same = []
    for study in studies:
        objectives = objectives_of(study)
        if objectives and sweep.study_name(objectives) == study.study_name:
            same.append(" ".join(f"--objective {objective}" for objective in objectives))
    if same:
        return f"; there is one by {', objective by '.join(same)}"
    if not studies:
        return ""
    count = f"{len(studies)} of other bases, spaces or seeds" if len(studies) > 1 else "one of another"
    return f"; there {'are' if len(studies) > 1 else 'is'} {count}: the file was changed since"


def objectives_of(study: Any) -> tuple[Objective, ...]:
    """Return the objectives that a study names, without descriptions of their metrics."""
    names = zip(study.metric_names or (), study.directions, strict=False)
    return tuple(Objective(name, +1 if direction.name == "MAXIMIZE" else -1) for name, direction in names)


def _listed(objectives: Sequence[Objective]) -> str:
    return " and ".join(map(str, objectives))


def _ended(trial: Any) -> EndedTrial:
    warm = bool(trial.user_attrs.get(WARM))
    return EndedTrial(
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
    """Return the numbers of retried trials, which have another number now."""
    return {number for trial in trials for number in trial.system_attrs.get(HISTORY, ())}


def _beats(trial: EndedTrial, other: EndedTrial, signs: Sequence[int]) -> bool:
    """Return whether a trial is better in one objective and worse in none; the first of equal trials wins."""
    assert trial.values is not None
    assert other.values is not None
    gains = [sign * (a - b) for sign, a, b in zip(signs, trial.values, other.values, strict=True)]
    return min(gains) >= 0 and (max(gains) > 0 or trial.number < other.number)
