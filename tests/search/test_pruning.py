"""Pruners: by epoch and by seed, at which steps trials are compared, and where they cannot be."""

import pytest
from search_fakes import ABLATION, ASHA, LR, run, untold

from ema_lab.errors import SpecError
from ema_lab.execution.executor import execute
from ema_lab.search.objective import read_objectives
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.study import SweepStudy
from ema_lab.search.sweep import load_sweep
from ema_lab.search.workers import run_search


def test_the_wilcoxon_pruner_leaves_out_seeds_that_are_not_worth_it(write, make):
    sweep = write("  recipe.optimizer.lr: {values: [0.1, 0.9]}\n", method="grid", seeds=str(list(range(12))))
    search, trier = make(sweep, pruner="wilcoxon")
    study = run(search, trier)
    first, second = study.trials()
    assert (first.state, second.state) == ("done", "pruned")
    assert 12 < len(trier.train.trained) < 24
    assert second.message.startswith("pruned after seed")


FIVE = "[0, 1, 2, 3, 4]"


def test_finished_runs_teach_the_wilcoxon_pruner_a_value_by_seed(write, make):
    sweep = write("  recipe.optimizer.lr: {values: [0.1, 0.9]}\n", seeds=FIVE)
    search, trier = make(sweep, pruner="wilcoxon", limit=6)
    execute(sweep.runs({"recipe.optimizer.lr": 0.1}), train=untold(trier.train), store=search.store)
    study = SweepStudy(search)
    assert study.add_finished() == 1
    (warm,) = study.study.get_trials()
    assert warm.intermediate_values == {seed: pytest.approx(96.0 + seed) for seed in range(5)}
    run_search(trier, study)
    worse = [one for one in study.trials() if one.choice["recipe.optimizer.lr"] == 0.9]
    assert [(one.state, one.message) for one in worse] == [("pruned", "pruned after seed 3")] * len(worse)
    assert worse


@pytest.mark.parametrize(
    ("first", "then"), [("none", "wilcoxon"), ("asha", "wilcoxon"), ("wilcoxon", "asha")]
)
def test_a_study_never_compares_an_epoch_with_a_seed(write, make, first, then):
    sweep = write(LR, seeds=FIVE)
    run(*make(sweep, pruner=first, limit=1))
    run(*make(sweep, pruner=first, limit=2))
    with pytest.raises(SpecError, match=rf"--pruner {then} compares by .* go on as it began, or copy"):
        SweepStudy(make(sweep, pruner=then)[0])


def test_the_wilcoxon_pruner_can_prune_with_the_least_seeds_that_are_let_through(write, make):
    sweep = write("  recipe.optimizer.lr: {values: [0.1, 0.9]}\n", method="grid", seeds=FIVE)
    assert [one.state for one in run(*make(sweep, pruner="wilcoxon")).trials()] == ["done", "pruned"]
    with pytest.raises(SpecError, match="5 or more seeds, got 4"):
        make(write(LR, seeds="[0, 1, 2, 3]"), pruner="wilcoxon")


class TestEpochs:
    """The pruner's epochs are those of the sweep's runs, whatever its base has."""

    @pytest.mark.parametrize(
        ("parameters", "epochs"),
        [
            (LR, 6),
            (LR + "  recipe.epochs: {value: 3}\n", 3),
            (LR + "  recipe.epochs: {values: [2, 9, 4]}\n", 9),
            ("  recipe.epochs: {min: 20, max: 81}\n", 81),
        ],
    )
    def test_are_the_most_that_a_run_has(self, write, parameters, epochs):
        sweep = write(parameters)
        assert sweep.epochs == epochs
        first = choose_strategy(sweep, read_objectives(sweep, ()), pruner="asha").bands[0]
        assert first == max(1, round(epochs / 27))

    def test_reach_the_pruner(self, write, make):
        constants = "  recipe.epochs: {value: 60}\n"
        pruner = SweepStudy(make(write(LR + constants), pruner="hyperband")[0]).study.pruner
        assert pruner.bands == (2, 6, 18, 54)

    def test_after_the_last_band_of_the_file_prune_nothing(self, write, make):
        more = "early_terminate: {type: hyperband, max_iter: 4, s: 2, eta: 2}\n"
        sweep = write(LR + "  recipe.epochs: {value: 9}\n", more=more)
        study = run(*make(sweep, limit=16))
        pruned = [one.message for one in study.trials() if one.state == "pruned"]
        assert set(pruned) == {"pruned after epoch 1", "pruned after epoch 2"}

    @pytest.mark.parametrize("pruner", ["asha", "hyperband", "median"])
    def test_of_a_base_with_many_let_short_runs_be_pruned(self, write, make, tmp_path, pruner):
        path = write(LR + "  recipe.epochs: {value: 3}\n").path
        path.write_text(path.read_text().replace("base.yaml", "long.yaml"))
        (tmp_path / "long.yaml").write_text(
            ABLATION.replace("name: base", "name: long").replace("digits-quick", "digits-quick, epochs: 100")
        )
        counts = run(*make(load_sweep(path), pruner=pruner, limit=12)).counts()
        assert counts.pruned > 0

    def test_that_leave_no_comparison_are_refused_in_one_line(self, write):
        sweep = write(LR, more="early_terminate: {type: hyperband, min_iter: 6}\n")
        objectives = read_objectives(sweep, ())
        rule = (
            r"sweep.yaml:10: early_terminate: would first compare trials after epoch 6, and the runs have 6"
        )
        with pytest.raises(SpecError, match=rule):
            choose_strategy(sweep, objectives)
        assert choose_strategy(sweep, objectives, pruner="none").pruner == "none"
        short = write(LR + "  recipe.epochs: {value: 1}\n")
        with pytest.raises(SpecError, match=r"--pruner median: would first compare .* epoch 1, .* have 1"):
            choose_strategy(short, objectives, pruner="median")

    def test_before_the_first_that_the_file_compares_prune_nothing(self, write, make):
        more = "early_terminate: {type: hyperband, min_iter: 4}\n"
        study = run(*make(write(LR, more=more), pruner="median", limit=12))
        pruned = [one.message for one in study.trials() if one.state == "pruned"]
        assert pruned
        assert set(pruned) <= {"pruned after epoch 4", "pruned after epoch 5"}


@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median"])
def test_every_pruner_by_epoch_lets_some_trials_end(write, make, pruner):
    counts = run(*make(write(LR), limit=9, pruner=pruner)).counts()
    assert counts.done >= 1
    assert counts.own == counts.done + counts.pruned == 9


def test_several_objectives_are_not_pruned(write):
    sweep = write(LR, more=ASHA)
    objectives = read_objectives(sweep, ["top1:max", "macs:min"])
    with pytest.raises(SpecError, match=r"early_terminate .* add --pruner none"):
        choose_strategy(sweep, objectives)
    assert choose_strategy(sweep, objectives, pruner="none").pruner == "none"
