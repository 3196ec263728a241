"""Smoke run: the smallest run that passes through every stage, two steps on synthetic images."""

from ema_lab.registry.catalogue import DATASETS
from ema_lab.specs.run import RunSpec

BATCH = 4
OF_LONG_RUNS = ("warmup_epochs", "warmup_from", "per", "span")  # keys of schedules


def smoke_spec(spec: RunSpec) -> RunSpec:
    """Return a run with the same model and two training steps on the task's synthetic data.

    It starts from random weights, so that nothing is downloaded.

    The facts of the original data set (classes, channels, image size) become options of the synthetic one, as
    far as it has such options.
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
    given = tree["recipe"].get("schedule", {})
    schedule = {key: value for key, value in given.items() if key not in OF_LONG_RUNS}
    if spec.model.start is not None and spec.model.start.weights is not None:
        del tree["model"]["start"]  # two steps need no download
    tree["recipe"].get("augment", {}).pop("resolution", None)
    tree["recipe"] |= {"epochs": 1, "batch_size": BATCH} | ({"schedule": schedule} if schedule else {})
    return RunSpec.model_validate(tree)
