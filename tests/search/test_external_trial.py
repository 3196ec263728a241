"""External trials from W&B: equal runs to the sweep's own, whatever the form of the parameters."""

import json
import random

import pytest
from search_fakes import GROUPS, LR, FakeTrain

from ema_lab.errors import EmaLabError
from ema_lab.search.external_trial import read_trial, run_external_trial
from ema_lab.search.sweep import Sweep, load_sweep
from ema_lab.store.store import RunStore

SHIPPED = ("accuracy_macs", "ema_design", "lr_weight_decay", "quick_search")
CHOICE = {"model.attention.groups": 8, "recipe.optimizer.lr": 0.1}


def handed(sweep: Sweep, choice: dict) -> dict:
    """Return the flat parameters that W&B's server sends for a choice of values."""
    constants = {".".join(change.keys): change.value for change in sweep.constants}
    return {"base": sweep.spec.base, "seeds": list(sweep.seeds), **constants, **choice}


def ids(trial) -> list[str]:
    return [spec.run_id for spec in trial.runs]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_trial_of_a_shipped_sweep_is_the_runs_of_that_choice_in_any_order(name):
    sweep = load_sweep(name)
    draw = random.Random(0)
    for _ in range(10):
        choice = {parameter.key: draw.choice(parameter.ends()) for parameter in sweep.parameters}
        items = list(handed(sweep, choice).items())
        draw.shuffle(items)
        assert ids(read_trial(json.dumps(dict(items)))) == [spec.run_id for spec in sweep.runs(choice)]


def test_groups_of_parameters_are_the_flat_keys(write):
    sweep = write(GROUPS + LR, seeds="[0, 1]")
    flat = handed(sweep, CHOICE)
    nested = {key: flat[key] for key in ("base", "seeds")}
    nested |= {"model": {"attention": {"groups": 8}}, "recipe": {"optimizer": {"lr": 0.1}}}
    nested |= {"data": {"val_images": 100}}
    assert ids(read_trial(json.dumps(nested))) == ids(read_trial(json.dumps(flat)))


def test_a_module_is_chosen_before_its_options_are_set_whichever_comes_first(write):
    sweep = write(GROUPS)
    one = {**handed(sweep, {}), "model.attention.groups": 2, "model.attention": {"name": "ema", "groups": 8}}
    assert read_trial(json.dumps(one)).runs[0].model.attention.options["groups"] == 2


def test_a_whole_number_stands_for_the_decimal_that_it_is(write):
    sweep = write(LR)
    trials = [read_trial(json.dumps(handed(sweep, {"recipe.optimizer.lr": one}))) for one in (1, 1.0)]
    assert ids(trials[0]) == ids(trials[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base": None}, "base must be ABLATION/VARIANT"),
        ({"base": "quickstart/nothing"}, "no variant is named 'nothing'"),
        ({"seeds": [0, 0]}, "seeds: must be a list of different seeds"),
        ({"seeds": [-1]}, "seeds: must be whole numbers from 0"),
        ({"data.val_images": 0}, "which a search needs: add data.val_images"),
        ({"recipe.protocol": "best-test"}, "must not choose by test data"),
        ({"recipe.lr": 1}, "the trial: recipe.lr: no key is named 'lr'"),
        ({"model.attention.groups": "many"}, "the trial: model.attention.groups"),
        ({"model": {"attention": {"groups": 2}}}, "model.attention.groups: is set twice"),
        ({"seed": 3}, "seeds are listed under 'seeds'"),
    ],
)
def test_what_makes_no_trial_is_refused_in_one_line(write, change, words):
    with pytest.raises(EmaLabError) as error:
        read_trial(json.dumps({**handed(write(GROUPS + LR), CHOICE), **change}))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "{}", '{"base": "a/b"}'])
def test_what_is_no_object_of_parameters_is_refused(text):
    with pytest.raises(EmaLabError, match=r"^the trial: "):
        read_trial(text)


@pytest.fixture
def attempt(write, tmp_path):
    """Return a function that runs a trial of seeds 0 and 1, and the list of observed epochs."""
    trial = read_trial(json.dumps(handed(write(GROUPS + LR, seeds="[0, 1]"), CHOICE)))
    store = RunStore(tmp_path / "runs")

    def again(train=None):
        epoch_rows: list = []
        train = train or FakeTrain(tmp_path / "log")
        result = run_external_trial(
            trial, train, store, max_attempts=3, device="cpu", follow=epoch_rows.append
        )
        return result, epoch_rows

    return again


def test_its_values_are_means_over_seeds_and_the_first_seeds_epochs_are_reported(attempt):
    result, epoch_rows = attempt()
    epochs = len(epoch_rows)
    assert result.state == "done"
    assert result.values == {"val_top1": pytest.approx(90 + epochs + 0.5)}
    assert [row["epoch"] for row in epoch_rows] == list(range(1, epochs + 1))
    assert [row["val_top1"] for row in epoch_rows] == [90.0 + epoch for epoch in range(1, epochs + 1)]


def test_a_trial_that_is_there_is_reported_again_and_not_trained(attempt, tmp_path):
    first = attempt()
    assert attempt(FakeTrain(tmp_path / "second")) == first
    assert not (tmp_path / "second").exists()


def test_a_resumed_trial_reports_its_earlier_epochs_too(attempt, tmp_path):
    class Stopping(FakeTrain):
        def __call__(self, spec, job, *, report):
            def stop(row):
                if row["epoch"] == 3:
                    raise KeyboardInterrupt
                report(row)

            return super().__call__(spec, job, report=stop)

    class GoingOn(FakeTrain):
        def __call__(self, spec, job, *, report):
            return super().__call__(spec, job, report=lambda row: row["epoch"] > 3 and report(row))

    with pytest.raises(KeyboardInterrupt):
        attempt(Stopping(tmp_path / "log"))
    _, epoch_rows = attempt(GoingOn(tmp_path / "log"))
    assert [row["epoch"] for row in epoch_rows] == list(range(1, len(epoch_rows) + 1))
    assert len(epoch_rows) > 3


def test_a_seed_that_fails_fails_the_trial_and_says_why(attempt, tmp_path):
    result, _ = attempt(FakeTrain(tmp_path / "log", {1: "fail"}))
    assert (result.state, result.values) == ("failed", {})
    assert "bad seed 1" in result.message
