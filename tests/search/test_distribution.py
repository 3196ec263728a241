"""W&B's distributions, drawn through Optuna, against scipy's versions."""

import json
import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ema_lab.search.distribution import Parameter, in_grid
from ema_lab.specs.parameter import ParameterSpec

DRAWS = 4000
CONTINUOUS = {
    "uniform": ({"min": -2.0, "max": 3.0}, stats.uniform(-2, 5)),
    "log_uniform": ({"min": -3.0, "max": 2.0}, stats.loguniform(math.exp(-3), math.exp(2))),
    "log_uniform_values": ({"min": 0.001, "max": 0.1}, stats.loguniform(0.001, 0.1)),
    "inv_log_uniform": ({"min": 1.0, "max": 4.0}, stats.loguniform(math.exp(-4), math.exp(-1))),
    "inv_log_uniform_values": ({"min": 0.001, "max": 0.1}, stats.loguniform(0.001, 0.1)),
    "normal": ({"mu": 2.0, "sigma": 0.5}, stats.norm(2, 0.5)),
    "log_normal": ({"mu": -1.0, "sigma": 0.5}, stats.lognorm(0.5, scale=math.exp(-1))),
    "beta": ({"a": 2.0, "b": 5.0}, stats.beta(2, 5)),
}
ROUNDED = {
    "q_uniform": ({"min": 0, "max": 5, "q": 1}, stats.uniform(0, 5)),
    "q_log_uniform": ({"min": 0.0, "max": 3.0, "q": 2}, stats.loguniform(1, math.exp(3))),
    "q_log_uniform_values": ({"min": 1, "max": 30, "q": 0.5}, stats.loguniform(1, 30)),
    "q_normal": ({"mu": 1.0, "sigma": 2.0, "q": 0.5}, stats.norm(1, 2)),
    "q_log_normal": ({"sigma": 1.0, "q": 0.25}, stats.lognorm(1.0)),
    "q_beta": ({"a": 2.0, "b": 2.0, "q": 0.1}, stats.beta(2, 2)),
}


def parameter(**form):
    return Parameter("x", ParameterSpec.model_validate(form))


def draws(one, count=DRAWS):
    """Draw through Optuna's random sampler, as a sweep does."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=7))
    space = {one.name: one.optuna_distribution()}
    sampler, trial = study.sampler, study.ask(space)
    frozen = study.get_trials()[0]
    held = [sampler.sample_independent(study, frozen, one.name, space[one.name]) for _ in range(count - 1)]
    return [one.value_of(item) for item in [trial.params[one.name], *held]]


@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_continuous_distribution_is_scipys(name):
    form, law = CONTINUOUS[name]
    assert stats.kstest(draws(parameter(distribution=name, **form)), law.cdf).pvalue > 0.01


@pytest.mark.parametrize("name", ROUNDED)
def test_a_rounded_distribution_has_the_shares_of_scipys_law(name):
    form, law = ROUNDED[name]
    step = form["q"]
    values, counts = np.unique(draws(parameter(distribution=name, **form)), return_counts=True)
    assert np.allclose(values / step, np.round(values / step))
    expected = law.cdf(values + step / 2) - law.cdf(values - step / 2)
    common = expected * DRAWS >= 5
    rest = DRAWS - counts[common].sum()
    observed = [*counts[common], rest] if rest else counts[common]
    shares = [*expected[common], 1 - expected[common].sum()] if rest else expected[common]
    shares = np.array(shares) / np.sum(shares)
    assert stats.chisquare(observed, shares * DRAWS).pvalue > 0.01


def test_whole_numbers_are_even_and_both_ends_are_drawn():
    _, counts = np.unique(draws(parameter(min=3, max=6)), return_counts=True)
    assert len(counts) == 4
    assert stats.chisquare(counts).pvalue > 0.01


def test_probabilities_are_kept():
    drawn = draws(parameter(values=["a", "b", "c"], probabilities=[0.7, 0.0, 0.3]))
    assert stats.binomtest(drawn.count("a"), DRAWS, 0.7).pvalue > 0.01
    assert "b" not in drawn


def test_choices_come_back_as_they_were_written():
    values = [None, True, 1, "1", [1, 4], {"name": "se", "reduction": 16}]
    drawn = draws(parameter(values=values), 200)
    assert {repr(value) for value in drawn} == {repr(value) for value in values}


def test_a_value_is_found_again_in_the_study():
    for name, form in [(n, f) for n, (f, _) in {**CONTINUOUS, **ROUNDED}.items()]:
        one = parameter(distribution=name, **form)
        for quantile in (0.03, 0.5, 0.9):
            value = one.at(quantile)
            assert one.value_of(one.stored_for(value)) == pytest.approx(value, rel=1e-9, abs=1e-12)
        assert one.stored_for("a word") is None
        assert one.stored_for(-1e9) is None


def test_a_listed_value_is_found_again_and_others_are_not():
    assert parameter(values=[1, 2.5, [3]]).stored_for([3]) == "[3]"
    assert parameter(values=[1, 2]).stored_for(3) is None
    assert parameter(min=1, max=3).stored_for(4) is None
    one = parameter(values=["a", "b"], probabilities=[0.5, 0.5])
    assert one.value_of(one.stored_for("b")) == "b"


GRIDS = json.loads((Path(__file__).parent / "wandb_grids.json").read_text(encoding="utf-8"))["grids"]


def test_a_grid_has_wandbs_cells_and_none_beyond_the_range():
    for case in GRIDS:
        spec = in_grid(ParameterSpec.model_validate(case["parameter"]))
        most = case["parameter"].get("max")
        cells = [cell for cell in case["cells"] if most is None or cell <= most]
        assert list(map(repr, Parameter("x", spec).grid())) == list(map(repr, cells))


WANDB = json.loads((Path(__file__).parent / "wandb_quantiles.json").read_text(encoding="utf-8"))


def test_a_quantile_is_that_of_wandbs_own_transform():
    for case in WANDB["distributions"]:
        ours = parameter(**case["parameter"])
        found = [ours.at(quantile) for quantile in WANDB["quantiles"]]
        assert found == (
            pytest.approx(case["values"]) if isinstance(found[0], float | int) else case["values"]
        )


ENDS = {  # what the two ends of each bounded family are, of its min and max
    "uniform": float,
    "log_uniform": math.exp,
    "log_uniform_values": float,
    "inv_log_uniform": lambda value: math.exp(-value),
    "inv_log_uniform_values": float,
    "q_uniform": round,
    "q_log_uniform": lambda value: round(math.exp(value)),
    "q_log_uniform_values": round,
}


@pytest.mark.parametrize("name", ENDS)
@given(low=st.floats(1e-6, 10), width=st.floats(1e-3, 10), u=st.floats(0, 1))
def test_the_ends_of_a_range_are_exact_found_again_and_nothing_lies_beyond(name, low, width, u):
    form = {"min": low, "max": low + width}
    one = parameter(distribution=name, **form)
    ends = [ENDS[name](value) for value in form.values()]
    assert sorted([one.at(0.0), one.at(1.0)]) == sorted(ends)
    assert min(ends) <= one.at(u) <= max(ends)
    for end in ends:
        assert one.value_of(one.stored_for(end)) == end


@given(low=st.integers(-50, 50), width=st.integers(1, 50))
def test_the_ends_of_whole_numbers_and_of_a_beta_are_exact(low, width):
    assert [parameter(min=low, max=low + width).at(u) for u in (0.0, 1.0)] == [low, low + width]
    beta = parameter(distribution="beta", a=float(width), b=2.0)
    assert [beta.at(u) for u in (0.0, 1.0)] == [0.0, 1.0]


def test_a_run_at_the_end_of_a_range_is_one_that_the_study_can_hold():
    assert parameter(distribution="log_uniform_values", min=0.01, max=0.5).stored_for(0.01) == 0.01


@pytest.mark.parametrize(
    "kind", ["log_uniform", "inv_log_uniform", "q_log_uniform", "log_normal", "q_log_normal"]
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_greatest_logarithms_that_are_let_through_can_be_drawn(kind, sign):
    form = {"mu": sign * 693.0, "sigma": 1.0} if "normal" in kind else {"min": -700.0, "max": 700.0}
    one = parameter(distribution=kind, **form)
    assert all(math.isfinite(one.at(u)) for u in (0.0, 0.5, 1.0))


@pytest.mark.parametrize("shares", [[0, 1, 0], [0.5, 0, 0.5], [0, 0.25, 0.75], [0.3, 0.7, 0]])
def test_a_choice_of_probability_zero_is_never_drawn_nor_found(shares):
    values = ["a", "b", "c"]
    one = parameter(values=values, probabilities=shares)
    possible = {value for value, share in zip(values, shares, strict=True) if share}
    edges = [sum(shares[:count]) for count in range(4)]
    drawn = [
        one.at(u)
        for edge in edges
        for u in (edge, math.nextafter(edge, 0), math.nextafter(edge, 1))
        if u <= 1
    ]
    assert {*drawn, *(one.at(number / 1000) for number in range(1001))} == possible
    for value in values:
        held = one.stored_for(value)
        assert (held is not None) is (value in possible)
        assert held is None or one.value_of(held) == value
