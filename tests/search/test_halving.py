"""Successive halving: Optuna's verdicts, for runs trained at any time, with each trial counted once."""

import math
import random
import shutil
from dataclasses import dataclass, replace

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from search_fakes import ASHA, FakeTrain, run, train_unobserved

from ema_lab.execution.executor import execute
from ema_lab.search.halving import HalvingPruner
from ema_lab.search.history import HISTORY
from ema_lab.search.study import SweepStudy
from ema_lab.store.job import RunStopped


def reports_by_choice(study):
    """Return the reported values of each choice of a study, and the outcome of its trial."""
    return {
        trial.user_attrs["values"]["recipe.optimizer.lr"]: (trial.state.name, trial.intermediate_values)
        for trial in study.study.get_trials()
    }


@dataclass
class GoingOn(FakeTrain):
    """Fake training that is stopped after `epochs`, then resumes from its checkpoint."""

    epochs: int = 99

    def __call__(self, spec, job, *, report):
        checkpoint = job.folder / "last.ckpt"
        before = int(checkpoint.read_text()) if checkpoint.exists() else 0

        def tell(row):
            if row["epoch"] > before:
                report(row)
            if row["epoch"] == self.epochs:
                raise RunStopped("enough")

        return super().__call__(spec, job, report=tell)


def judged(pruner, curves, direction):
    """Return after how many epochs each trial was pruned; trials train one after the other."""
    study = optuna.create_study(study_name="s", direction=direction, pruner=pruner)
    ends = []
    for curve in curves:
        trial = study.ask()
        for epoch, value in enumerate(curve, 1):
            trial.report(value, epoch)
            if trial.should_prune():
                break
        study.tell(trial, state=TrialState.PRUNED)
        ends.append(epoch)
    return ends


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(("first", "eta"), [(1, 2), (1, 3), (2, 2), (3, 4)])
def test_trials_trained_from_the_start_are_judged_as_by_optuna(direction, first, eta):
    draw = random.Random(first * eta)
    curves = [[draw.choice([0.1, 0.5, draw.random()]) for _ in range(20)] for _ in range(60)]
    bands = [first * eta**n for n in range(9)]
    optunas = optuna.pruners.SuccessiveHalvingPruner(first, eta)
    ours = judged(HalvingPruner(bands, eta), curves, direction)
    assert ours == judged(optunas, curves, direction)
    assert len(set(ours)) > 2


def test_what_is_no_number_is_pruned_and_beats_nothing():
    pruner = HalvingPruner([1], 2)
    assert judged(pruner, [[math.nan, 1.0], [0.5, 1.0], [0.4, 1.0]], "maximize") == [1, 2, 1]


def test_a_trial_that_is_tried_again_stays_in_its_bracket():
    pruner = HalvingPruner([1, 3, 9], 3, brackets=3)
    study = optuna.create_study(study_name="s", pruner=pruner)
    for number in range(100):
        study.add_trial(create_trial(state=TrialState.FAIL))
        study.add_trial(create_trial(state=TrialState.RUNNING, system_attrs={HISTORY: [2 * number]}))
    brackets = [pruner.bracket(study, trial) for trial in study.get_trials()]
    assert brackets[::2] == brackets[1::2]
    assert pruner.weights == [9, 5, 3]  # n of the paper's Algorithm 1, R = 9
    assert brackets.count(0) > brackets.count(1) > brackets.count(2) > 0


@pytest.mark.parametrize("again", [{}, {1: 0.9}])
def test_a_trial_that_is_tried_again_counts_once_before_it_has_begun_too(again):
    study = optuna.create_study(study_name="s", direction="maximize", pruner=HalvingPruner([1], 3))
    for value in (0.9, 0.1, 0.1, 0.1, 0.1):
        study.add_trial(create_trial(state=TrialState.FAIL, intermediate_values={1: value}))
    study.add_trial(
        create_trial(state=TrialState.RUNNING, intermediate_values=again, system_attrs={HISTORY: [0]})
    )
    trial = study.ask()
    trial.report(0.5, 1)
    assert not trial.should_prune()  # the second of six, of which two go on; of seven, the third
    study.add_trial(create_trial(state=TrialState.FAIL, intermediate_values={1: 0.9}))
    assert trial.should_prune()


def test_a_trial_that_is_tried_again_has_passed_what_it_passed(write, make, tmp_path):
    @dataclass
    class FailingOnce(FakeTrain):
        def __call__(self, spec, job, *, report):
            def tell(row):
                report(row)
                if row["epoch"] == 5 and not (tmp_path / "failed").exists():
                    (tmp_path / "failed").touch()
                    raise OSError("no space left")

            return super().__call__(spec, job, report=tell)

    sweep = write("  recipe.optimizer.lr: {values: [0.2, 0.5, 0.1]}\n", method="grid", more=ASHA)
    search, trier = make(sweep)
    trials = run(search, replace(trier, train=FailingOnce(tmp_path / "log"))).trials()
    assert [(one.choice["recipe.optimizer.lr"], one.state) for one in trials] == [
        (0.5, "pruned"),
        (0.1, "done"),
        (0.2, "done"),
    ]


EVERY = ("asha", "hyperband", "median")
RATES = (0.5, 0.4, 0.3, 0.2, 0.1, 0.9, 0.7, 0.35, 0.15, 0.8, 0.6, 0.25)
GRID = f"  recipe.optimizer.lr: {{values: {list(RATES)}}}\n"


class TestRunsThatWereTrainedBefore:
    """Pruners see the same values of a run wherever and whenever the run was trained."""

    @pytest.mark.parametrize(
        ("task", "pruner"), [*(("classification", name) for name in EVERY), ("detection", "asha")]
    )
    def test_in_part_are_judged_epoch_by_epoch(self, write, make, tmp_path, pruner):
        sweep = write(GRID, method="grid", more=ASHA)
        fresh = reports_by_choice(run(*make(sweep, pruner=pruner)))
        shutil.rmtree(tmp_path / "runs")
        search, trier = make(sweep, pruner=pruner)
        for number, lr in enumerate(RATES):
            begun = train_unobserved(GoingOn(tmp_path / "log", epochs=1 + number % 5))
            execute(sweep.runs({"recipe.optimizer.lr": lr}), train=begun, store=search.store)
        assert reports_by_choice(run(search, replace(trier, train=GoingOn(tmp_path / "log")))) == fresh
        assert {state for state, _ in fresh.values()} == {"COMPLETE", "PRUNED"}

    def test_beyond_where_they_are_pruned_are_not_trained_on(self, write, make, tmp_path):
        sweep = write(GRID, method="grid", more=ASHA)
        search, trier = make(sweep)
        (spec,) = sweep.runs({"recipe.optimizer.lr": 0.9})
        execute([spec], train=train_unobserved(GoingOn(tmp_path / "log", epochs=3)), store=search.store)
        assert run(search, trier).trials()[5].message == "pruned after epoch 1"
        assert len(search.store.attempts(spec.run_id)) == 1

    def test_to_their_end_are_compared_with_and_never_pruned(self, write, make):
        sweep = write("  recipe.optimizer.lr: {values: [0.1, 0.3, 0.9]}\n", method="grid", more=ASHA)
        search, trier = make(sweep)
        for lr in (0.1, 0.9):
            runs = sweep.runs({"recipe.optimizer.lr": lr})
            execute(runs, train=train_unobserved(trier.train), store=search.store)
        found = reports_by_choice(run(search, trier))
        assert [(state, len(values)) for state, values in found.values()] == [
            ("COMPLETE", 6),
            ("PRUNED", 1),
            ("COMPLETE", 6),
        ]

    def test_and_that_the_search_learns_from_are_compared_with(self, write, make):
        sweep = write("  recipe.optimizer.lr: {values: [0.1, 0.9]}\n", more=ASHA)
        search, trier = make(sweep, limit=4)
        execute(
            sweep.runs({"recipe.optimizer.lr": 0.1}), train=train_unobserved(trier.train), store=search.store
        )
        assert SweepStudy(search).add_finished() == 1
        worse = [one for one in run(search, trier).trials() if one.choice["recipe.optimizer.lr"] == 0.9]
        assert {one.message for one in worse} == {"pruned after epoch 1"}


@pytest.mark.parametrize(("direction", "value"), [("maximize", 0.5), ("minimize", -0.5)])
def test_what_is_no_number_is_not_among_those_of_which_a_share_goes_on(direction, value):
    study = optuna.create_study(study_name="s", direction=direction, pruner=HalvingPruner([1], 2))
    for other in (2 * value, math.nan, math.nan, math.nan):
        study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: other}))
    trial = study.ask()
    trial.report(value, 1)
    assert trial.should_prune()  # the second of two numbers, of which one goes on


def test_a_trial_that_reports_no_number_is_pruned_even_alone():
    study = optuna.create_study(study_name="s", direction="maximize", pruner=HalvingPruner([1], 2))
    trial = study.ask()
    trial.report(math.nan, 1)
    assert trial.should_prune()


@pytest.mark.parametrize("same", [True, False])
def test_trials_are_compared_within_their_bracket_alone(same):
    pruner = HalvingPruner([1, 3], 3, brackets=2)
    study = optuna.create_study(study_name="s", direction="maximize", pruner=pruner)

    def bracket(number):
        return pruner.bracket(study, create_trial(state=TrialState.FAIL, system_attrs={HISTORY: [number]}))

    own = bracket(100)
    others = [number for number in range(100) if (bracket(number) == own) is same][:6]
    for number in others:
        better = {"intermediate_values": {1: 0.9, 3: 0.9}, "system_attrs": {HISTORY: [number]}}
        study.add_trial(create_trial(state=TrialState.PRUNED, **better))
    trial = create_trial(
        state=TrialState.RUNNING, intermediate_values={3: 0.1}, system_attrs={HISTORY: [100]}
    )
    assert pruner.prune(study, trial) is same


def test_a_bracket_leaves_out_as_many_bands_as_its_number():
    pruner = HalvingPruner([1, 3], 3, brackets=2)
    study = optuna.create_study(study_name="s", direction="maximize", pruner=pruner)
    for number in range(100):
        state = {"state": TrialState.RUNNING, "system_attrs": {HISTORY: [number]}}
        trial = create_trial(intermediate_values={1: math.nan}, **state)
        assert pruner.prune(study, trial) is (pruner.bracket(study, trial) == 0)
