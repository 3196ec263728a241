"""Trials that are over without a value: tried again while attempts are left, taken in when finished."""

from dataclasses import dataclass, replace

import pytest
from search_fakes import ASHA, LR, FakeTrain, run, untold

from ema_lab.errors import DefinitionError, Problem
from ema_lab.execution.executor import execute
from ema_lab.search.study import SweepStudy
from ema_lab.search.sweep import Sweep
from ema_lab.search.workers import run_search
from ema_lab.store.attempts import forgive
from ema_lab.store.store import RunStore


@dataclass
class Failing(FakeTrain):
    """Fails in the first runs that it is given, so many of them."""

    failures: int = 0

    def __call__(self, spec, job, *, report):
        begun = self.log.with_name("begun")
        with begun.open("a", encoding="utf-8") as file:
            file.write(f"{spec.run_id}\n")
        if begun.read_text().count("\n") <= self.failures:
            raise OSError("no such data")
        return super().__call__(spec, job, report=report)


def failing(trier, failures, *, max_attempts=3):
    return replace(trier, train=Failing(trier.train.log, failures=failures), max_attempts=max_attempts)


@pytest.mark.parametrize("method", ["random", "grid"])
def test_a_trial_that_failed_is_tried_again_after_the_others(write, make, method):
    lr = LR if method == "random" else "  recipe.optimizer.lr: {values: [0.1, 0.2, 0.3]}\n"
    search, trier = make(write(lr, method=method), limit=3)
    trier = failing(trier, 1)
    study = run(search, trier)
    assert (study.counts().done, study.counts().own) == (3, 3)
    begun = trier.train.log.with_name("begun").read_text().split()
    assert (len(begun), begun[3]) == (4, begun[0])
    (again,) = (one for one in study.trials() if one.tried_as)
    assert (again.first_number, again.number, again.run_ids) == (0, 3, (begun[0],))
    assert len(search.store.attempts(begun[0])) == 2


def test_a_failed_trial_is_left_alone_at_its_limit_and_tried_by_a_call_with_a_larger_one(write, make):
    search, trier = make(write(LR), limit=2)
    counts = run(search, failing(trier, 99, max_attempts=2)).counts()
    assert (counts.failed, counts.own) == (2, 2)
    run_ids = search.store.run_ids()
    assert [len(search.store.attempts(one)) for one in run_ids] == [2, 2]
    mended = replace(trier, max_attempts=3)
    study = SweepStudy(search)
    study.renew(2)
    assert study.counts().failed == 2
    study.renew(3)
    run_search(mended, study)
    assert (study.counts().done, study.counts().own) == (2, 2)
    assert search.store.run_ids() == run_ids


def test_a_failed_trial_whose_attempts_are_forgiven_is_tried_again(write, make):
    search, trier = make(write(LR), limit=1)
    (one,) = run(search, failing(trier, 99, max_attempts=1)).trials()
    assert forgive(search.store, one.run_ids[0])
    study = SweepStudy(search)
    study.renew(1)
    run_search(trier, study)
    assert (study.counts().done, study.counts().own) == (1, 1)


def test_a_trial_whose_runs_leave_no_attempt_is_not_tried_for_ever(write, make, monkeypatch):
    search, trier = make(write(LR), limit=1)

    def begin(*_others):
        raise OSError("read-only file system")

    monkeypatch.setattr(RunStore, "begin", begin)
    assert run(search, trier).counts().failed == 1


def test_a_choice_of_values_that_makes_no_run_fails_once(write, make, monkeypatch):
    search, trier = make(write(LR), limit=2)

    def runs(*_others):
        raise DefinitionError([Problem("sweep.yaml:1", "does not fit")])

    monkeypatch.setattr(Sweep, "runs", runs)
    study = run(search, trier)
    assert (study.counts().failed, len(study.study.get_trials())) == (2, 2)


def test_a_trial_that_died_before_it_chose_does_so_as_if_it_had_not(write, make, tmp_path):
    whole = [one.choice for one in run(*make(write(LR), limit=3)).trials()]
    (tmp_path / "runs").rename(tmp_path / "other")
    search, trier = make(write(LR), limit=3)
    SweepStudy(search).study.ask()  # here its process is killed
    study = run(search, trier)
    choices = [one.choice["recipe.optimizer.lr"] for one in study.trials()]
    assert choices[0] == whole[0]["recipe.optimizer.lr"]
    assert len(set(choices)) == study.counts().done == study.counts().own == 3


@pytest.mark.parametrize("method", ["random", "grid"])
def test_a_pruned_trial_whose_run_was_finished_since_gets_its_value(write, make, method):
    lr = LR if method == "random" else "  recipe.optimizer.lr: {values: [0.1, 0.9, 0.8, 0.5]}\n"
    search, trier = make(write(lr, method=method, more=ASHA), limit=4)
    study = run(search, trier)
    pruned = [one for one in study.trials() if one.state == "pruned"]
    assert pruned
    specs = [search.sweep.run(one.choice, 0) for one in pruned]
    execute(specs, train=untold(trier.train), store=search.store)
    for found in (len(pruned), 0):
        study = SweepStudy(search)
        if method == "grid":
            study.enqueue_grid(None)
        assert study.add_finished() == found
        run_search(trier, study)
        counts = study.counts()
        assert (counts.done, counts.own, counts.warm) == (4, 4, 0)
        assert len({one.run_ids for one in study.trials()}) == len(study.trials()) == 4
    values = {one.run_ids: one.values for one in study.trials()}
    for one in pruned:
        assert values[one.run_ids] == (search.objectives[0].of_run(search.store, one.run_ids[0]),)


def test_every_pruned_trial_gets_its_value_and_keeps_its_seconds_also_two_of_the_same_runs(write, make):
    listed = "  recipe.optimizer.lr: {values: [0.8, 0.1, 0.9]}\n"
    search, trier = make(write(listed, more=ASHA), limit=12)
    study = run(search, trier)
    pruned = {one.number: one for one in study.trials() if one.state == "pruned"}
    run_ids = {one.run_ids for one in pruned.values()}
    assert len(run_ids) < len(pruned)
    specs = {ids[0]: search.store.spec(ids[0]) for ids in run_ids}
    execute(specs.values(), train=untold(trier.train), store=search.store)
    assert study.add_finished() == len(pruned)
    assert (study.counts().done, study.counts().own) == (12, 12)
    finished = {one.tried_as[0]: one for one in study.trials() if one.tried_as}
    assert finished.keys() == pruned.keys()
    assert all(one.seconds == pruned[number].seconds for number, one in finished.items())
    assert study.add_finished() == 0
