"""Main effects and interactions, by hand and against least squares with seeds as blocks."""

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from ema_lab.statistics.factorial import effects


def product(function, *levels, seeds=3):
    return {key: {seed: function(*key, seed) for seed in range(seeds)} for key in itertools.product(*levels)}


def test_effects_of_a_small_product_by_hand():
    table = {("4", "in"): 1.0, ("4", "out"): 2.0, ("8", "in"): 4.0, ("8", "out"): 9.0}
    main_a, main_b, both = effects(product(lambda a, b, s: table[a, b] + s, ["4", "8"], ["in", "out"]), "ab")
    assert (main_a.factors, main_a.levels, main_a.references) == (("a",), ("8",), ("4",))
    assert main_a.difference.mean == 5.0  # ((4 - 1) + (9 - 2)) / 2
    assert main_b.difference.mean == 3.0  # ((2 - 1) + (9 - 4)) / 2
    assert both.difference.mean == 4.0  # (9 - 4) - (2 - 1)
    assert both.factors == ("a", "b")


def test_estimates_are_those_of_least_squares():
    random = np.random.default_rng(3)
    levels = ["x", "y", "z"], ["in", "out"], ["s", "t"]
    values = product(lambda *key: float(random.normal()), *levels, seeds=5)
    rows = [
        dict(zip(("a", "b", "c", "seed"), (*key, seed), strict=True), value=value)
        for key, by_seed in values.items()
        for seed, value in by_seed.items()
    ]
    frame = pd.DataFrame(rows)
    sums = "C(a, Sum) * C(b, Sum) * C(c, Sum) + C(seed)"
    model = smf.ols(f"value ~ {sums}", frame).fit()

    def cell(a, b):
        some = frame[(frame.a == a) & (frame.b == b)] if b else frame[frame.a == a]
        return model.predict(some).mean()

    found = {(one.factors, one.levels): one for one in effects(values, ("a", "b", "c"))}
    assert len(found) == (2 + 1 + 1) + (2 + 2 + 1)
    assert found[("a",), ("z",)].difference.mean == pytest.approx(cell("z", None) - cell("x", None))
    expected = cell("y", "out") - cell("y", "in") - cell("x", "out") + cell("x", "in")
    assert found[("a", "b"), ("y", "out")].difference.mean == pytest.approx(expected)


def test_the_interval_is_over_seeds_and_the_seeds_level_does_not_matter():
    def value(a, b, seed):
        return 100.0 * seed + (1.0 + 0.1 * seed) * (a == "8") + (b == "out")

    main, *_ = effects(product(value, ["4", "8"], ["in", "out"]), ("groups", "place"))
    assert main.differences == pytest.approx((1.0, 1.1, 1.2))
    assert main.difference.count == 3
    assert main.difference.low == pytest.approx(1.1 - 4.302653 * 0.1 / 3**0.5, abs=1e-6)


def test_seeds_keep_their_order():
    [effect, *_] = effects(product(lambda a, b, seed: seed + len(a + b), "xy", "uv", seeds=12), ["a", "b"])
    assert effect.seeds == tuple(range(12))


def test_only_seeds_that_all_cells_have_are_used():
    values = product(lambda a, b, seed: float(seed), ["4", "8"], ["in", "out"])
    del values["8", "in"][1]
    assert effects(values, ("a", "b"))[0].difference.count == 2


def test_a_product_that_is_not_full_has_no_effects():
    values = product(lambda a, b, seed: 0.0, ["4", "8"], ["in", "out"])
    with pytest.raises(ValueError, match="8 x out is missing"):
        effects({key: value for key, value in values.items() if key != ("8", "out")}, ("a", "b"))
    with pytest.raises(ValueError, match="in common"):
        effects({key: {place: 0.0} for place, key in enumerate(values)}, ("a", "b"))
