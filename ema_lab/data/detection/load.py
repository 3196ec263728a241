"""Loading a detection data set by its spec, once per process."""

from pathlib import Path

from ema_lab.data.detection.scenes import SceneSource, SceneSplits
from ema_lab.data.load import build_dataset
from ema_lab.errors import DataError
from ema_lab.specs.run import DataSpec
from ema_lab.wording import number_of


def load_scenes(spec: DataSpec, root: Path) -> SceneSplits:
    """Return the images of a data set; download missing ones into `root`.

    Raises:
        DataError: If the images cannot be loaded or downloaded, or do not match the facts.
    """
    splits, facts, name = build_dataset(spec, root), spec.facts, spec.name
    if not isinstance(splits, SceneSplits):
        expected = f"{SceneSplits.__module__}.{SceneSplits.__name__}"
        raise DataError(f"{name} returned a {type(splits).__name__}, not {expected}")
    if len(splits.names) != facts.classes:
        names = number_of(len(splits.names), "name")
        raise DataError(f"{name}: expected {number_of(facts.classes, 'class')}, found {names}")
    if facts.channels != 3:
        raise DataError(f"{name}: scenes have 3 channels, the facts say {facts.channels}")
    for what, part, count in (
        ("training", splits.train, facts.train_images),
        ("test", splits.test, facts.test_images),
    ):
        if not isinstance(part, SceneSource):
            raise DataError(f"{name}: expected scenes such as ScenesInMemory, found {part!r:.60}")
        if len(part) != count:
            raise DataError(f"{name}: expected {number_of(count, f'{what} image')}, found {len(part)}")
    return splits
