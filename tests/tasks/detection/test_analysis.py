"""Analyses of predictions agree with the metrics of the same predictions, and with counts by hand."""

import numpy as np
import pytest
import torch
from test_protocol import GOLDEN, SETS, one_box, scenes_of

from ema_lab.specs.class_names import LITERALS, NAMES, class_names
from ema_lab.specs.run import DataSpec
from ema_lab.tasks.classification.analysis import analyse as analyse_logits
from ema_lab.tasks.classification.metrics import classification_metrics
from ema_lab.tasks.detection.analysis import confusion, in_ignored, matches
from ema_lab.tasks.detection.protocol import coco
from ema_lab.tasks.detection.protocol.coco_table import AREAS, coco_table
from ema_lab.tasks.detection.protocol.scene import Scene


@pytest.mark.parametrize("name", SETS)
def test_the_table_without_torch_is_coco_s(name):
    golden = np.load(GOLDEN / name)
    scenes = scenes_of(golden)
    classes = int(max(golden["targets"][:, 1].max(), golden["detections"][:, 1].max())) + 1
    table, expected = coco_table(scenes, classes), coco.evaluate(scenes)
    average = table.precision.mean(1)  # (thresholds, classes, areas)

    def mean(values):
        return values[values >= 0].mean()

    assert mean(average[..., 0]) == pytest.approx(expected.totals["map"], abs=1e-6)
    assert mean(average[0, :, 0]) == pytest.approx(expected.totals["map50"], abs=1e-6)
    assert mean(table.recall[..., 0]) == pytest.approx(expected.totals["ar100"], abs=1e-6)
    for area in AREAS[1:]:
        if f"map_{area}" in expected.totals:
            found = mean(average[..., AREAS.index(area)])
            assert found == pytest.approx(expected.totals[f"map_{area}"], abs=1e-6)
    for cls, value in expected.per_class.items():
        assert average[:, cls, 0].mean() == pytest.approx(value, abs=1e-6)
        assert average[0, cls, 0] == pytest.approx(golden["coco_max100_class_ap50"][cls], abs=1e-12)


@pytest.mark.parametrize("most", [100, 300, 500])
@pytest.mark.parametrize("name", SETS)
def test_the_table_takes_a_limit_of_detections(name, most):
    golden = np.load(GOLDEN / name)
    average = golden[f"coco_max{most}_class_ap"]
    found = coco_table(scenes_of(golden), len(average), most).precision.mean(1)[..., 0]
    found[found < 0] = np.nan
    np.testing.assert_allclose(found[0], golden[f"coco_max{most}_class_ap50"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.mean(0), average, rtol=0, atol=1e-7)


@pytest.mark.parametrize("most", [100, 300, 500])
def test_detections_beyond_the_limit_do_not_count(most):
    """No image of the golden sets has so many of one class."""
    there, beyond = (coco_table([one_box(wrong=wrong)], 1, most) for wrong in (most - 1, most))
    assert (there.recall[0, 0, 0], beyond.recall[0, 0, 0]) == (1.0, 0.0)
    assert there.precision[0, :, 0, 0].mean() > 0 == beyond.precision[0, :, 0, 0].mean()


def test_crowds_and_images_without_detections_are_coco_s_too():
    golden = np.load(GOLDEN / "ap_mixed.npz")
    scenes = scenes_of(golden, crowd=True)
    table = coco_table(scenes, 5)
    average = table.precision.mean(1)[..., 0]
    expected = golden["crowd_ap_ap50_ap75_small_medium_large"]
    assert average[average >= 0].mean() == pytest.approx(expected[0], abs=1e-6)
    np.testing.assert_allclose(np.where(average[0] < 0, np.nan, average[0]), golden["crowd_class_ap50"])
    silent = [scene_with(boxes=[[0, 0, 9, 9]], classes=[1])]
    assert coco_table(silent, 2).precision[..., 1, 0].max() == 0


def scene_with(*, boxes=(), classes=(), ignored=None, detected=(), scores=(), found=(), regions=()):
    def corners(rows):
        return np.array(rows, dtype=float).reshape(-1, 4)

    aside = np.zeros(len(classes), dtype=bool) if ignored is None else np.array(ignored)
    return Scene(
        100, 100, corners(boxes), np.array(classes, dtype=np.int64), aside, corners(detected),
        np.array(scores, dtype=float), np.array(found, dtype=np.int64), corners(regions),
    )  # fmt: skip


BOX, FAR, OTHER = [0, 0, 10, 10], [50, 50, 60, 60], [80, 0, 90, 10]


def test_confusion_counts_hits_swaps_misses_and_false_alarms():
    scene = scene_with(
        boxes=[BOX, FAR, OTHER],
        classes=[0, 1, 1],
        detected=[BOX, FAR, BOX, [30, 30, 40, 40], OTHER],
        scores=[0.9, 0.8, 0.7, 0.6, 0.1],
        found=[0, 0, 1, 1, 1],
    )
    expected = [[1, 0, 0], [1, 0, 1], [0, 2, 0]]
    assert confusion([scene], 2, score=0.25, iou=0.5).tolist() == expected
    everything = confusion([scene], 2, score=0.05, iou=0.5)
    assert everything.tolist() == [[1, 0, 0], [1, 1, 0], [0, 2, 0]]


def test_what_is_ignored_counts_neither_way():
    scene = scene_with(
        boxes=[BOX, FAR],
        classes=[0, 1],
        ignored=[True, False],
        detected=[BOX, OTHER, FAR],
        scores=[0.9, 0.8, 0.7],
        found=[0, 1, 1],
        regions=[[70, 0, 100, 20]],
    )
    assert confusion([scene], 2, score=0.25, iou=0.5).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert in_ignored(scene, np.arange(3), 0.5).tolist() == [True, True, False]


def test_a_detection_takes_boxes_of_its_class_alone_where_asked():
    scene = scene_with(boxes=[BOX], classes=[0], detected=[BOX, BOX], scores=[0.9, 0.8], found=[1, 0])
    assert matches(scene, np.arange(2), 0.5) == {0: 0}
    assert matches(scene, np.arange(2), 0.5, same_class=True) == {1: 0}


def test_classes_of_logits_average_to_the_metrics():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 7)).astype(np.float32), random.integers(7, size=50)
    logits[:5] = 1.0  # ties
    found = analyse_logits("classes", {"logits": logits, "labels": labels}, 7, {})
    expected = classification_metrics(torch.from_numpy(logits), torch.from_numpy(labels))
    for name, value in expected.items():
        assert np.average(found[name], weights=found["count"]) == pytest.approx(value, abs=1e-5)
    counts = np.array(analyse_logits("confusion", {"logits": logits, "labels": labels}, 7, {})["counts"])
    assert counts.sum(1).tolist() == found["count"]
    assert 100 * counts.trace() / 50 == pytest.approx(expected["top1"])


def test_known_classes_have_a_name_each():
    for name in ("digits", "digit_scenes", "trees", "coco", "visdrone", "voc", "cifar10", "fashion_mnist"):
        data = DataSpec.model_validate({"name": name})
        names = class_names(data)
        assert len(names) == data.facts.classes == len(set(names))
        assert (name in NAMES) != (name in LITERALS)
    assert class_names(DataSpec.model_validate({"name": "visdrone"}))[3] == "car"
    assert class_names(DataSpec.model_validate({"name": "synthetic_scenes", "classes": 3})) == ("0", "1", "2")
    own = DataSpec.model_validate({"name": "voc", "classes": 2, "names": ["a", "b"]})
    assert class_names(own) == ("a", "b")
