"""Judgement of stored detections for a gallery."""

import numpy as np

from ema_lab.tasks.detection.protocol.scene import Scene
from ema_lab.workflow.look.scene_gallery import judged_boxes, truth_boxes

NAMES = ("cat", "dog")


def scene():
    def corners(*rows):
        return np.array(rows, dtype=float).reshape(-1, 4)

    box, far, crowd = [0, 0, 10, 10], [50, 50, 60, 60], [80, 0, 90, 10]
    return Scene(
        height=100,
        width=100,
        boxes=corners(box, far, crowd),
        classes=np.array([0, 1, 1]),
        ignored=np.array([False, False, True]),
        detected=corners(box, box, crowd, far),
        scores=np.array([0.9, 0.8, 0.7, 0.1]),
        detected_classes=np.array([1, 0, 0, 1]),
        ignored_regions=corners([0, 90, 10, 100]),
    )


def test_a_hit_has_the_class_of_its_box_and_what_lies_in_crowds_is_left_out():
    found = judged_boxes(scene(), NAMES, score=0.25, iou=0.5)
    assert [(box.kind, box.label) for box in found] == [
        ("miss", "dog"),
        ("hit", "cat: 80"),
        ("false alarm", "dog: 90"),
    ]
    low = judged_boxes(scene(), NAMES, score=0.05, iou=0.5)
    assert [box.kind for box in low] == ["hit", "hit", "false alarm"]


def test_the_truth_marks_crowds_and_regions_as_ignored():
    boxes = truth_boxes(scene(), NAMES)
    assert [box.kind for box in boxes] == ["truth", "truth", "ignored", "ignored"]
    assert boxes[-1].corners == (0, 90, 10, 100)
