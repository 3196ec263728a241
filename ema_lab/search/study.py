"""Study of a sweep: hands out trials, records their outcomes, and retries dead or failed ones.

Every running trial has a lease, so that the next process that asks can detect a dead trial. Processes ask one
at a time, so that each grid cell is handed out once and the trial limit holds.
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
    EndedTrial,
    History,
    replaced_numbers,
)
from ema_lab.search.lease import STORE, Leases
from ema_lab.search.objective import Objective
from ema_lab.search.storage import GRACE_SECONDS, folder_of, open_storage, quiet_optuna
from ema_lab.search.strategy import Strategy
from ema_lab.search.sweep import Sweep
from ema_lab.store.store import MAX_ATTEMPTS, RunStore

FAILED = "failed"  # set before a trial is failed on purpose; a failed trial without the mark has died
OVER_WITHOUT_VALUE = {"PRUNED", "FAIL"}


@dataclass(frozen=True)
class Search:
    """Identity of a study and how to search it; picklable for workers.

    `grace_seconds`: seconds without a heartbeat after which a trial in a database is retried.
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
class LeasedTrial:
    """Trial to be tried: Optuna's trial, its choice by dotted key, and a lease that `release` ends."""

    trial: Any
    choice: dict[str, Any]
    lease: ExitStack = field(repr=False)

    @property
    def number(self) -> int:
        return int(self.trial.number)

    def release(self) -> None:
        self.lease.close()


class SweepStudy(History):
    """Study of a search, created on first use.

    Raises:
        StoreError: If the storage does not answer, or cannot be read.
        SpecError: If the study's trials report at other steps than the pruner compares.
    """

    def __init__(self, search: Search) -> None:
        import optuna

        self.search = search
        self.storage = open_storage(search.storage, search.store, search.sweep.name, search.grace_seconds)
        self._leases = Leases(folder_of(search.store) / search.study_name, self.storage)
        with self._leases.ask_lock():
            study = optuna.create_study(
                study_name=search.study_name,
                storage=self.storage,
                pruner=search.strategy.optuna_pruner(),
                directions=[objective.direction for objective in search.objectives],  # type: ignore[misc]
                load_if_exists=True,
            )
            if study.metric_names is None:
                study.set_metric_names([objective.name for objective in search.objectives])
            _require_steps(study, search.strategy)
        super().__init__(search.sweep, search.objectives, search.store, study)
        self.left_out = 0  # stale choices of the store that `add_finished` did not add
        self._tries: dict[tuple[str, ...], int] = {}
        self._distributions = {
            parameter.name: parameter.optuna_distribution() for parameter in self.sweep.parameters
        }
        self._check_store()

    def _check_store(self) -> None:
        """Refuse a second store where no process could detect the other store's dead trials."""
        if self.search.storage is None or self._leases.has_heartbeats:
            return
        with self._leases.ask_lock():
            if (store_id := self.study.user_attrs.get(STORE)) is None:
                self.study.set_user_attr(STORE, self._leases.store_id)
            elif store_id != self._leases.store_id:
                raise StoreError(
                    f"the study {self.search.study_name} at {self.search.storage} belongs to another store; "
                    "gRPC cannot tell which of its trials are alive: share that store, or use "
                    "postgresql+psycopg://"
                )

    def ask(self, limit: int | None, max_attempts: int = MAX_ATTEMPTS) -> LeasedTrial | None:
        """Return the next trial with its lease, or None if no trial is left.

        Dead trials come first, then waiting grid cells, and failed trials last.

        Args:
            limit: Maximum number of the study's own trials; None for no limit.
            max_attempts: Number of failed or killed attempts after which a run, and so its trial, is not
                retried.
        """
        # One lock from counting to leasing: otherwise two processes could both draw the last trial, and a
        # third could take a trial that has no lease yet for dead.
        with self._leases.ask_lock():
            self._revive()
            counts = self.counts()
            if not counts.waiting:
                full = limit is not None and counts.own >= limit
                over = full or self.search.strategy.sampler == "grid"  # a grid's trials are all queued
                if self.target_is_reached() or (over and not self._renew(max_attempts)):
                    return None
            self.study.sampler = self.search.strategy.optuna_sampler(self._next_number())
            trial = self.study.ask(self._distributions)
            choice = self._choice(trial.params)
            trial.set_user_attr(VALUES, choice)
            return LeasedTrial(trial, choice, self._leases.take(trial))

    def _next_number(self) -> int:
        """Return the number that seeds the next trial's sampler; for a retried trial, its first number.

        If a trial died before drawing its values, its retry draws them. No other trial may use that number.
        """
        trials = self.study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state.name == "WAITING":  # Optuna hands out the first waiting trial
                return int(trial.system_attrs.get(HISTORY, [trial.number])[0])
        return len(trials)

    def _choice(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        return {
            parameter.key: parameter.value_of(stored[parameter.name]) for parameter in self.sweep.parameters
        }

    def revive(self) -> None:
        """Queue the trials of dead processes again."""
        with self._leases.ask_lock():
            self._revive()

    def _revive(self) -> None:
        """Fail each trial whose process died and queue one copy of the trial. The caller holds the ask lock.

        If the calling process dies halfway, a failed trial has no copy; the next call queues the copy.
        """
        self._leases.fail_dead(self.study)
        for trial in self._latest_trials():
            if trial.state.name == "FAIL" and not trial.user_attrs.get(FAILED):
                self._try_again(trial)

    def _latest_trials(self) -> list[Any]:
        """Return the study's trials without those that a retry has replaced."""
        trials = self.study.get_trials(deepcopy=False)
        replaced = replaced_numbers(trials)
        return [trial for trial in trials if trial.number not in replaced]

    def _try_again(self, trial: Any) -> None:
        """Queue a copy that replaces a trial. The caller holds the ask lock."""
        from optuna.storages import RetryHeartbeatStaleTrialCallback

        trial = copy.deepcopy(trial)  # Optuna's callback appends to the trial's history in place
        # The callback copies all attributes, but FAILED and STORE describe the old try: if the new process
        # died, a copied FAILED would hide its death.
        kept = {CELL, RUN_IDS} & trial.user_attrs.keys()
        trial.user_attrs = {key: trial.user_attrs[key] for key in kept}
        RetryHeartbeatStaleTrialCallback()(self.study, trial)

    def renew(self, max_attempts: int) -> None:
        """Queue failed trials again if their runs have attempts left, or are all done by now."""
        with self._leases.ask_lock():
            self._renew(max_attempts)

    def _renew(self, max_attempts: int) -> bool:
        """Queue retryable failed trials; return whether there are any. The caller holds the ask lock."""
        failed = [
            trial
            for trial in self._latest_trials()
            if trial.user_attrs.get(FAILED) and trial.state.name == "FAIL"
        ]
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
            return False  # a failure that records no attempt (an unwritable folder) would be retried for ever
        self._tries[run_ids] = tries
        return True

    def enqueue_grid(self, limit: int | None) -> None:
        """Queue every combination of a grid that the study lacks, in the order of the file."""
        with self._leases.ask_lock():
            trials = self.study.get_trials(deepcopy=False)
            known = {trial.user_attrs.get(CELL) for trial in trials}
            for number, values in enumerate(self.sweep.grid()):
                if limit is not None and number >= limit:
                    return
                if number not in known:
                    self._enqueue(values, {CELL: number})

    def _enqueue(self, values: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
        stored = {
            parameter.name: parameter.stored_for(values[parameter.key]) for parameter in self.sweep.parameters
        }
        self.study.enqueue_trial(stored, user_attrs=dict(attributes))

    def add_finished(self) -> int:
        """Add every choice whose runs are all finished in the store; return the number of additions.

        The study's pruned or failed trials whose runs have finished since get their values. A grid takes no
        other choices, since it has them all. Stale choices only count in `left_out`.
        """
        self.left_out = 0
        with self._leases.ask_lock():
            trials = self._latest_trials()
            known = {tuple(trial.user_attrs.get(RUN_IDS, ())) for trial in trials}
            over = [trial for trial in trials if trial.state.name in OVER_WITHOUT_VALUE]
            count = sum(self._add(trial.user_attrs.get(VALUES, {}), instead_of=trial) for trial in over)
            if self.search.strategy.sampler != "grid":
                count += sum(
                    self._learn(choice, known) for choice in finished_choices(self.sweep, self.store)
                )
            return count

    def _learn(self, choice: Mapping[str, Any], known: set[tuple[str, ...]]) -> bool:
        """Add a finished choice as a warm trial unless its runs are `known` or stale."""
        run_ids = _run_ids(self.sweep, choice)
        if run_ids in known:
            return False
        known.add(run_ids)
        if self.results.stale(run_ids):
            self.left_out += 1
            return False
        return self._add(choice)

    def _add(self, choice: Mapping[str, Any], instead_of: Any = None) -> bool:
        """Add a trial if its runs are finished: a warm trial, or a replacement of an ended trial."""
        from optuna.trial import create_trial

        run_ids = _run_ids(self.sweep, choice)
        if (values := self.results.values(run_ids)) is None:
            return False
        attributes: dict[str, Any] = {VALUES: dict(choice), RUN_IDS: list(run_ids)}
        earlier_numbers: list[int] = []
        if instead_of is None:
            attributes[WARM] = True
        else:  # Optuna cannot change an ended trial, so a new trial replaces it and lists its numbers
            attributes |= {CELL: instead_of.user_attrs[CELL]} if CELL in instead_of.user_attrs else {}
            earlier_numbers = [*instead_of.system_attrs.get(HISTORY, ()), instead_of.number]
        trial = create_trial(
            params={
                parameter.name: parameter.stored_for(choice[parameter.key])
                for parameter in self.sweep.parameters
            },
            distributions=self._distributions,
            values=values,
            user_attrs=attributes,
            system_attrs={HISTORY: earlier_numbers} if earlier_numbers else None,
            intermediate_values=self.reported(run_ids),
        )
        if instead_of is not None:  # keep the time that the trial took in the search
            trial.datetime_start = instead_of.datetime_start
            trial.datetime_complete = instead_of.datetime_complete
        self.study.add_trial(trial)
        return True

    def end(self, leased: LeasedTrial, ended: EndedTrial) -> None:
        """Record a trial's outcome.

        Raises:
            UpdateFinishedTrialError: Optuna's, if the trial was taken for dead and another process has
                retried it.
        """
        from optuna.trial import TrialState

        state = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}.get(ended.state)
        with quiet_optuna():
            if ended.message:
                leased.trial.set_user_attr(MESSAGE, ended.message)
            if ended.state == "failed":
                leased.trial.set_user_attr(FAILED, True)
            values = list(ended.values) if ended.values is not None else None
            self.study.tell(leased.trial, values, state)

    def target_is_reached(self) -> bool:
        """Return whether a trial has reached the file's `metric.target`."""
        target = self.sweep.goal.target
        first = self.search.objectives[0]
        if target is None or len(self.search.objectives) > 1 or first.name != self.sweep.goal.name:
            return False
        done = (trial.values[0] for trial in self.trials() if trial.values is not None)
        return any(first.sign * (value - target) >= 0 for value in done)


def _require_steps(study: Any, strategy: Strategy) -> None:
    """Record the steps at which a new study's trials report; refuse a study that uses other steps.

    Raises:
        SpecError: With the remedy. The pruner would compare an epoch with a seed of the same number.
    """
    if (stored := study.user_attrs.get(STEPS)) is None:
        study.set_user_attr(STEPS, strategy.steps)
    elif stored != strategy.steps:
        advice = "keep the pruner, or copy the file to a new name (its search learns from finished runs)"
        began = "with" if stored == "seed" else "without"
        raise SpecError(
            f"--pruner {strategy.pruner} compares by {strategy.steps}, but the study {study.study_name} was "
            f"begun {began} --pruner wilcoxon and holds values by {stored}: {advice}"
        )


def finished_choices(sweep: Sweep, store: RunStore) -> Iterator[dict[str, Any]]:
    """Yield each choice whose runs are all done in the store, whichever command trained them."""
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
    """Return the runs of a choice; empty if the choice makes no valid run."""
    try:
        return tuple(spec.run_id for spec in sweep.runs(values))
    except DefinitionError:
        return ()
