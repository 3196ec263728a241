"""Metrics of drawn images are those of the protocol on a list of scenes in which images repeat."""

import json
from collections.abc import Mapping

import numpy as np
import pytest
from predicted import ABLATIONS, predicted_boxes

from ema_lab.ablation.ablation import load_ablation
from ema_lab.statistics.images import image_draws
from ema_lab.tasks.detection import analysis, drawn
from ema_lab.tasks.detection.drawn import value_of
from ema_lab.tasks.detection.metrics import TASK
from ema_lab.tasks.detection.protocol import ultralytics, visdrone
from ema_lab.tasks.detection.protocol.coco_table import AREAS, coco_table
from ema_lab.tasks.detection.protocol.scene import Scene
from ema_lab.tasks.task import stored_metrics

CLASSES = 4  # the last of which no image has
COCO = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "ar100")


def random_scene(random):
    """Return an image of boxes of all sizes, some of them ignored, and of detections near and far."""
    count = random.integers(0, 6)
    corner, size = random.uniform(0, 150, (count, 2)), random.choice([12, 40, 110], (count, 1))
    boxes = np.hstack([corner, corner + size * random.uniform(0.7, 1.4, (count, 2))])
    near = np.repeat(boxes, 3, axis=0) + random.normal(0, 4, (3 * count, 4))
    far = random.uniform(0, 100, (3, 2))
    detected = np.vstack([near, np.hstack([far, far + random.uniform(10, 120, (3, 2))])])
    scores = -np.sort(-random.random(len(detected)))
    regions = np.array([[0.0, 0, 60, 60]]) if random.random() < 0.3 else np.zeros((0, 4))
    return Scene(
        height=300,
        width=300,
        boxes=boxes,
        classes=random.integers(0, CLASSES - 1, count),
        ignored=random.random(count) < 0.15,
        detected=detected[random.permutation(len(detected))],
        scores=scores,
        detected_classes=random.integers(0, CLASSES, len(detected)),
        ignored_regions=regions,
    )


def metrics_of(scenes) -> Mapping[str, float]:
    """Return every metric of a list of scenes by its protocol, without any matching of ours."""
    table = coco_table(scenes, CLASSES)
    parts = {"map": table.precision[..., 0], "ar100": table.recall[..., 0]}
    parts |= {name: table.precision[index, :, :, 0] for name, index in (("map50", 0), ("map75", 5))}
    parts |= {f"map_{area}": table.precision[..., AREAS.index(area)] for area in AREAS[1:]}
    found = {name: 100 * values[values >= 0].mean() for name, values in parts.items()}
    theirs = ultralytics.average_precision(scenes)
    found |= {"map_ultralytics": 100 * theirs.map, "map50_ultralytics": 100 * theirs.map50}
    found |= {"precision": 100 * theirs.precision.mean(), "recall": 100 * theirs.recall.mean()}
    toolkit = visdrone.evaluate(scenes, CLASSES).summary()
    return found | {f"{name}_visdrone": toolkit[name] for name in ("ap", "ap50", "ap75", "ar500")}


@pytest.fixture(scope="module")
def scenes():
    random = np.random.default_rng(0)
    return [random_scene(random) for _ in range(25)]


@pytest.fixture(scope="module")
def wanted(scenes):
    """Metrics of three draws, by the protocols."""
    return [metrics_of(list(np.repeat(scenes, counts))) for counts in image_draws(len(scenes), 3)]


@pytest.mark.parametrize("metric", TASK["metrics"])
def test_a_draw_has_the_protocols_value(scenes, wanted, metric):
    value = value_of(scenes, CLASSES, metric)
    found = [value(counts) for counts in image_draws(len(scenes), 3)]
    assert found == pytest.approx([each[metric] for each in wanted], abs=1e-4)
    assert len(set(found)) == 3


@pytest.mark.parametrize("metric", [*COCO, "map_ultralytics", "ap_visdrone"])
def test_a_draw_without_boxes_has_no_value(scenes, metric):
    empty = [number for number, scene in enumerate(scenes) if not len(scene.boxes)]
    counts = np.zeros(len(scenes), dtype=np.int64)
    counts[empty] = 1
    assert empty
    assert np.isnan(value_of(scenes, CLASSES, metric)(counts))


@pytest.fixture
def few_draws(monkeypatch):
    """Let an analysis take 20 draws, to save time."""
    monkeypatch.setattr(drawn, "image_draws", lambda images: image_draws(images, 20))


@pytest.fixture
def predicted(tmp_path):
    """A run spec and its made-up detections."""
    path = tmp_path / "predicted.yaml"
    path.write_text(ABLATIONS["detection"])
    spec = load_ablation(path).runs()[0]
    return spec, predicted_boxes(spec)


def test_the_analysis_has_the_records_value_and_plain_data(few_draws, predicted):
    spec, arrays = predicted
    record = stored_metrics(spec, arrays)
    for metric in ("map", "map50_ultralytics", "ap_visdrone"):
        found = analysis.analyse("images", arrays, 3, {"metric": metric})
        assert found["value"] == pytest.approx(record[metric], abs=1e-3)
        assert (found["images"], found["right"], len(found["drawn"])) == (20, None, 20)
        assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_order_of_stored_images_changes_nothing(few_draws, predicted):
    _, arrays = predicted
    turned = {**arrays, "indices": arrays["indices"][::-1], "sizes": arrays["sizes"][::-1]}
    first, second = (
        analysis.analyse("images", each, 3, {"metric": "map50_ultralytics"}) for each in (arrays, turned)
    )
    assert first == second
