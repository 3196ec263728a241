"""Classification: metrics of tied and NaN logits, and the source hash of its code."""

import pytest
import torch

from ema_lab.errors import SpecError
from ema_lab.registry.signature import source_file
from ema_lab.specs.task import task_description
from ema_lab.store import source
from ema_lab.tasks.classification.metrics import topk_accuracy
from ema_lab.tasks.task import check_run, stored_metrics


def test_of_equal_logits_the_lower_class_comes_first():
    logits = torch.tensor([[2.0, 2.0, 1.0], [0.0, 0.0, 0.0]]).repeat_interleave(3, dim=0)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    ranks = [0, 1, 2, 0, 1, 2]
    for k in (1, 2, 3):
        assert topk_accuracy(logits, labels, k) == pytest.approx(100 * sum(r < k for r in ranks) / 6)


def test_without_equal_logits_the_order_is_that_of_topk():
    logits = torch.randn(500, 20, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(500) % 20
    for k in (1, 5):
        hits = (logits.topk(k, dim=1).indices == labels[:, None]).any(dim=1)
        assert topk_accuracy(logits, labels, k) == 100 * hits.double().mean().item()


def test_a_logit_that_is_no_number_is_no_hit():
    logits = torch.tensor([[float("nan"), 1.0], [float("nan"), 1.0]])
    assert topk_accuracy(logits, torch.tensor([0, 1]), 1) == 0


def test_metrics_are_those_of_the_description_and_come_from_arrays(make_spec):
    spec = make_spec()
    arrays = {"logits": torch.eye(10).numpy(), "labels": torch.arange(10).numpy()}
    metrics = stored_metrics(spec, arrays)
    assert list(metrics) == list(spec.data.task.metrics)
    assert (metrics["top1"], metrics["top5"]) == (100, 100)


def test_no_hash_holds_the_module_of_the_metrics():
    code, metrics = (source_file(f"ema_lab.tasks.classification.{name}") for name in ("task", "metrics"))
    files = {file.path for file in source.Sources()._task("classification")}
    assert code in files
    assert metrics not in files
    assert task_description("classification").code.startswith("ema_lab.tasks.classification.task:")


def test_a_detector_cannot_be_trained_to_classify(make_spec):
    with pytest.raises(SpecError, match="yolov5s is a detector: it is here to be counted"):
        check_run(make_spec(model={"backbone": "yolov5s"}))


def test_a_model_of_other_outputs_is_refused(make_spec, tmp_path, monkeypatch):
    (tmp_path / "two_heads.py").write_text(
        "from torch import nn\n"
        "def two(classes, channels):\n"
        "    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=r"must give one score per class.*got \(2, 4\)"):
        check_run(make_spec(model={"backbone": "two_heads:two"}))
