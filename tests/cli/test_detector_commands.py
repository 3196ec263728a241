"""Commands on torchvision's detectors: checked, counted, tried, trained and reported like any other model."""

import json
from pathlib import Path

import pytest
from tiny import TINY_DETECTION

from ema_lab.store.store import RunStore

ABLATION = """\
name: heads
base:
  model:
    detector: {name: fcos, neck: 64}
    backbone: shufflenet_v2_x0_5
    placement: {stages: [2], blocks: first}
  data: {name: synthetic_scenes, train_images: 8, test_images: 4}
  recipe: {epochs: 1, batch_size: 4, optimizer: {name: adamw, lr: 0.001}}
seeds: [0]
baseline: none
variants:
  none: {}
  eca: {model.attention: eca}
  faster: {model.detector: {name: fasterrcnn, neck: 64}}
"""
HERE = ("--device", "cpu", "--workers", "1")


@pytest.fixture
def heads(folder):
    Path("ablations/heads.yaml").write_text(ABLATION)
    return folder


@pytest.mark.slow
def test_detectors_are_checked_counted_and_tried(heads, command):
    planned = command("plan", "heads", "--check")
    assert planned.code == 0, planned.err
    counted = command("cost", "heads", "--json")
    assert counted.code == 0, counted.err
    none, eca, faster = json.loads(counted.out)
    assert eca["delta_parameters"] > 0
    assert faster["parameters"] > none["parameters"]
    layers = command("cost", "heads", "--layers", "--only", "variant=eca", "--json")
    assert json.loads(layers.out)[0]["layer"] == "backbone.body.stage3.0.attention"
    assert command("run", "heads", "--smoke", *HERE).code == 0


@pytest.mark.slow
def test_detectors_are_trained_evaluated_and_reported(heads, command):
    trained = command("run", "heads", *HERE)
    assert trained.code == 0, trained.err
    rows = json.loads(command("status", "heads", "--json").out)
    assert all(0 <= row["map"] <= 100 for row in rows)
    record = RunStore("runs").record(rows[0]["run_id"])
    evaluated = command("eval", rows[0]["run_id"], "--device", "cpu", "--json")
    assert json.loads(evaluated.out)[0]["map"] == record.metrics["map"]
    reported = command("report", "heads", "--out", "out")
    assert reported.code == 0, reported.err


def test_detectors_costs_are_printed_as_yolov5_prints_them(heads, command):
    text = (
        ABLATION[: ABLATION.index("base:")]
        + "base:\n  model: {backbone: yolov5n, placement: {stages: [3]}}\n"
    )
    text += ABLATION[ABLATION.index("  data:") :].split("  faster")[0]
    Path("ablations/heads.yaml").write_text(
        text.replace("synthetic_scenes", "coco, image_size: 640").replace(
            ", train_images: 8, test_images: 4", ""
        )
    )
    none, eca = json.loads(command("cost", "heads", "--macs", "thop", "--json").out)
    assert (none["parameters"], eca["delta_parameters"]) == (1_872_157, 5)
    assert none["gflops_fused"] < none["gflops"]
    assert 0 < eca["delta_gflops"] < 0.01
    refused = command("cost", "heads", "--macs", "thop", "--layers")
    assert (refused.code, "does not go with --layers" in refused.err) == (2, True)


def test_a_detector_is_listed_and_shown(heads, command):
    listed = command("list", "detector", "--json")
    assert [row["name"] for row in json.loads(listed.out)] == ["fasterrcnn", "fcos", "retinanet"]
    shown = command("show", "fcos")
    assert (shown.code, "Channels of the pyramid, a multiple of 32" in shown.out) == (0, True), shown.err


def test_a_classifier_without_a_detector_gets_a_hint(heads, command):
    text = ABLATION.replace("    detector: {name: fcos, neck: 64}\n", "")
    Path("ablations/heads.yaml").write_text(text)
    answer = command("plan", "heads", "--check", "--only", "variant=none")
    assert (answer.code, "model.detector: fcos" in answer.err) == (2, True), answer.err


OWN = """\
import torch
from torch import nn


class Raw(nn.Module):
    \"\"\"Raw heads of one scale.\"\"\"

    strides = (8,)

    def __init__(self, classes: int, channels: int):
        super().__init__()
        self.head = nn.Conv2d(channels, 5 + classes, 8, 8)
        self.register_buffer("anchors", torch.tensor([[[10.0, 10.0]]]))

    def forward(self, x):
        return (self.head(x).permute(0, 2, 3, 1)[:, None],)
"""


def test_a_users_own_detector_is_held_to_the_contract(folder, command):
    Path("own_raw_detector.py").write_text(OWN)
    good = command("check", "own_raw_detector:Raw", "--kind", "detector")
    assert (good.code, "own_raw_detector:Raw (detector): 15 passed" in good.err) == (0, True), (
        good.err + good.out
    )
    guessed = command("check", "own_raw_detector:Raw")
    assert (guessed.code, "--kind detector" in guessed.out.replace("\n", " ")) == (1, True), guessed.out


HEAD = "{detector: 'my_head:my_head', backbone: resnet18, placement: {after: block_end}}"
YOLO = "{backbone: yolov5n, placement: {stages: [3, 4]}}"


def test_a_new_detector_can_be_named_in_an_ablation_at_once(folder, command):
    written = command("new", "detector", "my_head")
    assert (written.code, written.out) == (0, "my_head.py\n")
    assert HEAD in written.err
    assert "width: int (default 64)" in command("show", "detector", "my_head:my_head").out
    too_many = HEAD.replace("'my_head:my_head'", "{name: 'my_head:my_head', scales: 5}")
    Path("ablations/tiny.yaml").write_text(TINY_DETECTION.replace(YOLO, too_many))
    refused = command("plan", "tiny", "--check")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "scales must be at most 4, the backbone's stages, got 5" in refused.err


@pytest.mark.slow
def test_a_new_detector_keeps_the_contract_and_trains(folder, command):
    command("new", "detector", "my_head")
    checked = command("check", "my_head:my_head", "--kind", "detector")
    assert checked.code == 0, checked.err
    Path("ablations/tiny.yaml").write_text(TINY_DETECTION.replace(YOLO, HEAD))
    trained = command("run", "tiny", "--smoke", *HERE)
    assert trained.code == 0, trained.err
