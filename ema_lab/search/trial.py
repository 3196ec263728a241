"""One trial of a sweep, from the question what to try to its value: what a search's workers call."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ema_lab.errors import DefinitionError, StoreError
from ema_lab.execution.claim import Claim, Result, Task
from ema_lab.search.history import HISTORY, RUN_IDS, Ended
from ema_lab.search.storage import quiet_optuna, storage_errors
from ema_lab.search.study import Asked, Search, SweepStudy
from ema_lab.specs.run import RunSpec
from ema_lab.store.curve import read_curve
from ema_lab.store.failure import failure_of
from ema_lab.store.job import RunOutcome, RunStopped

logger = logging.getLogger(__name__)
TICK_SECONDS = 0.25
TAKEN = "taken for dead, as it gave no sign of life, and tried again under another number"
TrainReporting = Callable[..., RunOutcome]  # as `ema_lab.store.job.Train`, with the keyword `report`
_studies: dict[tuple[object, ...], SweepStudy] = {}  # of this process: a worker tries many trials


@dataclass(frozen=True)
class Trier:
    """Asks for a trial, trains its runs and tells its value; runs in a worker.

    Attributes:
        search: Which study it belongs to.
        train: Trains one run, and reports each epoch to `report`. For several workers it must be picklable.
        limit: The number of the study's own trials; None asks for ever.
        max_attempts: Failed or killed attempts after which a run is left alone; till then its trial is tried
            again, after all others.
        device: What the attempts say they run on.
        session: Marks the attempts of one call of the search, so that an interruption ends no other's.
    """

    search: Search
    train: TrainReporting
    limit: int | None
    max_attempts: int
    device: str = ""
    session: str = ""

    def __call__(self, study: SweepStudy | None = None) -> Ended | None:
        """Try the next trial; None when there is none. A worker opens the study itself, once.

        Raises:
            StoreError: If the storage fails.
        """
        with storage_errors():
            study = study or _study(self.search)
            asked = study.ask(self.limit, self.max_attempts)
            return None if asked is None else self._try_asked(study, asked)

    def _try_asked(self, study: SweepStudy, asked: Asked) -> Ended:
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            ended = self._try(study, asked)
            study.end(asked, ended)
            return ended
        except UpdateFinishedTrialError:
            return Ended(asked.number, "pruned", asked.choice, message=TAKEN)
        finally:
            asked.release()

    def _try(self, study: SweepStudy, asked: Asked) -> Ended:
        about = partial(Ended, asked.number, choice=asked.choice)
        try:
            runs = self.search.sweep.runs(asked.choice)
        except DefinitionError as error:
            return about(state="failed", message=str(error.problems[0]))
        run_ids = tuple(spec.run_id for spec in runs)
        asked.trial.set_user_attr(RUN_IDS, list(run_ids))
        about = partial(about, run_ids=run_ids)
        for number, spec in enumerate(runs):
            follower = _Follower(self.search, asked.trial, spec, number)
            if follower.is_pruned_before_run():
                return about(state="pruned", message=follower.reason)
            result = self._train(spec, follower, asked.number)
            if result == "stopped" or (result in {"done", "elsewhere"} and follower.is_pruned_after_run()):
                return about(state="pruned", message=follower.reason)
            if result not in {"done", "elsewhere"}:
                failure = failure_of(study.store.facts(spec.run_id))
                words = failure.message if failure else result
                return about(state="failed", message=f"{spec.run_id}: {words}")
        try:
            values = tuple(one.of_runs(study.store, run_ids) for one in self.search.objectives)
        except StoreError as error:
            return about(state="failed", message=str(error))
        return about(state="done", values=values)

    def _train(self, spec: RunSpec, follower: "_Follower", trial: int) -> Result:
        training = partial(self.train, report=follower)
        claim = Claim(training, self.search.store, self.max_attempts, self.device, self.session)
        return claim_when_free(claim, Task(spec, self.search.sweep.name, f"trial {trial}"))


def claim_when_free(claim: Claim, task: Task) -> Result:
    """Claim and train a run; one that another process has is waited for, and taken over if it stops."""
    while (result := claim(task)) == "busy":
        while claim.store.is_locked(task.spec.run_id):
            time.sleep(TICK_SECONDS)
    return result


class _Follower:
    """Tells the study how a run goes, and stops it where the pruner says so.

    By epoch it is the first seed's run that is followed; the Wilcoxon pruner compares seed by seed.
    """

    def __init__(self, search: Search, trial: Any, spec: RunSpec, number: int) -> None:
        self._search = search
        self._trial = trial
        self._spec = spec
        self._number = number
        self._told: set[int] = set()
        self._judged: set[int] = set()
        self.reason = ""
        only = search.objectives[0] if len(search.objectives) == 1 else None
        by_seed = search.strategy.pruner == "wilcoxon"
        self._metric = only.name if only and only.is_metric and number == 0 and not by_seed else None

    def __call__(self, row: dict[str, float]) -> None:
        """Take an epoch's row.

        Raises:
            RunStopped: If the trial is to be pruned there.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        if self._metric is None:
            return
        try:
            with storage_errors(), quiet_optuna():
                pruned = self._tell_epoch(row)
        except StoreError as error:  # a run goes on without its search, which hears of the epoch later
            logger.warning("%s", error)
            return
        except UpdateFinishedTrialError:
            raise RunStopped(TAKEN) from None
        if pruned:
            raise RunStopped(self.reason)

    def _tell_epoch(self, row: dict[str, float]) -> bool:
        epoch = int(row["epoch"])
        goes_on = epoch - 1 not in self._told and epoch > 1  # from another process's checkpoint
        return (goes_on and self._tell_curve(asks=True)) or self._tell(row, asks=True)

    def _tell_curve(self, *, asks: bool) -> bool:
        rows = read_curve(self._search.store.folder(self._spec.run_id))
        return any(self._tell(row, asks=asks) for row in rows)

    def _tell(self, row: dict[str, float], *, asks: bool) -> bool:
        """Tell what an epoch has shown, once; return whether the trial is to be pruned there."""
        epoch = int(row["epoch"])
        if self._metric is None or self._metric not in row or epoch in self._told:
            return False
        self._trial.report(row[self._metric], epoch)
        self._told.add(epoch)
        asks = asks and self._search.strategy.prunes_by_epoch and epoch not in self._judged
        if asks and epoch < self._spec.recipe.epochs and self._trial.should_prune():
            self.reason = f"pruned after epoch {epoch}"
            return True
        return False

    def is_pruned_before_run(self) -> bool:
        """Tell what was trained before; return whether the trial would have been pruned in it.

        A finished run costs nothing, so it is never pruned. What a trial passed before it died it has
        passed: others were pruned because of it.
        """
        if self._metric is None:
            return False
        done = self._search.store.facts(self._spec.run_id).done
        with quiet_optuna():
            self._judged = _epochs_before(self._trial)
            return self._tell_curve(asks=not done)

    def is_pruned_after_run(self) -> bool:
        """Tell what a finished run has shown; return whether further seeds are not worth it."""
        if self._metric is not None:
            with quiet_optuna():
                self._tell_curve(asks=False)
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
    """Return the epochs that a trial reported under the numbers that it had before."""
    trials = trial.study.get_trials(deepcopy=False)
    numbers = trials[trial.number].system_attrs.get(HISTORY, ())
    return {epoch for number in numbers for epoch in trials[number].intermediate_values}


def _study(search: Search) -> SweepStudy:
    key = (search.study_name, search.storage, search.root, search.strategy)
    if key not in _studies:
        _studies[key] = SweepStudy(search)
    return _studies[key]
