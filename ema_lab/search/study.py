"""A sweep's study: which trials there are, which comes next, and what each has shown.

Every trial has a lease while it is tried, so that a dead one is known to whoever asks next. Asking goes one
at a time: a grid is handed out exactly once, and the number of trials is kept.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ema_lab.errors import DefinitionError, SpecError, StoreError
from ema_lab.search.history import (
    CELL,
    HISTORY,
    MESSAGE,
    RUN_IDS,
    STEPS,
    VALUES,
    WARM,
    Ended,
    History,
    replaced_numbers,
)
from ema_lab.search.lease import STORE, Leases
from ema_lab.search.objective import Objective
from ema_lab.search.storage import GRACE_SECONDS, folder_of, open_storage, quiet_optuna
from ema_lab.search.strategy import Strategy
from ema_lab.search.sweep import Sweep
from ema_lab.store.store import MAX_ATTEMPTS, RunStore

FAILED = "failed"  # said of a trial before it fails: one that fails without it has died
OVER_WITHOUT_VALUE = {"PRUNED", "FAIL"}


@dataclass(frozen=True)
class Search:
    """Everything that says which study a trial belongs to; workers get it by pickle.

    `grace_seconds`: how long a trial in a database may give no sign of life before it is tried again.
    """

    sweep: Sweep
    objectives: tuple[Objective, ...]
    strategy: Strategy
    root: Path
    storage: str | None = None
    grace_seconds: int = GRACE_SECONDS

    @property
    def study_name(self) -> str:
        return self.sweep.study_name(self.objectives)

    @property
    def store(self) -> RunStore:
        return RunStore(self.root)


@dataclass
class Asked:
    """A trial to be tried: Optuna's, and what it chose by dotted key. Its `lease` ends with `release`."""

    trial: Any
    choice: dict[str, Any]
    lease: ExitStack = field(repr=False)

    @property
    def number(self) -> int:
        return int(self.trial.number)

    def release(self) -> None:
        self.lease.close()


class SweepStudy(History):
    """The study of a search, made with its first use.

    Raises:
        StoreError: If the storage does not answer, or cannot be read.
        SpecError: If its trials report at other steps than the pruner compares.
    """

    def __init__(self, search: Search) -> None:
        import optuna

        self.search = search
        self.storage = open_storage(search.storage, search.store, search.sweep.name, search.grace_seconds)
        self._leases = Leases(folder_of(search.store) / search.study_name, self.storage)
        with self._leases.alone():
            study = optuna.create_study(
                study_name=search.study_name,
                storage=self.storage,
                pruner=search.strategy.optuna_pruner(),
                directions=[one.direction for one in search.objectives],  # type: ignore[misc]
                load_if_exists=True,
            )
            if study.metric_names is None:
                study.set_metric_names([one.name for one in search.objectives])
            _require_steps(study, search.strategy)
        super().__init__(search.sweep, search.objectives, search.store, study)
        self.left_out = 0  # stale choices of the store of which `add_finished` has not told
        self._tries: dict[tuple[str, ...], int] = {}
        self._distributions = {one.name: one.optuna_distribution() for one in self.sweep.parameters}
        self._check_store()

    def _check_store(self) -> None:
        """Refuse a second store where nobody could tell which of the other's trials live."""
        if self.search.storage is None or self._leases.gives_signs_of_life:
            return
        with self._leases.alone():
            if (store_id := self.study.user_attrs.get(STORE)) is None:
                self.study.set_user_attr(STORE, self._leases.store_id)
            elif store_id != self._leases.store_id:
                raise StoreError(
                    f"the study {self.search.study_name} at {self.search.storage} is that of another store; "
                    "gRPC does not tell which of its trials live: share that store, or use postgresql+psycopg://"
                )

    def ask(self, limit: int | None, max_attempts: int = MAX_ATTEMPTS) -> Asked | None:
        """Return the next trial, with its lease; None when there is none to come.

        Trials of dead processes come first, then those of a grid that wait, at the end those that failed.

        Args:
            limit: The number of the study's own trials; None asks for ever.
            max_attempts: Failed or killed attempts after which a run, and so its trial, is left alone.
        """
        with self._leases.alone():
            self._revive()
            counts = self.counts()
            if not counts.waiting:
                full = limit is not None and counts.own >= limit
                over = full or self.search.strategy.sampler == "grid"
                if self.target_is_reached() or (over and not self._renew(max_attempts)):
                    return None
            self.study.sampler = self.search.strategy.optuna_sampler(self._next_number())
            trial = self.study.ask(self._distributions)
            choice = self._choice(trial.params)
            trial.set_user_attr(VALUES, choice)
            return Asked(trial, choice, self._leases.take(trial))

    def _next_number(self) -> int:
        """Return the number of the next trial; of one that is tried again, the first it had.

        One that died before it had drawn its values draws them then: no other may have its number.
        """
        trials = self.study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state.name == "WAITING":  # Optuna takes the first
                return int(trial.system_attrs.get(HISTORY, [trial.number])[0])
        return len(trials)

    def _choice(self, held: Mapping[str, Any]) -> dict[str, Any]:
        return {one.key: one.value_of(held[one.name]) for one in self.sweep.parameters}

    def revive(self) -> None:
        """Let the trials of dead processes wait to be tried again."""
        with self._leases.alone():
            self._revive()

    def _revive(self) -> None:
        """Fail each trial whose process died and let one copy of it wait. The caller is alone.

        Whoever dies in the middle of it leaves what the next one completes.
        """
        self._leases.fail_dead(self.study)
        for trial in self._standing():
            if trial.state.name == "FAIL" and not trial.user_attrs.get(FAILED):
                self._try_again(trial)

    def _standing(self) -> list[Any]:
        """Return the study's trials without those that were tried again."""
        trials = self.study.get_trials(deepcopy=False)
        replaced = replaced_numbers(trials)
        return [trial for trial in trials if trial.number not in replaced]

    def _try_again(self, trial: Any) -> None:
        """Let a copy of a trial wait, which stands in its place. The caller is alone."""
        from optuna.storages import RetryHeartbeatStaleTrialCallback

        trial = copy.deepcopy(trial)
        kept = {CELL, RUN_IDS} & trial.user_attrs.keys()
        trial.user_attrs = {key: trial.user_attrs[key] for key in kept}
        RetryHeartbeatStaleTrialCallback()(self.study, trial)

    def renew(self, max_attempts: int) -> None:
        """Let failed trials wait to be tried again whose runs may be: attempts are left, or all are done."""
        with self._leases.alone():
            self._renew(max_attempts)

    def _renew(self, max_attempts: int) -> bool:
        """Return whether there are any. The caller is alone."""
        failed = [one for one in self._standing() if one.user_attrs.get(FAILED) and one.state.name == "FAIL"]
        again = [trial for trial in failed if self._may_go_on(trial, max_attempts)]
        for trial in again:
            self._try_again(trial)
        return bool(again)

    def _may_go_on(self, trial: Any, max_attempts: int) -> bool:
        run_ids = tuple(trial.user_attrs.get(RUN_IDS, ()))
        states = {self.store.state(run_id, max_attempts) for run_id in run_ids}
        if states <= {"done"}:
            return self.results.values(run_ids) is not None
        tries = sum(self.store.facts(run_id).tries for run_id in run_ids)
        if "failed" in states or self._tries.get(run_ids) == tries:
            return False  # what leaves no attempt, as a folder that cannot be written, would go on for ever
        self._tries[run_ids] = tries
        return True

    def enqueue_grid(self, limit: int | None) -> None:
        """Let every combination of a grid wait, in the order of the file, those that are there left out."""
        with self._leases.alone():
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
        """Tell the study of every choice whose runs the store has all finished; return how many are new.

        Its own trials that were pruned, or failed, before that get their values. Of a grid, which has every
        choice, no other is told. Stale ones are `left_out`.
        """
        self.left_out = 0
        with self._leases.alone():
            trials = self._standing()
            known = {tuple(one.user_attrs.get(RUN_IDS, ())) for one in trials}
            over = [one for one in trials if one.state.name in OVER_WITHOUT_VALUE]
            count = sum(self._add(one.user_attrs.get(VALUES, {}), instead_of=one) for one in over)
            if self.search.strategy.sampler != "grid":
                count += sum(
                    self._learn(choice, known) for choice in finished_choices(self.sweep, self.store)
                )
            return count

    def _learn(self, choice: Mapping[str, Any], known: set[tuple[str, ...]]) -> bool:
        """Add a finished choice as a warm trial unless its runs are `known`, or stale."""
        run_ids = _run_ids(self.sweep, choice)
        if run_ids in known:
            return False
        known.add(run_ids)
        if self.results.stale(run_ids):
            self.left_out += 1
            return False
        return self._add(choice)

    def _add(self, choice: Mapping[str, Any], instead_of: Any = None) -> bool:
        """Add a trial if its runs are finished: a warm one, or one in the place of one that is over."""
        from optuna.trial import create_trial

        run_ids = _run_ids(self.sweep, choice)
        if (values := self.results.values(run_ids)) is None:
            return False
        attributes: dict[str, Any] = {VALUES: dict(choice), RUN_IDS: list(run_ids)}
        before: list[int] = []
        if instead_of is None:
            attributes[WARM] = True
        else:
            attributes |= {CELL: instead_of.user_attrs[CELL]} if CELL in instead_of.user_attrs else {}
            before = [*instead_of.system_attrs.get(HISTORY, ()), instead_of.number]
        trial = create_trial(
            params={one.name: one.held_for(choice[one.key]) for one in self.sweep.parameters},
            distributions=self._distributions,
            values=values,
            user_attrs=attributes,
            system_attrs={HISTORY: before} if before else None,
            intermediate_values=self.reported(run_ids),
        )
        if instead_of is not None:  # it took the search as long as it did
            trial.datetime_start = instead_of.datetime_start
            trial.datetime_complete = instead_of.datetime_complete
        self.study.add_trial(trial)
        return True

    def end(self, asked: Asked, ended: Ended) -> None:
        """Note how a trial ended.

        Raises:
            UpdateFinishedTrialError: Optuna's, if it was taken for dead and is another's by now.
        """
        from optuna.trial import TrialState

        state = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}.get(ended.state)
        with quiet_optuna():
            if ended.message:
                asked.trial.set_user_attr(MESSAGE, ended.message)
            if ended.state == "failed":
                asked.trial.set_user_attr(FAILED, True)
            values = list(ended.values) if ended.values is not None else None
            self.study.tell(asked.trial, values, state)

    def target_is_reached(self) -> bool:
        """Whether a trial has reached the file's `metric.target`."""
        target = self.sweep.goal.target
        first = self.search.objectives[0]
        if target is None or len(self.search.objectives) > 1 or first.name != self.sweep.goal.name:
            return False
        done = (one.values[0] for one in self.trials() if one.values is not None)
        return any(first.sign * (value - target) >= 0 for value in done)


def _require_steps(study: Any, strategy: Strategy) -> None:
    """Note at which steps a new study's trials report; refuse one whose trials report at others.

    Raises:
        SpecError: With what would be right. An epoch and a seed of the same number would be compared.
    """
    if (held := study.user_attrs.get(STEPS)) is None:
        study.set_user_attr(STEPS, strategy.steps)
    elif held != strategy.steps:
        advice = "go on as it began, or copy the file under another name, which learns from finished runs"
        began = "with" if held == "seed" else "without"
        raise SpecError(
            f"--pruner {strategy.pruner} compares by {strategy.steps}, but the study {study.study_name} was "
            f"begun {began} --pruner wilcoxon and holds values by {held}: {advice}"
        )


def finished_choices(sweep: Sweep, store: RunStore) -> Iterator[dict[str, Any]]:
    """Yield each choice of values whose runs are all done in the store, whoever trained them."""
    for run_id in store.run_ids():
        try:
            spec = store.spec(run_id)
        except StoreError:
            continue
        if spec.seed == sweep.seeds[0] and (values := sweep.values_of(spec)) is not None:
            run_ids = _run_ids(sweep, values)
            if run_ids and all(store.facts(run_id).done for run_id in run_ids):
                yield values


def _run_ids(sweep: Sweep, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a choice's runs; none where it makes no run."""
    try:
        return tuple(spec.run_id for spec in sweep.runs(values))
    except DefinitionError:
        return ()
