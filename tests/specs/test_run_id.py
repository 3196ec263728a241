"""Run ids: the name of a result, so that they must never move and never tell equal runs apart."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ema_lab.registry.catalogue import ATTENTIONS
from ema_lab.specs.run import RunSpec

DIGITS: dict[str, Any] = {
    "model": {"backbone": "resnet20"},
    "data": {"name": "digits"},
    "recipe": {
        "epochs": 6,
        "batch_size": 64,
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        "augment": {"crop_padding": 1},
    },
    "seed": 0,
}
CIFAR: dict[str, Any] = {
    "model": {"backbone": "resnet50", "stem": "cifar"},
    "data": {"name": "cifar100"},
    "recipe": {
        "epochs": 200,
        "batch_size": 128,
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "multistep", "milestones": [60, 120, 160], "gamma": 0.2},
        "augment": {"crop_padding": 4, "flip": True},
        "normalise": "cifar10",
    },
    "seed": 0,
}
EVERYTHING: dict[str, Any] = {
    "model": {
        "backbone": "resnet50",
        "stem": "cifar",
        "attention": {"name": "cbam", "reduction": 8},
        "placement": {"after": ["layer*.*.bn2"], "stages": [3, 4], "min_channels": 64},
        "also": [{"attention": "se", "placement": {"stages": [1]}}],
    },
    "data": {"name": "synthetic", "classes": 7, "val_images": 14, "split_seed": 3},
    "recipe": {
        "epochs": 3,
        "batch_size": 16,
        "optimizer": {"name": "adamw", "lr": 1e-4},
        "schedule": {"name": "cosine", "min_lr": 1e-6, "warmup_epochs": 1},
        "label_smoothing": 0.1,
        "normalise": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "precision": "bf16",
        "protocol": "best-val",
    },
    "seed": 2**40,
}


def with_value(tree: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    head, _, rest = dotted.partition(".")
    return {**tree, head: with_value(tree.get(head, {}), rest, value) if rest else value}


def needed(name: str) -> dict[str, Any]:
    """Return the shortest spec of an attention module."""
    return {"name": name} | ({"of": {"name": "se"}} if "of" in ATTENTIONS.options(name) else {})


def run_id(tree: dict[str, Any], **changes: Any) -> str:
    """Return the id of a tree with changed values; `__` in a keyword stands for the dot."""
    for key, value in changes.items():
        tree = with_value(tree, key.replace("__", "."), value)
    return RunSpec.model_validate(tree).run_id


@pytest.mark.parametrize(
    ("tree", "attention", "expected"),
    [
        (DIGITS, "none", "71f7d3160e5eaa40"),
        (DIGITS, "se", "3566cd2dd5e31976"),
        (CIFAR, "none", "3331a8f7078f4380"),
        (CIFAR, "ema", "643a4fcd8e8346c0"),
        (CIFAR, {"name": "ema", "groups": 32}, "643a4fcd8e8346c0"),
        (EVERYTHING, {"name": "cbam", "reduction": 8}, "49b0eb2063d49210"),
    ],
    ids=["digits none", "digits se", "cifar none", "cifar ema", "cifar ema of 32 groups", "every key"],
)
def test_an_id_that_was_once_given_stays(tree, attention, expected):
    assert run_id(tree, model__attention=attention) == expected


def shuffled(tree: Any, draw: Any) -> Any:
    if isinstance(tree, dict):
        return {key: shuffled(tree[key], draw) for key in draw(st.permutations(list(tree)))}
    return [shuffled(item, draw) for item in tree] if isinstance(tree, list) else tree


@given(st.data())
def test_the_order_of_keys_does_not_matter(data):
    tree = shuffled(EVERYTHING, data.draw)
    assert run_id(tree) == run_id(EVERYTHING)


@pytest.mark.parametrize("tree", [DIGITS, CIFAR, EVERYTHING], ids=["digits", "cifar", "every key"])
def test_a_resolved_spec_reads_back_as_the_same_run(tree):
    spec = RunSpec.model_validate(tree)
    again = RunSpec.model_validate(spec.resolved())
    assert (again, again.run_id) == (spec, spec.run_id)
    assert again.resolved() == spec.resolved()


@given(
    seed=st.integers(0, 2**63 - 1), attention=st.sampled_from(list(ATTENTIONS)), epochs=st.integers(2, 500)
)
def test_whatever_is_chosen_reads_back_as_the_same_run(seed, attention, epochs):
    tree = with_value(with_value(DIGITS, "model.attention", needed(attention)), "recipe.epochs", epochs)
    spec = RunSpec.model_validate({**tree, "seed": seed})
    assert RunSpec.model_validate(spec.resolved()).run_id == spec.run_id


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("recipe.optimizer.lr", 0.1, 1e-1),
        ("recipe.optimizer.lr", 5, 5.0),
        ("recipe.optimizer.weight_decay", 0, -0.0),
        ("recipe.label_smoothing", 0, 0.0),
        ("model.attention", "ema", {"name": "ema"}),
    ],
)
def test_two_spellings_of_one_value_are_one_run(key, one, other):
    assert run_id(with_value(DIGITS, key, one)) == run_id(with_value(DIGITS, key, other))


DEFAULTS = [
    ("model.attention", "none"),
    ("model.placement", {}),
    ("model.placement.after", "block_end"),
    ("model.also", []),
    ("data.val_images", 0),
    ("data.split_seed", 0),
    ("data.train_images", None),
    ("data.train_images", 1437),
    ("recipe.label_smoothing", 0.0),
    ("recipe.precision", "fp32"),
    ("recipe.evaluation_precision", "fp32"),  # of a run that trains in fp32: the same as `training`
    ("recipe.memory_format", "contiguous"),
    ("recipe.compile", "off"),
    ("recipe.protocol", "last"),
    ("recipe.normalise", "dataset"),
    ("recipe.augment.flip", False),
    ("recipe.augment.resized_crop_area", None),
    ("recipe.schedule.min_lr", 0.0),
]


def test_a_key_at_its_default_is_as_good_as_absent():
    for key, default in DEFAULTS:
        assert run_id(with_value(DIGITS, key, default)) == run_id(DIGITS)


def test_options_at_their_defaults_are_left_out():
    for name in ATTENTIONS:
        short = needed(name)
        defaults = {key: option.default for key, option in ATTENTIONS.options(name).items() if key != "of"}
        plain = RunSpec.model_validate(with_value(DIGITS, "model.attention", short))
        spelt = RunSpec.model_validate(with_value(DIGITS, "model.attention", {**short, **defaults}))
        assert spelt.run_id == plain.run_id
        assert spelt.model.attention.resolved() == short


def test_a_wrapped_module_is_resolved_as_any_other():
    def frozen(of):
        return run_id(DIGITS, model__attention={"name": "frozen", "of": of})

    assert frozen("ema") == frozen({"name": "ema"}) == frozen({"name": "ema", "groups": 32})
    assert frozen({"name": "ema", "groups": 8}) != frozen("ema") != frozen("se")


@pytest.mark.parametrize(
    ("of", "loc", "message"),
    [
        ("emma", ("of", "name"), "no attention is named 'emma'; did you mean 'ema'"),
        ({"name": "ema", "group": 8}, ("of", "group"), "no key is named 'group'; did you mean 'groups'"),
        ({"name": "ema", "groups": "8"}, ("of", "groups"), "whole number"),
        (None, ("of",), "must name one of"),
    ],
)
def test_what_is_wrong_in_a_wrapped_module_is_located_there(of, loc, message):
    with pytest.raises(ValidationError, match=message) as caught:
        run_id(DIGITS, model__attention={"name": "frozen", "of": of})
    assert caught.value.errors()[0]["loc"] == ("model", "attention", *loc)


DECISIONS = [
    ("seed", 1),
    ("model.backbone", "resnet32"),
    ("model.attention", {"name": "ema", "groups": 8}),
    ("model.also", [{"attention": "simam"}]),
    ("data.val_images", 100),
    ("data.train_images", 100),
    ("recipe.epochs", 7),
    ("recipe.optimizer.lr", 0.2),
    ("recipe.label_smoothing", 0.1),
    ("recipe.augment.flip", True),
    ("recipe.augment", {"resized_crop_area": [0.08, 1.0]}),
    ("recipe.precision", "bf16"),
    ("recipe.protocol", "best-test"),
    ("recipe.watch", "test"),
]


def test_whatever_decides_a_result_changes_the_id():
    for key, value in DECISIONS:
        assert run_id(with_value(DIGITS, key, value)) != run_id(DIGITS)


def test_nothing_is_placed_nowhere_so_none_drops_its_placement():
    spec = RunSpec.model_validate(with_value(DIGITS, "model.placement", {"stages": [1]}))
    assert spec.resolved()["model"] == {"backbone": "resnet20"}
    placed = with_value(with_value(DIGITS, "model.placement", {"stages": [1]}), "model.attention", "se")
    assert RunSpec.model_validate(placed).resolved()["model"]["placement"] == {"stages": (1,)}


@pytest.mark.parametrize(
    ("default", "value"),
    [
        ("0", False),
        ("1", True),
        ("False", 0),
        ("True", 1.0),
        ("[0, 1]", [False, 1]),
        ("{'a': 1}", {"a": True}),
    ],
)
def test_a_truth_is_no_number(tmp_path, monkeypatch, default, value):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"truths_of_{abs(hash((default, repr(value))))}.py"
    code = f"class Gate:\n    def __init__(self, channels: int, *, option: object = {default}) -> None: ...\n"
    path.write_text(code)
    name = f"{path.stem}:Gate"
    given = RunSpec.model_validate(with_value(DIGITS, "model.attention", {"name": name, "option": value}))
    assert given.model.attention.options == {"option": value}
    assert given.run_id != RunSpec.model_validate(with_value(DIGITS, "model.attention", name)).run_id


def test_a_number_that_is_its_default_in_another_type_is_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "class Gate:\n    def __init__(self, channels: int, *, option: object = 1.0) -> None: ...\n"
    (tmp_path / "number_gate.py").write_text(code)
    name = "number_gate:Gate"
    assert run_id(DIGITS, model__attention={"name": name, "option": 1}) == run_id(
        DIGITS, model__attention=name
    )


def test_a_whole_number_is_one_run_in_either_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "class Gate:\n    def __init__(self, channels: int, *, option: object = None) -> None: ...\n"
    (tmp_path / "whole_gate.py").write_text(code)
    ids = [run_id(DIGITS, model__attention={"name": "whole_gate:Gate", "option": n}) for n in (2, 2.0, 2.5)]
    assert ids[0] == ids[1] != ids[2]
    assert run_id(DIGITS, recipe__optimizer__lr=1.0) == "40f1fbee20a4742c"


@pytest.mark.parametrize("seed", [True, -1, 1.0, "1", None, 2**63])
def test_a_seed_is_a_natural_number(seed):
    with pytest.raises(ValidationError, match="seed"):
        RunSpec.model_validate({**DIGITS, "seed": seed})


def test_specs_differing_in_the_seed_share_their_model_key():
    one, other = (RunSpec.model_validate({**DIGITS, "seed": seed}) for seed in (0, 1))
    assert one.model_key == other.model_key
    assert one.model_key != RunSpec.model_validate(with_value(DIGITS, "model.attention", "se")).model_key


@pytest.mark.parametrize(("key", "value"), [("image_size", 16), ("channels", 1), ("classes", 7)])
def test_the_shape_of_the_data_belongs_to_the_model_key(key, value):
    plain = with_value(DIGITS, "data", {"name": "synthetic"})
    keys = {RunSpec.model_validate(with_value(plain, f"data.{key}", v)).model_key for v in (value, value + 1)}
    assert len(keys | {RunSpec.model_validate(plain).model_key}) == 3


def test_what_only_training_sees_is_not_in_the_model_key():
    others = (with_value(DIGITS, "recipe.epochs", 9), with_value(DIGITS, "data.val_images", 9))
    keys = {RunSpec.model_validate(tree).model_key for tree in (DIGITS, *others)}
    assert len(keys) == 1
