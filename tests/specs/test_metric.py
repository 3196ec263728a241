"""Labels of metrics: unit, protocol, and words before the name."""

import pytest

from ema_lab.specs.metric import Metric
from ema_lab.specs.task import task_description

TOP1, MAP, LOSS = Metric("Top-1", "%", 1), Metric("AP50", "%", 1, "coco"), Metric("Loss", "", -1)


@pytest.mark.parametrize(
    ("metric", "label", "header", "prefixed"),
    [
        (TOP1, "Top-1", "Top-1 (%)", "Val top-1 (%)"),
        (MAP, "AP50 (coco)", "AP50 (coco, %)", "Val AP50 (coco, %)"),
        (LOSS, "Loss", "Loss", "Val loss"),
    ],
)
def test_a_header_has_protocol_and_unit(metric, label, header, prefixed):
    assert (metric.label, metric.header) == (label, header)
    assert metric.prefixed("Val").header == prefixed


def test_every_metric_of_detection_names_its_protocol():
    metrics = task_description("detection").metrics
    assert {metric.protocol for metric in metrics.values()} == {"coco", "ultralytics-v6", "visdrone-toolkit"}
    assert len({metric.header for metric in metrics.values()}) == len(metrics)
    assert task_description("detection").curve_label("val_map") == "Val mAP50:95 (coco, %)"
