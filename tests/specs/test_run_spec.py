"""The run spec refuses what it would otherwise have to ignore, and says what would be right."""

from typing import Any

import pytest
from pydantic import ValidationError

from ema_lab.specs.document import error_messages
from ema_lab.specs.run import DataSpec, RunSpec

TREE: dict[str, Any] = {
    "model": {"backbone": "resnet20"},
    "data": {"name": "digits"},
    "recipe": {"epochs": 2, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.1}},
    "seed": 0,
}


def changed(part: str, **keys: Any) -> dict[str, Any]:
    return {**TREE, part: {**TREE[part], **keys}}


def messages(tree: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        RunSpec.model_validate(tree)
    return [message for _, message in error_messages(caught.value)]


MISSPELT = [
    (changed("model", atention="se"), ["model.atention", "did you mean 'attention'?"]),
    (changed("model", backbone="resnt20"), ["model.backbone", "did you mean 'resnet20'?"]),
    (changed("model", attention="emma"), ["no attention is named 'emma'", "did you mean 'ema'?"]),
    (changed("model", attention={"name": "ema", "grups": 8}), ["grups", "did you mean 'groups'?"]),
    (changed("model", placement={"stage": [1]}), ["model.placement.stage", "did you mean 'stages'?"]),
    (changed("data", name="digitz"), ["no data set is named 'digitz'", "did you mean 'digits'?"]),
    (changed("data", val_image=3), ["data.val_image", "did you mean 'val_images'?"]),
    (changed("recipe", epoch=3), ["recipe.epoch", "did you mean 'epochs'?", "known: epochs, batch_size"]),
    (changed("recipe", optimizer={"name": "sgd", "lr": 0.1, "momentu": 0}), ["did you mean 'momentum'?"]),
    ({**TREE, "sed": 1}, ["no key is named 'sed'", "did you mean 'seed'?"]),
]


def test_a_misspelt_name_names_the_nearest():
    for tree, words in MISSPELT:
        text = "\n".join(messages(tree))
        assert all(word in text for word in words)


WRONG = [
    (changed("model", attention=None), "not null"),
    (changed("model", attention={"groups": 8}), "must be a name or a mapping with a name"),
    (changed("model", attention=3), "must be a name or a mapping with a name"),
    (changed("model", attention={"name": "ema", "groups": 8.0}), "whole number, got 8.0"),
    (changed("model", attention={"name": "ema", "groups": True}), "whole number, got True"),
    (changed("model", placement={"stages": []}), "must have an entry"),
    (changed("model", placement={"stages": ["1"]}), "whole number, got '1'"),
    (changed("model", placement={"stages": [0]}), "must be 1 or more"),
    (changed("model", placement={"after": []}), "must have an entry"),
    (changed("data", val_images=1437), "must leave training images, got 1437 of 1437"),
    (
        changed("data", split_seed=1),
        "data.split_seed: changes nothing without val_images or train_images",
    ),
    (changed("data", split_seed=1, train_images=1437), "data.split_seed: changes nothing"),
    (changed("data", train_images=0), "data.train_images: must be 1 or more"),
    (
        changed("data", train_images=1438),
        "data.train_images: must be at most 1437, the number of training images, got 1438",
    ),
    (
        changed("data", train_images=1400, val_images=100),
        "at most 1337, the number of training images after 100 validation images, got 1400",
    ),
    (changed("data", train_image=3), "did you mean 'train_images'?"),
    (changed("recipe", augment={"resized_crop_area": [0.5]}), "recipe.augment.resized_crop_area"),
    (changed("recipe", augment={"resized_crop_area": [0.0, 1.0]}), "must be above 0, got 0.0"),
    (changed("recipe", augment={"resized_crop_area": [0.5, 1.5]}), "must be 1 or less, got 1.5"),
    (
        changed("recipe", augment={"resized_crop_area": [0.5, 0.1]}),
        "needs the smaller share first, got [0.5, 0.1]",
    ),
    (
        changed("recipe", augment={"resized_crop_area": [0.1, 1], "crop_padding": 1}),
        "are two ways to crop: set one of them",
    ),
    (changed("recipe", epochs=0), "recipe.epochs: must be 1 or more, got 0"),
    (changed("recipe", epochs="2"), "whole number, got '2'"),
    (changed("recipe", epochs=2.0), "whole number, got 2.0"),
    (changed("recipe", label_smoothing=1.0), "must be below 1"),
    (changed("recipe", label_smoothing=float("nan")), "recipe.label_smoothing"),
    (changed("recipe", optimizer={"name": "sgd", "lr": float("inf")}), "finite"),
    (
        changed("recipe", optimizer={"name": "sgd", "lr": 0.1, "nesterov": True}),
        "needs a momentum above 0",
    ),
    (changed("recipe", optimizer={"name": "lion", "lr": 0.1}), "known: sgd, adamw"),
    (
        changed("recipe", schedule={"name": "cosine", "warmup_epochs": 2}),
        "before the last epoch, got 2 of 2",
    ),
    (changed("recipe", normalise="cifar10"), "one value per channel: digits has 1"),
    (changed("recipe", normalise={"mean": [0.5], "std": [0.5, 0.5]}), "one value per channel"),
    (changed("recipe", protocol="best-val"), "best-val needs a validation split: set data.val_images"),
    (changed("recipe", protocol="best-test", watch="test"), "best-test watches the test split already"),
    (changed("recipe", protocol="best-val", watch="test"), "best-val chooses by the validation split"),
    (
        changed("recipe", watch="test") | {"data": {"name": "digits", "val_images": 50}},
        "recipe.watch: test stands without validation images: remove it, or data.val_images",
    ),
    ({"model": TREE["model"], "data": {"name": "digitz"}, "seed": 0}, "recipe: is missing"),
]


def test_a_wrong_value_is_refused_with_the_rule():
    for tree, words in WRONG:
        assert any(words in message for message in messages(tree))


def test_best_val_is_right_with_a_validation_split():
    tree = changed("recipe", protocol="best-val") | {"data": {"name": "digits", "val_images": 50}}
    spec = RunSpec.model_validate(tree)
    assert spec.recipe.protocol == "best-val"


def test_the_problems_of_all_parts_come_in_one_error():
    tree = {
        "model": {"backbone": "resnet20", "attention": "emma", "steem": 1},
        "data": {"name": "digitz"},
        "recipe": {"epochs": 0, "batch_size": 0, "optimizer": {"name": "sgd", "lr": 0}},
        "seed": True,
    }
    text = "\n".join(messages(tree))
    for key in ("attention", "steem", "digitz", "epochs", "batch_size", "lr", "seed"):
        assert key in text


def test_a_spec_cannot_be_changed():
    spec = RunSpec.model_validate(TREE)
    with pytest.raises(ValidationError, match="frozen"):
        spec.seed = 1  # type: ignore[misc]


def test_attention_that_is_also_inserted_counts_after_the_first():
    spec = RunSpec.model_validate(
        changed("model", attention="ema", also=[{"attention": "none"}, {"attention": "se"}])
    )
    assert [item.attention.name for item in spec.model.insertions] == ["ema", "se"]


def test_the_facts_of_synthetic_data_are_its_options():
    spec = RunSpec.model_validate({**TREE, "data": {"name": "synthetic", "classes": 7, "channels": 1}})
    assert (spec.data.facts.classes, spec.data.facts.channels) == (7, 1)


def test_a_subset_of_all_training_images_is_no_subset():
    for images, val_images in ((1437, 0), (1337, 100)):
        spec = RunSpec.model_validate(changed("data", train_images=images, val_images=val_images))
        assert spec.data.train_images is None
        assert spec.run_id == RunSpec.model_validate(changed("data", val_images=val_images)).run_id
    assert DataSpec(name="digits", train_images=1437) == DataSpec(name="digits")


def test_an_option_of_the_data_set_wins_over_the_specs_own_key():
    data = {"name": "synthetic", "train_images": 40, "val_images": 10}
    spec = RunSpec.model_validate({**TREE, "data": data})
    assert spec.data.train_images is None
    assert spec.data.facts.train_images == 40
    assert spec.data.resolved() == data
    assert DataSpec(name="synthetic", train_images=40).facts.train_images == 40
