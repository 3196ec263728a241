"""Execution of one trial, from asking the study for a choice to reporting its value."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ema_lab.errors import DefinitionError, StoreError
from ema_lab.execution.claim import Claim, Result, Task
from ema_lab.search.history import HISTORY, RUN_IDS, EndedTrial
from ema_lab.search.storage import quiet_optuna, storage_errors
from ema_lab.search.study import LeasedTrial, Search, SweepStudy
from ema_lab.specs.run import RunSpec
from ema_lab.store.curve import read_curve
from ema_lab.store.failure import failure_of
from ema_lab.store.job import RunOutcome, RunStopped, ignore

logger = logging.getLogger(__name__)
TICK_SECONDS = 0.25
TAKEN = "taken for dead, since its heartbeat stopped, and retried under another number"
TrainReporting = Callable[..., RunOutcome]  # as `ema_lab.store.job.Train`, with the keyword `report`
_studies: dict[tuple[object, ...], SweepStudy] = {}  # cache of this process: a worker tries many trials


@dataclass(frozen=True)
class Trier:
    """Picklable worker function: asks for a trial, trains its runs and reports its value.

    Attributes:
        search: Study that the trials belong to.
        train: Trains one run and passes each epoch to `report`. Must be picklable for several workers.
        limit: Maximum number of the study's own trials; None for no limit.
        max_attempts: Number of failed or killed attempts after which a run is not retried. Until then its
            trial is retried, after all others.
        device: Device name that the attempts record.
        session: Id of this call of the search, so that an interruption ends only this call's attempts.
        watch: Observer in this process, called when an attempt begins and after each epoch.
    """

    search: Search
    train: TrainReporting
    limit: int | None
    max_attempts: int
    device: str = ""
    session: str = ""
    watch: Callable[[], None] = ignore

    def __call__(self, study: SweepStudy | None = None) -> EndedTrial | None:
        """Try the next trial; return None if no trial is left. A worker opens the study itself, once.

        Raises:
            StoreError: If the storage fails.
        """
        with storage_errors():
            study = study or _study(self.search)
            leased = study.ask(self.limit, self.max_attempts)
            return None if leased is None else self._try_leased(study, leased)

    def _try_leased(self, study: SweepStudy, leased: LeasedTrial) -> EndedTrial:
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            ended = self._try(study, leased)
            study.end(leased, ended)
            return ended
        except UpdateFinishedTrialError:
            return EndedTrial(leased.number, "pruned", leased.choice, message=TAKEN)
        finally:
            leased.release()

    def _try(self, study: SweepStudy, leased: LeasedTrial) -> EndedTrial:
        outcome = partial(EndedTrial, leased.number, choice=leased.choice)
        try:
            runs = self.search.sweep.runs(leased.choice)
        except DefinitionError as error:
            return outcome(state="failed", message=str(error.problems[0]))
        run_ids = tuple(spec.run_id for spec in runs)
        leased.trial.set_user_attr(RUN_IDS, list(run_ids))
        outcome = partial(outcome, run_ids=run_ids)
        for number, spec in enumerate(runs):
            follower = _Follower(self.search, leased.trial, spec, number)
            if follower.is_pruned_before_run():
                return outcome(state="pruned", message=follower.reason)
            result = self._train(spec, follower, leased.number)
            if result == "stopped" or (result in {"done", "elsewhere"} and follower.is_pruned_after_run()):
                return outcome(state="pruned", message=follower.reason)
            if result not in {"done", "elsewhere"}:
                failure = failure_of(study.store.facts(spec.run_id))
                reason = failure.message if failure else result
                return outcome(state="failed", message=f"{spec.run_id}: {reason}")
        try:
            values = tuple(objective.of_runs(study.store, run_ids) for objective in self.search.objectives)
        except StoreError as error:
            return outcome(state="failed", message=str(error))
        return outcome(state="done", values=values)

    def _train(self, spec: RunSpec, follower: "_Follower", trial: int) -> Result:
        training = partial(self.train, report=follower)
        claim = Claim(training, self.search.store, self.max_attempts, self.device, self.session, self.watch)
        return claim_when_free(claim, Task(spec, self.search.sweep.name, f"trial {trial}"))


def claim_when_free(claim: Claim, task: Task) -> Result:
    """Claim and train a run.

    Wait while another process holds the run, and take over if that process stops.
    """
    while (result := claim(task)) == "busy":
        while claim.store.is_locked(task.spec.run_id):
            time.sleep(TICK_SECONDS)
    return result


class _Follower:
    """Reports a run's epochs to the study, and stops the run when the pruner decides so.

    By epoch, only the first seed's run is followed. The Wilcoxon pruner compares seed by seed.
    """

    def __init__(self, search: Search, trial: Any, spec: RunSpec, number: int) -> None:
        self._search = search
        self._trial = trial
        self._spec = spec
        self._number = number
        self._reported: set[int] = set()
        self._judged: set[int] = set()
        self.reason = ""
        only = search.objectives[0] if len(search.objectives) == 1 else None
        by_seed = search.strategy.pruner == "wilcoxon"
        self._metric = only.name if only and only.is_metric and number == 0 and not by_seed else None

    def __call__(self, row: dict[str, float]) -> None:
        """Report an epoch's row.

        Raises:
            RunStopped: If the trial is pruned at this epoch.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        if self._metric is None:
            return
        try:
            with storage_errors(), quiet_optuna():
                pruned = self._report_epoch(row)
        except StoreError as error:  # the run continues without its search; the epoch is reported later
            logger.warning("%s", error)
            return
        except UpdateFinishedTrialError:
            raise RunStopped(TAKEN) from None
        if pruned:
            raise RunStopped(self.reason)

    def _report_epoch(self, row: dict[str, float]) -> bool:
        epoch = int(row["epoch"])
        goes_on = epoch - 1 not in self._reported and epoch > 1  # resumed from another process's checkpoint
        return (goes_on and self._report_curve(asks=True)) or self._report(row, asks=True)

    def _report_curve(self, *, asks: bool) -> bool:
        rows = read_curve(self._search.store.folder(self._spec.run_id))
        return any(self._report(row, asks=asks) for row in rows)

    def _report(self, row: dict[str, float], *, asks: bool) -> bool:
        """Report an epoch's value once; return whether the trial is pruned there."""
        epoch = int(row["epoch"])
        if self._metric is None or self._metric not in row or epoch in self._reported:
            return False
        self._trial.report(row[self._metric], epoch)
        self._reported.add(epoch)
        asks = asks and self._search.strategy.prunes_by_epoch and epoch not in self._judged
        if asks and epoch < self._spec.recipe.epochs and self._trial.should_prune():
            self.reason = f"pruned after epoch {epoch}"
            return True
        return False

    def is_pruned_before_run(self) -> bool:
        """Report the epochs trained earlier; return whether the trial would have been pruned there.

        Finished runs cost nothing, so they are never pruned. Retried trials are not judged again at epochs
        that they passed before: other trials were pruned because of those values.
        """
        if self._metric is None:
            return False
        done = self._search.store.facts(self._spec.run_id).done
        with quiet_optuna():
            self._judged = _epochs_before(self._trial)
            return self._report_curve(asks=not done)

    def is_pruned_after_run(self) -> bool:
        """Report a finished run's values; return whether to prune the remaining seeds."""
        if self._metric is not None:
            with quiet_optuna():
                self._report_curve(asks=False)
        if self._search.strategy.pruner != "wilcoxon":
            return False
        value = self._search.objectives[0].of_run(self._search.store, self._spec.run_id)
        with quiet_optuna():
            self._trial.report(value, self._number)
            if self._number + 1 < len(self._search.sweep.seeds) and self._trial.should_prune():
                self.reason = f"pruned after seed {self._spec.seed}"
                return True
        return False


def _epochs_before(trial: Any) -> set[int]:
    """Return the epochs that a retried trial reported under its earlier numbers."""
    trials = trial.study.get_trials(deepcopy=False)
    numbers = trials[trial.number].system_attrs.get(HISTORY, ())
    return {epoch for number in numbers for epoch in trials[number].intermediate_values}


def _study(search: Search) -> SweepStudy:
    key = (search.study_name, search.storage, search.root, search.strategy)
    if key not in _studies:
        _studies[key] = SweepStudy(search)
    return _studies[key]
