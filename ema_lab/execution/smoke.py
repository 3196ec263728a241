"""The smallest run that still goes through everything: two steps on made-up images of the right shape."""

from ema_lab.registry.catalogue import DATASETS
from ema_lab.specs.run import RunSpec

BATCH = 4


def smoke_spec(spec: RunSpec) -> RunSpec:
    """Return a run with the same model and two training steps on the task's made-up data.

    Of the facts, those are handed on that the made-up data set takes as options.
    """
    facts = spec.data.facts
    classes = min(facts.classes, 2 * BATCH)
    tree = spec.resolved()
    size = facts.image_size
    form = {
        "classes": facts.classes,
        "channels": facts.channels,
        "image_size": size if isinstance(size, int) else list(size),
        "train_images": 2 * BATCH + (classes if spec.data.val_images else 0),
        "test_images": BATCH,
    }
    name = spec.data.task.made_up
    tree["data"] = {"name": name, **{key: form[key] for key in DATASETS.options(name) if key in form}}
    if spec.data.val_images:
        tree["data"]["val_images"] = classes
    schedule = {
        key: value for key, value in tree["recipe"].get("schedule", {}).items() if key != "warmup_epochs"
    }
    tree["recipe"] |= {"epochs": 1, "batch_size": BATCH} | ({"schedule": schedule} if schedule else {})
    return RunSpec.model_validate(tree)
