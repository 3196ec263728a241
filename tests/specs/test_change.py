"""Dotted keys and named recipes: changes to a spec that is still plain data."""

import copy
import functools
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ema_lab.errors import DefinitionError, SpecError, UnknownNameError
from ema_lab.registry.catalogue import DATASETS, TASKS
from ema_lab.specs.change import DEFAULT_RECIPES, apply_change, default_recipe, named_recipe, with_recipe
from ema_lab.specs.definition import definitions
from ema_lab.specs.document import error_messages
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.specs.run import RunSpec

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


def test_the_recipe_of_a_data_set_never_changes():
    """Another one would give the files without a recipe other run ids: add lines, change and remove none."""
    assert DEFAULT_RECIPES == {
        "cifar10": "cifar-200",
        "cifar100": "cifar-200",
        "coco": "yolov5-v6",
        "digit_scenes": "digit-scenes",
        "digits": "digits-quick",
        "fashion_mnist": "fashion-quick",
        "imagenet": "imagenet-200",
        "synthetic": "digits-quick",
        "synthetic_scenes": "digit-scenes",
        "trees": "trees",
        "visdrone": "yolov5-v6",
        "classification": "plain-30",
        "detection": "trees",
    }


def test_every_data_set_has_a_recipe(tmp_path, monkeypatch):
    assert {default_recipe({"name": name}) for name in DATASETS} <= set(definitions("ablations/recipes"))
    assert set(TASKS) <= DEFAULT_RECIPES.keys()
    assert default_recipe({"name": "digitz"}) is default_recipe("digits") is default_recipe(None) is None


def test_a_recipe_file_is_read_again_after_a_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "ablations" / "recipes" / "mine.yaml"
    file.parent.mkdir(parents=True)
    for epochs in (3, 14):
        keys = f"{{epochs: {epochs}, batch_size: 8, optimizer: {{name: sgd, lr: 0.1}}}}"
        file.write_text(f"name: mine\ndescription: x\nrecipe: {keys}\n")
        assert named_recipe("mine")["epochs"] == epochs


MODEL = {"backbone": "resnet20", "attention": "ema"}


def test_a_run_spec_takes_what_a_file_takes():
    full = RunSpec(model=MODEL, data={"name": "digits"}, recipe=named_recipe("digits-quick"), seed=0)
    for recipe in ({"use": "digits-quick"}, "digits-quick"):
        assert RunSpec(model=MODEL, data={"name": "digits"}, recipe=recipe, seed=0) == full
    assert RunSpec(model=MODEL, data={"name": "digits"}, seed=0) == full
    changed = RunSpec(
        model=MODEL, data={"name": "digits"}, recipe={"use": "digits-quick", "optimizer.lr": 0.05}, seed=0
    )
    assert changed.recipe == full.recipe.model_copy(
        update={"optimizer": full.recipe.optimizer.model_copy(update={"lr": 0.05})}
    )


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("digits-quik", "no recipe is named 'digits-quik'; did you mean 'digits-quick'?"),
        ({"use": "digits-quick", "optimizer": {"lr": 1.0}}, "beside `use`, write optimizer.lr: 1.0"),
    ],
)
def test_a_recipe_that_cannot_be_expanded_is_a_problem_of_its_key(recipe, words):
    with pytest.raises(ValidationError) as caught:
        RunSpec(model=MODEL, data={"name": "digits"}, recipe=recipe, seed=0)
    ((key_path, message),) = error_messages(caught.value)
    assert key_path == ("recipe",)
    assert words in message
