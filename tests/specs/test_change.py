"""Dotted keys and named recipes: changes to a spec that is still plain data."""

import copy
import functools
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.errors import DefinitionError, SpecError, UnknownNameError
from ema_lab.specs.change import apply_change, named_recipe, with_recipe
from ema_lab.specs.definition import definitions
from ema_lab.specs.recipe import RecipeSpec

WORDS = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(st.integers(), lambda below: st.dictionaries(WORDS, below, max_size=3), max_leaves=8)


@given(tree=st.dictionaries(WORDS, TREES), keys=st.lists(WORDS, min_size=1, max_size=3), value=st.integers())
def test_a_change_sets_its_key_and_leaves_the_given_tree_alone(tree, keys, value):
    before = copy.deepcopy(tree)
    changed = functools.reduce(
        lambda below, key: below.get(key) if isinstance(below, dict) else below, keys[:-1], tree
    )
    if changed is not None and not isinstance(changed, dict):
        with pytest.raises(SpecError, match="has no key"):
            apply_change(tree, tuple(keys), value)
    else:
        after = apply_change(tree, tuple(keys), value)
        assert functools.reduce(operator.getitem, keys, after) == value
        assert {**after, keys[0]: 0} == {**before, keys[0]: 0}
    assert tree == before


def test_a_name_on_the_way_becomes_a_mapping():
    tree = apply_change({"model": {"attention": "ema"}}, ("model", "attention", "groups"), 8)
    assert tree == {"model": {"attention": {"name": "ema", "groups": 8}}}


def test_setting_a_mapping_replaces_it_whole():
    tree = {"model": {"attention": {"name": "ema", "groups": 8}}}
    assert apply_change(tree, ("model", "attention"), {"name": "se"}) == {
        "model": {"attention": {"name": "se"}}
    }


def test_a_named_recipe_is_expanded_and_then_overridden():
    recipe = {"use": "cifar-200", "epochs": 100, "optimizer.lr": 0.05, "schedule": {"name": "cosine"}}
    expanded = with_recipe({"recipe": recipe, "seed": 0})["recipe"]
    assert "use" not in expanded
    assert expanded["epochs"] == 100
    assert expanded["batch_size"] == 128
    assert expanded["optimizer"] == {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
    assert expanded["schedule"] == {"name": "cosine"}


def test_expanding_a_recipe_leaves_the_named_one_as_it_was():
    before = copy.deepcopy(named_recipe("cifar-200"))
    with_recipe({"recipe": {"use": "cifar-200", "optimizer.lr": 9.0}})
    assert named_recipe("cifar-200") == before


def test_a_tree_without_use_is_returned_as_it_is():
    tree = {"recipe": {"epochs": 3}}
    assert with_recipe(tree) is tree


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'cifar-200'"):
        with_recipe({"recipe": {"use": "cifar200"}})


def test_a_recipe_file_is_checked_as_it_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "ablations" / "recipes"
    folder.mkdir(parents=True)
    (folder / "bad-for-test.yaml").write_text(
        "name: bad-for-test\ndescription: x\nrecipe:\n  epochs: 0\n  lr: 1\n"
    )
    with pytest.raises(DefinitionError) as caught:
        named_recipe("bad-for-test")
    assert "bad-for-test.yaml:4: recipe.epochs" in str(caught.value)
    assert "bad-for-test.yaml:5: recipe.lr: no key is named 'lr'" in str(caught.value)


@pytest.mark.parametrize("name", definitions("ablations/recipes"))
def test_every_bundled_recipe_is_valid(name):
    assert RecipeSpec.model_validate(named_recipe(name)).epochs > 0
