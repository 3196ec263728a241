"""Searches: number and choice of trials, records in the store, and outcomes."""

import os
import signal

import pytest
from search_fakes import ASHA, GROUPS, LR, METRICS, FakeTrain, run, train_unobserved

from ema_lab.cli.progress import trained_epochs
from ema_lab.errors import SpecError
from ema_lab.execution.executor import execute
from ema_lab.search.objective import read_objectives
from ema_lab.search.report.trials import counts_text
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.study import SweepStudy
from ema_lab.search.sweep import load_sweep
from ema_lab.search.workers import run_search
from ema_lab.store.job import RunOutcome
from ema_lab.store.store import RunStore

BOTH = pytest.mark.parametrize("task", list(METRICS))


@BOTH
def test_a_search_has_as_many_trials_as_asked_for_and_goes_on_where_it_was(write, make):
    search, trier = make(write(LR), limit=3)
    assert run(search, trier).counts().done == 3
    assert run(search, trier).counts().done == 3
    search, trier = make(write(LR), limit=5)
    assert run(search, trier).counts().done == 5
    assert len(set(trier.train.trained)) == len(trier.train.trained) == 5


@BOTH
def test_a_search_that_is_called_twice_draws_what_one_call_would(write, make, tmp_path):
    search, trier = make(write(LR), limit=4, sampler="tpe")
    whole = [one.choice for one in run(search, trier).trials()]
    (tmp_path / "runs").rename(tmp_path / "other")
    for limit in (2, 4):
        search, trier = make(write(LR), limit=limit, sampler="tpe")
        parts = [one.choice for one in run(search, trier).trials()]
    assert parts == whole


@BOTH
def test_the_value_is_the_mean_over_seeds_at_the_reported_epoch(write, make):
    search, trier = make(write(LR, seeds="[0, 2]"), limit=1)
    (one,) = run(search, trier).trials()
    lr = one.choice["recipe.optimizer.lr"]
    assert one.values == (pytest.approx(90 - 10 * abs(lr - 0.1) + 6 + 1),)
    assert len(one.run_ids) == 2


@BOTH
def test_every_trial_is_an_ordinary_run_and_what_was_trained_before_costs_nothing(write, make):
    sweep = write("  recipe.optimizer.lr: {values: [0.1, 0.2]}\n", method="grid")
    search, trier = make(sweep)
    before = sweep.run({"recipe.optimizer.lr": 0.2}, 0)
    execute(
        [before], train=lambda spec, job: trier.train(spec, job, report=lambda row: None), store=search.store
    )
    study = run(search, trier)
    assert study.counts().done == 2
    assert trier.train.trained.count(before.run_id) == 1


@BOTH
def test_a_grid_is_tried_whole_and_once(write, make):
    sweep = write(GROUPS + "  recipe.optimizer.lr: {values: [0.1, 0.2]}\n", method="grid")
    search, trier = make(sweep)
    for _ in range(2):
        study = run(search, trier)
        assert study.counts().done == 6
    assert [one.choice for one in study.trials()] == list(sweep.grid())


def test_one_worker_in_this_process_shows_the_trial_that_runs(write, make):
    search, trier = make(write(GROUPS, method="grid"), limit=2)
    study = SweepStudy(search)
    study.enqueue_grid(2)
    seen = []

    def watch(ended):
        seen.append(
            (ended is not None, [trained_epochs(search.store, run) for run in study.running_run_ids()])
        )

    run_search(trier, study, watch=watch)
    trial = [(False, [epochs]) for epochs in range(7)]
    assert seen == [(False, []), *trial, (True, []), *trial, (True, [])]


def test_a_grid_can_be_cut_off_and_completed(write, make):
    sweep = write(GROUPS, method="grid")
    assert run(*make(sweep, limit=2)).counts().done == 2
    assert run(*make(sweep)).counts().done == 3


@BOTH
def test_a_pruned_trial_is_a_pending_run_with_its_checkpoint(write, make):
    search, trier = make(write(LR, more=ASHA), limit=8)
    study = run(search, trier)
    counts = study.counts()
    assert counts.pruned > 0
    assert counts.done > 0
    assert counts.own == 8
    pruned = next(one for one in study.trials() if one.state == "pruned")
    assert search.store.state(pruned.run_ids[0]) == "pending"
    assert search.store.record(pruned.run_ids[0]) is None
    assert (search.store.folder(pruned.run_ids[0]) / "last.ckpt").exists()
    assert [one.outcome for one in search.store.attempts(pruned.run_ids[0])] == ["pruned"]
    assert pruned.values is None
    assert pruned not in study.best()


def test_what_was_pruned_is_trained_by_an_ablation_that_has_the_cell(write, make):
    search, trier = make(write(LR, more=ASHA), limit=8)
    pruned = next(one for one in run(search, trier).trials() if one.state == "pruned")
    specs = [search.sweep.run(pruned.choice, 0)]
    progress = execute(specs, train=lambda s, job: RunOutcome({"top1": 1.0}), store=search.store)
    assert progress.done == [pruned.run_ids[0]]


@BOTH
def test_finished_runs_of_the_store_are_learned_from_and_do_not_count(write, make):
    sweep = write(GROUPS + LR)
    search, trier = make(sweep, limit=2)
    choices = [{"model.attention.groups": g, "recipe.optimizer.lr": 0.1} for g in (2, 4)]
    train = FakeTrain(trier.train.log)
    for values in choices:
        execute(
            sweep.runs(values), train=lambda s, j: train(s, j, report=lambda row: None), store=search.store
        )
    study = SweepStudy(search)
    assert study.add_finished() == 2
    assert study.add_finished() == 0
    run_search(trier, study)
    assert (study.counts().warm, study.counts().done) == (2, 2)
    assert [one.choice for one in study.trials() if one.warm] == choices
    assert study.add_finished() == 0  # its own trials are known


def test_a_search_learns_nothing_from_results_of_another_source(write, make):
    sweep = write(GROUPS + LR)
    search, trier = make(sweep, limit=2)
    for groups in (2, 4):
        runs = sweep.runs({"model.attention.groups": groups, "recipe.optimizer.lr": 0.1})
        execute(runs, train=train_unobserved(trier.train), store=search.store)
    record = search.store.record(runs[0].run_id)
    search.store.write(record.model_copy(update={"source": {**record.source, "training": "0" * 16}}))
    study = SweepStudy(search)
    assert (study.add_finished(), study.left_out) == (1, 1)
    assert [one.choice["model.attention.groups"] for one in study.trials()] == [2]


def test_choices_that_were_known_before_are_counted_and_said(write, make):
    sweep = write("  model.attention.groups: {values: [2, 4]}\n  recipe.optimizer.lr: {value: 0.1}\n")
    search, trier = make(sweep, limit=4)
    study = run(search, trier)
    drawn = [one.choice["model.attention.groups"] for one in study.trials()]
    repeats = 4 - len(set(drawn))
    assert repeats >= 2
    assert counts_text(study) == (
        f"4 finished, 0 pruned, 0 failed; {repeats} of 4 trials repeated known choices"
    )
    search, trier = make(write(LR), limit=3)
    assert "repeated" not in counts_text(run(search, trier))


def test_a_search_that_draws_nothing_but_what_the_store_gave_says_so(write, make):
    sweep = write("  model.attention.groups: {values: [2, 4]}\n  recipe.optimizer.lr: {value: 0.1}\n")
    search, trier = make(sweep, limit=2)
    for groups in (2, 4):
        runs = sweep.runs({"model.attention.groups": groups})
        execute(runs, train=train_unobserved(trier.train), store=search.store)
    study = SweepStudy(search)
    assert study.add_finished() == 2
    run_search(trier, study)
    assert counts_text(study).endswith("2 learned from the store; 2 of 2 trials repeated known choices")


@BOTH
def test_two_objectives_give_a_pareto_front(write, make, task):
    sweep = write(GROUPS + "  recipe.optimizer.lr: {values: [0.1, 0.5]}\n", method="grid")
    search, trier = make(sweep, objective=[f"{METRICS[task]}:max", "macs:min"])
    front = run(search, trier).best()
    assert [one.choice for one in front] == [{"model.attention.groups": 8, "recipe.optimizer.lr": 0.1}]
    assert front[0].values == (pytest.approx(96.0), pytest.approx(1e9 / 8))


def test_a_target_that_is_reached_ends_the_search(write, make, tmp_path):
    write(LR)
    text = (tmp_path / "sweep.yaml").read_text().replace("goal: maximize", "goal: maximize, target: 0")
    (tmp_path / "sweep.yaml").write_text(text)
    study = run(*make(load_sweep(tmp_path / "sweep.yaml"), limit=9))
    assert study.counts().done == 1


def test_a_run_that_fails_fails_its_trial_and_the_search_goes_on(write, make):
    search, trier = make(write(LR, seeds="[0, 1]"), limit=2, at_seed={1: "fail"})
    study = run(search, trier)
    assert study.counts().failed == 2
    assert [len(search.store.attempts(one.run_ids[1])) for one in study.trials()] == [3, 3]
    assert "bad seed 1" in study.trials()[0].message
    assert study.best() == []


class Interrupting(FakeTrain):
    """Fake training that Ctrl-C stops in its second run."""

    def __call__(self, spec, job, *, report):
        if len(self.trained) == 1:
            self.log.write_text("x\ny\n")
            raise KeyboardInterrupt
        return super().__call__(spec, job, report=report)


def test_a_trial_that_was_interrupted_is_tried_again_once(write, make, tmp_path):
    search, trier = make(write(LR), limit=3)
    stopped = type(trier)(search, Interrupting(tmp_path / "own"), 3, 3)
    with pytest.raises(KeyboardInterrupt):
        run(search, stopped)
    study = run(search, trier)
    assert study.counts().own == study.counts().done == 3
    again = [t for t in study.study.get_trials() if t.system_attrs.get("retry_history")]
    assert [t.system_attrs["retry_history"] for t in again] == [[1]]
    assert again[0].params == study.study.get_trials()[1].params


class Dying(FakeTrain):
    """Fake training whose process is killed in the first run for which a marker file is missing."""

    def __call__(self, spec, job, *, report):
        try:
            (self.log.parent / "died").touch(exist_ok=False)
        except FileExistsError:
            return super().__call__(spec, job, report=report)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@pytest.mark.slow
@BOTH
def test_workers_share_a_grid_and_one_that_is_killed_costs_nothing(write, make, tmp_path):
    sweep = write(GROUPS + "  recipe.optimizer.lr: {values: [0.1, 0.2, 0.3, 0.4]}\n", method="grid")
    search, trier = make(sweep)
    dying = type(trier)(search, Dying(tmp_path / "log"), None, 3)
    study = run(search, dying, workers=2)
    assert study.counts().own == study.counts().done == 12
    assert len(dying.train.trained) == len(set(dying.train.trained)) == 12
    assert [len(search.store.attempts(run_id)) for run_id in dying.train.trained].count(2) == 1


def test_a_journal_whose_last_line_is_torn_goes_on(write, make):
    search, trier = make(write(LR), limit=2)
    run(search, trier)
    path = search.root / ".sweeps" / "sweep.journal"
    path.write_bytes(path.read_bytes()[:-20])
    search, trier = make(write(LR), limit=4)
    study = run(search, trier)
    assert study.counts().done >= 3
    assert len({one.run_ids for one in study.trials()}) == len(study.trials())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "best"}, "no sampler is named"),
        ({"sampler": "grid"}, "says method: random"),
        ({"pruner": "wilcoxon"}, "5 or more seeds, got 1: its p cannot fall below 0.1"),
    ],
)
def test_a_strategy_that_does_not_fit_is_refused(write, options, words):
    sweep = write(LR)
    with pytest.raises(SpecError, match=words):
        choose_strategy(sweep, read_objectives(sweep, ()), **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["top1"], "NAME:max or NAME:min"),
        (["top1:min"], "write top1:max"),
        (["macs:max"], "write macs:min"),
        (["speed:max"], "no objective is named"),
        (["macs:min"], "one must be a metric"),
        (["top1:max", "val_top1:max"], "give each objective once"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(write, options, words):
    with pytest.raises(SpecError, match=words):
        read_objectives(write(LR), options)


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "cmaes", "nsga2"])
def test_every_sampler_finds_trials_inside_the_space(write, make, sampler):
    study = run(*make(write(GROUPS + LR), limit=3, sampler=sampler))
    for one in study.trials():
        assert one.choice["model.attention.groups"] in {2, 4, 8}
        assert 0.001 <= one.choice["recipe.optimizer.lr"] <= 1.0


def test_a_store_that_was_never_used_is_made_with_the_first_trial(write, make, tmp_path):
    search, trier = make(write(LR), limit=1)
    run(search, trier)
    assert RunStore(tmp_path / "runs").run_ids() == [trier.train.trained[0]]
