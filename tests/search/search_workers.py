"""Processes that share a search, and invariants that hold afterwards, whichever process was killed."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

from search_fakes import FakeTrain

from ema_lab.search.study import RUN_IDS, SweepStudy
from ema_lab.search.trial import Trier
from ema_lab.search.workers import run_search

PRELOAD = ["ema_lab.search.workers", "optuna.storages", "optuna.samplers", "search_workers"]


class DyingTrain(FakeTrain):
    """Fake training that kills its process after an epoch, once."""

    def __call__(self, spec, job, *, report):
        def report_and_die(row):
            report(row)
            try:
                (self.log.parent / "died").touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)

        return super().__call__(spec, job, report=report_and_die)


def work(trier: Trier) -> None:
    """Continue a search, as the body of a separate process."""
    study = SweepStudy(trier.search)
    if trier.search.strategy.sampler == "grid":
        study.enqueue_grid(trier.limit)
    run_search(trier, study)


def start(target, *arguments) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def work_together(triers: Sequence[Trier]) -> list[int | None]:
    """Continue a search with one process per trier; return the exit codes."""
    processes = [start(work, trier) for trier in triers]
    for process in processes:
        process.join()
    return sorted(process.exitcode for process in processes)


def assert_tried_exactly_once(trier: Trier, trials: int, *, died: int = 1) -> None:
    """Assert the number of finished trials, one copy per dead trial, and no run trained twice."""
    study = SweepStudy(trier.search)
    counts = study.counts()
    assert (counts.done, counts.own) == (trials, trials)
    found = study.study.get_trials(deepcopy=False)
    complete = [trial for trial in found if trial.state.name == "COMPLETE"]
    dead = [trial for trial in found if trial.state.name == "FAIL"]
    copies = [trial for trial in found if trial.system_attrs.get("retry_history")]
    assert (len(found), len(complete), len(dead)) == (trials + died, trials, died)
    replaced = sorted(trial.system_attrs["retry_history"][-1] for trial in copies)
    assert replaced == sorted(trial.number for trial in dead)
    by_number = {trial.number: trial for trial in found}
    for copy in copies:
        assert copy.params == by_number[copy.system_attrs["retry_history"][-1]].params
    assert len({tuple(trial.user_attrs[RUN_IDS]) for trial in complete}) == trials
    assert len(trier.train.trained) == len(set(trier.train.trained)) == trials
