"""The three protocols of evaluation against golden data of the tools that define them."""

import json
from pathlib import Path

import numpy as np
import pytest

from ema_lab.tasks.detection.protocol import coco, ultralytics, visdrone
from ema_lab.tasks.detection.protocol.scene import Scene

GOLDEN = Path(__file__).parent / "golden"
INDEX = json.loads((GOLDEN / "index.json").read_text(encoding="utf-8"))["files"]
SETS = [name for name, entry in INDEX.items() if entry["kind"] == "ap"]
DRONES = [name for name, entry in INDEX.items() if entry["kind"] == "visdrone"]
TIES = (
    "ap_grid_ties.npz"  # the reference sorts unstably: ties move its average by up to 0.005 (a class: 0.03)
)


def scenes_of(golden, *, crowd: bool = False) -> list[Scene]:
    scenes = []
    for number, (height, width) in enumerate(golden["sizes_hw"]):
        mine = golden["targets"][:, 0] == number
        truth = golden["targets"][mine]
        found = golden["detections"][golden["detections"][:, 0] == number]
        ignored = golden["crowd"][mine] == 1 if crowd else np.zeros(len(truth), dtype=bool)
        scenes.append(
            Scene(
                int(height),
                int(width),
                truth[:, 2:],
                truth[:, 1].astype(np.int64),
                ignored,
                found[:, 3:],
                found[:, 2],
                found[:, 1].astype(np.int64),
                np.zeros((0, 4)),
            )
        )
    return scenes


@pytest.mark.parametrize("name", SETS)
class TestUltralytics:
    def test_right_detections(self, name):
        golden = np.load(GOLDEN / name)
        right = [ultralytics.right_detections(scene) for scene in scenes_of(golden)]
        assert np.array_equal(np.concatenate(right), golden["ref_true_positive"])

    def test_precision(self, name):
        golden = np.load(GOLDEN / name)
        found = ultralytics.average_precision(scenes_of(golden))
        tolerance = 0.03 if name == TIES else 1e-12
        assert np.array_equal(found.classes, golden["ref_classes"])
        np.testing.assert_allclose(found.average, golden["ref_ap"], rtol=0, atol=tolerance)
        for key in ("precision", "recall", "f1"):  # read between scores, which the reference keeps in 32 bits
            np.testing.assert_allclose(getattr(found, key), golden[f"ref_{key}"], rtol=0, atol=1e-7)
        mean = golden["ref_mp_mr_map50_map_fitness"]
        np.testing.assert_allclose([found.map50, found.map], mean[2:4], rtol=0, atol=tolerance / 5)
        np.testing.assert_allclose([found.precision.mean(), found.recall.mean()], mean[:2], rtol=0, atol=1e-7)
        fitness = 0.1 * found.map50 + 0.9 * found.map
        assert fitness == pytest.approx(mean[4], abs=tolerance / 5)


def test_coco():
    for most in [100, 300, 500]:
        for name in SETS:
            golden = np.load(GOLDEN / name)
            middle = 100 if most == 500 else 10
            found = coco.evaluate(scenes_of(golden), (1, middle, most))
            keys = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
            expected = golden[f"coco_max{most}_ap_ap50_ap75_small_medium_large"]
            np.testing.assert_allclose(
                [found.totals.get(k, -1) for k in keys], np.nan_to_num(expected, nan=-1), atol=1e-7
            )
            average = golden[f"coco_max{most}_class_ap"]
            mine = [found.per_class.get(cls, np.nan) for cls in range(len(average))]
            np.testing.assert_allclose(mine, average, atol=1e-7)
            recall = [found.totals[f"ar{limit}"] for limit in (1, middle, most)]
            np.testing.assert_allclose(recall, golden[f"coco_max{most}_ar"], atol=1e-7)


def test_crowds_count_neither_way():
    golden = np.load(GOLDEN / "ap_mixed.npz")
    found = coco.evaluate(scenes_of(golden, crowd=True))
    keys = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
    expected = golden["crowd_ap_ap50_ap75_small_medium_large"]
    np.testing.assert_allclose([found.totals[key] for key in keys], expected, atol=1e-7)
    classes = [found.per_class.get(cls, np.nan) for cls in range(5)]
    np.testing.assert_allclose(classes, golden["crowd_class_ap"], atol=1e-7)


@pytest.mark.parametrize("name", DRONES)
class TestVisDrone:
    def corners(self, rows):
        return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], 1)

    def scenes(self, name) -> list[Scene]:
        golden = np.load(GOLDEN / name)
        scenes = []
        for number, (height, width) in enumerate(golden["sizes_hw"]):
            truth, found = golden[f"annotation{number}"], golden[f"detection{number}"]
            region, truth = truth[truth[:, 5] == 0], truth[truth[:, 5] != 0]
            true, seen, aside = map(self.corners, (truth, found, region))
            classes, detected = truth[:, 5].astype(np.int64) - 1, found[:, 5].astype(np.int64) - 1
            scenes.append(
                Scene(
                    int(height),
                    int(width),
                    true,
                    classes,
                    truth[:, 4] == 0,
                    seen,
                    found[:, 4],
                    detected,
                    aside,
                )
            )
        return scenes

    def test_what_lies_in_ignored_regions_is_taken_out(self, name):
        golden = np.load(GOLDEN / name)
        for number, scene in enumerate(self.scenes(name)):
            kept = visdrone.drop_in_ignored_regions(scene)
            truth, found = golden[f"kept_annotation{number}"], golden[f"kept_detection{number}"]
            np.testing.assert_array_equal(kept.boxes, self.corners(truth))
            np.testing.assert_array_equal(kept.classes, truth[:, 5] - 1)
            np.testing.assert_array_equal(kept.ignored, truth[:, 4] == 0)
            np.testing.assert_array_equal(kept.detected, self.corners(found))
            np.testing.assert_array_equal(kept.detected_classes, found[:, 5] - 1)
            np.testing.assert_array_equal(kept.scores, found[:, 4])

    def test_precision_and_recall(self, name):
        golden = np.load(GOLDEN / name)
        found = visdrone.evaluate(self.scenes(name), 10)
        np.testing.assert_allclose(found.average, golden["ap"], atol=1e-10)
        np.testing.assert_allclose(found.recall, golden["ar"], atol=1e-10)
        np.testing.assert_allclose(list(found.summary().values()), golden["summary"], atol=1e-10)
        counted = np.bincount(golden["eval_class"].astype(np.int64), minlength=11)[1:]
        np.testing.assert_array_equal(found.images, counted)
        there = found.average[found.images > 0]
        plain = [there.mean(), there[:, 0].mean(), there[:, 5].mean()]
        np.testing.assert_allclose(plain, golden["summary_unweighted"], atol=1e-10)


def test_a_detection_finds_a_real_box_before_one_that_is_ignored():
    boxes = np.array([[0.0, 0, 10, 10], [0.0, 0, 10, 8]])
    detected = np.array([[0.0, 0, 10, 10], [0.0, 0, 10, 9], [50.0, 50, 60, 60]])
    for ignored, verdicts in (
        ([True, False], [1, -1, 0]),  # the first is nearer to the ignored box, and takes the real one
        ([False, True], [1, -1, 0]),
        ([False, False], [1, 1, 0]),
        ([True, True], [-1, -1, 0]),
    ):
        found = visdrone._verdicts(detected, boxes, np.array(ignored), 0.5)
        assert found.tolist() == verdicts


def one_box(*, wrong: int, ignored: bool = False) -> Scene:
    """Return a scene whose real box is found last, after wrong detections, beside a box that is not found."""
    boxes = np.array([[0.0, 0, 10, 10], [40.0, 40, 60, 60]])[: 1 + ignored]
    detected = np.concatenate([np.full((wrong, 4), [70.0, 70, 90, 90]), boxes[:1]])
    scores = np.linspace(0.9, 0.1, wrong + 1)
    classes, found = np.zeros(len(boxes), dtype=np.int64), np.zeros(wrong + 1, dtype=np.int64)
    aside = np.arange(len(boxes)) == 1
    return Scene(100, 100, boxes, classes, aside, detected, scores, found, np.zeros((0, 4)))


def test_coco_counts_a_hundred_detections_of_a_class():
    there, beyond = (coco.evaluate([one_box(wrong=wrong)]).totals for wrong in (99, 100))
    assert {"ar1", "ar10", "ar100"} <= there.keys()
    assert (there["ar100"], beyond["ar100"]) == (1.0, 0.0)
    assert there["map"] > 0 == beyond["map"]


def test_yolov5_asks_for_no_ignored_box():
    found, alone = (ultralytics.average_precision([one_box(wrong=0, ignored=each)]) for each in (True, False))
    assert found.map == alone.map > 0.99
    assert found.recall.tolist() == [pytest.approx(1.0)]
