"""Smoke runs exist for each row of every bundled ablation."""

import pytest

from ema_lab.ablation.ablation import load_ablation
from ema_lab.execution.smoke import BATCH, smoke_spec
from ema_lab.registry.catalogue import DATASETS
from ema_lab.specs.definition import definitions
from ema_lab.specs.run import RunSpec


@pytest.mark.parametrize("name", definitions("ablations"))
def test_every_row_of_a_bundled_ablation_has_a_smoke_run_of_its_model(name):
    for cells in load_ablation(name).rows().values():
        spec = cells[0].spec
        smoke = smoke_spec(spec)
        start = spec.model.start
        kept = None if start is not None and start.weights else start
        assert smoke.model == spec.model.model_copy(update={"start": kept})
        assert smoke.data.name == spec.data.task.made_up
        facts, expected = smoke.data.facts, spec.data.facts
        takes_sizes = "image_size" in DATASETS.options(smoke.data.name)  # detectors are tried on small images
        assert (facts.classes, facts.channels, facts.image_size) == (
            expected.classes,
            expected.channels,
            expected.image_size if takes_sizes else facts.image_size,
        )
        assert smoke.data.facts.train_images - smoke.data.val_images == 2 * BATCH
        assert (smoke.recipe.epochs, smoke.recipe.batch_size) == (1, BATCH)
        assert smoke.recipe.optimizer == spec.recipe.optimizer
        assert RunSpec.model_validate(smoke.resolved()).run_id == smoke.run_id


@pytest.mark.parametrize(
    "recipe",
    [
        {"protocol": "best-val"},
        {"schedule": {"name": "cosine", "warmup_epochs": 20}},
        {"schedule": {"name": "multistep", "milestones": [60, 120]}},
        {"normalise": {"mean": [0.5] * 3, "std": [0.5] * 3}},
    ],
    ids=["best-val", "warm-up", "milestones", "values"],
)
@pytest.mark.parametrize(
    "data", [{"name": "cifar100", "val_images": 5000, "split_seed": 1}], ids=["cifar100"]
)
def test_a_recipe_of_any_kind_has_a_smoke_run(recipe, data):
    tree = {
        "model": {"backbone": "resnet20", "attention": {"name": "ema", "groups": 8}},
        "data": data,
        "recipe": {"epochs": 200, "batch_size": 128, "optimizer": {"name": "sgd", "lr": 0.1}, **recipe},
        "seed": 3,
    }
    smoke = smoke_spec(RunSpec.model_validate(tree))
    assert smoke.recipe.protocol == recipe.get("protocol", "last")
    assert smoke.recipe.schedule.warmup_epochs == 0
    assert 0 < smoke.data.val_images < smoke.data.facts.train_images
    assert smoke.seed == 3
