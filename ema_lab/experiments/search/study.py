"""A sweep's study: which trials there are, which comes next, and what each has shown.

Every trial holds a kernel lock while it is tried, so that a dead one is known at once, by whoever asks
next. Asking goes one at a time: a grid is handed out exactly once, and the number of trials is kept.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ema_lab.errors import DefinitionError, StoreError
from ema_lab.experiments.curve import read_curve
from ema_lab.experiments.search.history import CELL, MESSAGE, RUN_IDS, VALUES, WARM, Ended, History
from ema_lab.experiments.search.objective import Objective
from ema_lab.experiments.search.storage import folder_of, open_storage, quiet_optuna
from ema_lab.experiments.search.strategy import Strategy
from ema_lab.experiments.search.sweep import Sweep
from ema_lab.experiments.store import RunStore
from ema_lab.specs.run import RunSpec


@dataclass(frozen=True)
class Search:
    """Everything that says which study a trial belongs to; workers get it by pickle."""

    sweep: Sweep
    objectives: tuple[Objective, ...]
    strategy: Strategy
    root: Path
    storage: str | None = None

    @property
    def study_name(self) -> str:
        return self.sweep.study_name(self.objectives)

    @property
    def store(self) -> RunStore:
        return RunStore(self.root)


@dataclass
class Asked:
    """A trial to be tried: Optuna's, and what it chose by dotted key. `lock` is held until `release`."""

    trial: Any
    choice: dict[str, Any]
    lock: FileLock = field(repr=False)

    @property
    def number(self) -> int:
        return int(self.trial.number)

    def release(self) -> None:
        self.lock.release()


class SweepStudy(History):
    """The study of a search, made with its first use.

    Raises:
        StoreError: If the storage does not answer, or cannot be read.
    """

    def __init__(self, search: Search) -> None:
        import optuna

        self.search = search
        self.storage = open_storage(search.storage, search.store, search.sweep.name)
        self._folder = folder_of(search.store) / search.study_name
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._alone(), quiet_optuna():
            study = optuna.create_study(
                study_name=search.study_name,
                storage=self.storage,
                pruner=search.strategy.optuna_pruner(search.sweep.base.spec.recipe.epochs),
                directions=[one.direction for one in search.objectives],  # type: ignore[misc]
                load_if_exists=True,
            )
            if study.metric_names is None:
                study.set_metric_names([one.name for one in search.objectives])
        super().__init__(search.sweep, search.objectives, search.store, study)
        self._distributions = {one.name: one.optuna_distribution() for one in self.sweep.parameters}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep every other process of this store from asking, and from finding the dead."""
        with FileLock(self._folder / "ask.lock", fallback_to_soft=False):
            yield

    def _lock(self, number: int) -> FileLock:
        return FileLock(self._folder / f"{number}.lock", fallback_to_soft=False)

    def ask(self, limit: int | None) -> Asked | None:
        """Return the next trial, its lock held; None when there is none to come.

        Trials of dead processes come first, then those of a grid that wait. `limit` is the number of
        the study's own trials; None asks for ever.
        """
        with self._alone(), quiet_optuna():
            self._revive()
            counts = self.counts()
            if not counts.waiting:
                full = limit is not None and counts.own >= limit
                if full or self.search.strategy.sampler == "grid" or self.target_is_reached():
                    return None
            number = len(self.study.get_trials(deepcopy=False))
            self.study.sampler = self.search.strategy.optuna_sampler(number)
            trial = self.study.ask(self._distributions)
            lock = self._lock(trial.number)
            lock.acquire(timeout=0)
            choice = self._choice(trial.params)
            trial.set_user_attr(VALUES, choice)
            return Asked(trial, choice, lock)

    def _choice(self, held: Mapping[str, Any]) -> dict[str, Any]:
        return {one.key: one.value_of(held[one.name]) for one in self.sweep.parameters}

    def revive(self) -> None:
        """Let the trials of dead processes wait to be tried again."""
        with self._alone(), quiet_optuna():
            self._revive()

    def _revive(self) -> None:
        """Fail each trial whose process died and let one copy of it wait. The caller is alone."""
        from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
        from optuna.trial import TrialState

        fail_stale_trials(self.study)  # where there are heartbeats: trials of another store's processes
        again = RetryHeartbeatStaleTrialCallback()
        for trial in self.study.get_trials(deepcopy=True, states=(TrialState.RUNNING,)):
            if self._is_dead(trial.number) and self.storage.set_trial_state_values(
                trial._trial_id, state=TrialState.FAIL
            ):
                again(self.study, trial)

    def _is_dead(self, number: int) -> bool:
        lock = self._lock(number)
        if not Path(lock.lock_file).exists():
            return self.search.storage is None  # a shared storage may have processes with another store
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True

    def enqueue_grid(self, limit: int | None) -> None:
        """Let every combination of a grid wait, in the order of the file, those that are there left out."""
        with self._alone(), quiet_optuna():
            trials = self.study.get_trials(deepcopy=False)
            there = {trial.user_attrs.get(CELL) for trial in trials}
            for number, values in enumerate(self.sweep.grid()):
                if limit is not None and number >= limit:
                    return
                if number not in there:
                    self._enqueue(values, {CELL: number})

    def _enqueue(self, values: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        held = {one.name: one.held_for(values[one.key]) for one in self.sweep.parameters}
        self.study.enqueue_trial(held, user_attrs=dict(attributes))

    def add_finished(self) -> int:
        """Tell the study of every choice whose runs the store has all finished; return how many are new."""
        with self._alone(), quiet_optuna():
            known = {
                tuple(trial.user_attrs.get(RUN_IDS, ()))
                for trial in self.study.get_trials(deepcopy=False)
                if trial.state.name not in {"PRUNED", "FAIL"}
            }
            return sum(self._add(choice, known) for choice in finished_choices(self.sweep, self.store))

    def _add(self, choice: Mapping[str, Any], known: set[tuple[str, ...]]) -> bool:
        from optuna.trial import create_trial

        run_ids = [spec.run_id for spec in self.sweep.runs(choice)]
        if tuple(run_ids) in known:
            return False
        try:
            values = [one.of_runs(self.store, run_ids) for one in self.search.objectives]
        except StoreError:
            return False  # a run without this cost or curve teaches this search nothing
        held = {one.name: one.held_for(choice[one.key]) for one in self.sweep.parameters}
        first = self.search.objectives[0]
        curve = read_curve(self.store.folder(run_ids[0])) if len(values) == 1 and first.is_metric else []
        trial = create_trial(
            params=held,
            distributions=self._distributions,
            values=values,
            user_attrs={VALUES: dict(choice), RUN_IDS: run_ids, WARM: True},
            intermediate_values={int(row["epoch"]): row[first.name] for row in curve if first.name in row},
        )
        self.study.add_trial(trial)
        return True

    def end(self, asked: Asked, ended: Ended) -> None:
        """Note how a trial ended."""
        from optuna.trial import TrialState

        with quiet_optuna():
            if ended.message:
                asked.trial.set_user_attr(MESSAGE, ended.message)
            if ended.values is not None:
                self.study.tell(asked.trial, list(ended.values))
            else:
                self.study.tell(
                    asked.trial, state=TrialState.PRUNED if ended.state == "pruned" else TrialState.FAIL
                )

    def target_is_reached(self) -> bool:
        """Whether a trial has reached the file's `metric.target`."""
        target = self.sweep.spec.goal.target
        first = self.search.objectives[0]
        if target is None or len(self.search.objectives) > 1 or first.name != self.sweep.spec.goal.name:
            return False
        done = (one.values[0] for one in self.trials() if one.values is not None)
        return any(first.sign * (value - target) >= 0 for value in done)


def finished_choices(sweep: Sweep, store: RunStore) -> Iterator[dict[str, Any]]:
    """Yield each choice of values whose runs are all done in the store, whoever trained them."""
    for run_id in store.run_ids():
        try:
            spec = store.spec(run_id)
        except StoreError:
            continue
        if spec.seed == sweep.seeds[0] and (values := sweep.values_of(spec)) is not None:
            runs = _runs(sweep, values)
            if runs and all(store.facts(run.run_id).done for run in runs):
                yield values


def _runs(sweep: Sweep, values: Mapping[str, Any]) -> list[RunSpec]:
    try:
        return sweep.runs(values)
    except DefinitionError:
        return []
