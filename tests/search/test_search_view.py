"""Display form of a search in figures: names, ticks, and real values instead of searched ones."""

import json
import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from ema_lab.search.distribution import Parameter
from ema_lab.search.report.labels import choice_labels, short_keys
from ema_lab.search.report.plot import log_ticks, optuna_styled, plot_slices, tick_text
from ema_lab.search.report.study_copy import plot_parameter
from ema_lab.specs.parameter import ParameterSpec

words = st.text("abc", min_size=1, max_size=2)
keys = st.lists(st.lists(words, min_size=1, max_size=4).map(".".join), unique=True, max_size=6)


def test_a_key_is_labelled_by_its_shortest_unique_end():
    assert short_keys(["recipe.optimizer.lr", "recipe.epochs"]) == {
        "recipe.optimizer.lr": "lr",
        "recipe.epochs": "epochs",
    }
    assert list(short_keys(["a.stem.width", "a.head.width", "a.lr"]).values()) == [
        "stem.width",
        "head.width",
        "lr",
    ]


@given(keys)
def test_short_keys_are_ends_of_the_keys_and_no_two_are_the_same(names):
    short = short_keys(names)
    assert list(short) == names
    assert len(set(short.values())) == len(names)
    assert all(f".{key}".endswith(f".{name}") for key, name in short.items())


def test_listed_values_are_called_shortly_and_never_the_same():
    choices = ["none", {"name": "ema", "groups": 8, "local_branch": False}, [1, 2], True]
    assert list(choice_labels(choices).values()) == ["none", "ema groups=8 local_branch=no", "1,2", "yes"]
    assert len(set(choice_labels([1, "1", True, "yes"]).values())) == 4


@given(st.floats(-9, 6), st.floats(0.31, 9), st.integers(3, 8))
def test_log_ticks_are_few_round_and_inside(low, decades, most):
    low, high = 10**low, 10 ** (low + decades)
    ticks = log_ticks(low, high, most)
    assert len(ticks) >= 2
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(ticks)
    assert len(ticks) <= most + 1


@pytest.mark.parametrize(
    ("value", "text"), [(1e-5, "1e-5"), (2.5e-4, "2.5e-4"), (0.001, "0.001"), (0, "0"), (8, "8")]
)
def test_a_tick_is_short(value, text):
    assert tick_text(value) == text


class TestShownParameter:
    def test_a_quantile_is_shown_as_the_value_that_it_stands_for(self):
        spec = ParameterSpec.model_validate({"distribution": "log_normal", "mu": -8, "sigma": 1.5})
        parameter = Parameter("recipe.optimizer.weight_decay", spec)
        tried = [parameter.at(u) for u in (0.00001, 0.5, 0.9)]
        shown = plot_parameter(parameter, "weight_decay", tried)
        assert shown.name == "weight_decay"
        assert shown.distribution.log
        assert shown.distribution.low == min(tried)
        assert [shown.value_of(value) for value in tried] == tried
        assert tried[1] == pytest.approx(math.exp(-8))

    def test_whole_numbers_stay_whole(self):
        spec = ParameterSpec.model_validate({"distribution": "q_uniform", "min": 16, "max": 128, "q": 16})
        shown = plot_parameter(Parameter("recipe.batch_size", spec), "batch_size", [32])
        assert (shown.distribution.low, shown.distribution.high) == (16, 128)
        assert type(shown.distribution).__name__ == "IntDistribution"

    def test_values_with_probabilities_are_their_labels(self):
        choices = [{"name": "se", "reduction": 4}, "none"]
        spec = ParameterSpec.model_validate({"values": choices, "probabilities": [0.5, 0.5]})
        shown = plot_parameter(Parameter("model.attention", spec), "attention", [])
        assert [shown.value_of(choice) for choice in choices] == ["se reduction=4", "none"]
        assert json.dumps(list(shown.distribution.choices)) == '["se reduction=4", "none"]'


@pytest.mark.parametrize("listed", [["2", "4", "8"], ["none", "se, reduction=16", "ema, groups=32"]])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_plots_of_a_slice_figure_are_equally_wide(listed, count):
    space = {
        "attention": CategoricalDistribution(listed),
        "lr": FloatDistribution(0.01, 0.5, log=True),
        "epochs": IntDistribution(3, 90),
    }
    names = list(space)[:count]
    with optuna_styled():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        for number in range(6):
            study.tell(study.ask({name: space[name] for name in names}), float(number))
    figure = plot_slices(study, names, "Validation top-1 (%)")
    figure.draw_without_rendering()
    plots = [axes.get_position() for axes in figure.axes]
    assert len(plots) == count
    assert {round(box.width, 6) for box in plots} == {round(plots[0].width, 6)}


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_best_trial_of_a_slice_is_the_darkest_and_on_top(direction):
    with optuna_styled():
        study = optuna.create_study(direction=direction)
        for value in (3.0, 9.0, 1.0, 5.0):
            study.add_trial(
                optuna.trial.create_trial(
                    params={"lr": value / 10},
                    distributions={"lr": FloatDistribution(0.01, 1)},
                    value=value,
                )
            )
    figure = plot_slices(study, ["lr"], "Loss")
    figure.draw_without_rendering()
    points = figure.axes[0].collections[0]
    brightness = [float(sum(colour[:3])) for colour in points.get_facecolors()]
    assert brightness == sorted(brightness, reverse=True)
    assert [float(x) for x, _ in points.get_offsets()][-1] == study.best_params["lr"]
