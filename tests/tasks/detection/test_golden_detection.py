"""Detection against golden data of the reference: equal matches, loss, gradients, decoding, suppression."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ema_lab.tasks.detection.assignment import assign
from ema_lab.tasks.detection.boxes import corners_of, paired_overlap
from ema_lab.tasks.detection.decode import SuppressionSpec, decode, suppress
from ema_lab.tasks.detection.loss import LossSpec, detection_loss, objectness_goal, predicted_corners

GOLDEN = Path(__file__).parent / "golden"
INDEX: dict[str, Any] = json.loads((GOLDEN / "index.json").read_text(encoding="utf-8"))["files"]
CLOSE = {"rtol": 0, "atol": 1e-10}


def arrays(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / name) as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files if stored[key].dtype.kind in "ifb"}


def named(kind: str) -> list[str]:
    return [name for name, entry in INDEX.items() if entry["kind"] == kind]


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_overlap_and_its_gradient(kind):
    golden = arrays("iou.npz")
    predicted = golden["pred_xywh"].requires_grad_()
    found = paired_overlap(corners_of(predicted), corners_of(golden["target_xywh"]), kind)
    torch.testing.assert_close(found, golden[kind], **CLOSE)
    torch.testing.assert_close(found, golden[f"{kind}_from_xyxy"], **CLOSE)
    found.sum().backward()
    torch.testing.assert_close(predicted.grad, golden[f"grad_{kind}"], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", named("loss"))
class TestLoss:
    def spec(self, name: str) -> LossSpec:
        hyp = INDEX[name]["hyp_after_scaling"]
        return LossSpec(
            hyp["box"], hyp["obj"], hyp["cls"], hyp["cls_pw"], hyp["obj_pw"], hyp["anchor_t"],
            hyp["label_smoothing"], hyp["fl_gamma"],
        )  # fmt: skip

    def test_matches_are_the_same_in_the_same_order(self, name):
        golden = arrays(name)
        for head in range(INDEX[name]["heads"]):
            raw = golden[f"logits{head}"]
            matches = assign(golden["targets"], golden["anchors_grid"][head], tuple(raw.shape[2:4]))
            places = [matches.image, matches.anchor, matches.row, matches.column, matches.cls]
            assert torch.equal(torch.stack(places, 1), golden[f"match{head}"])
            torch.testing.assert_close(matches.box, golden[f"match_box{head}"], **CLOSE)
            assert torch.equal(matches.size, golden[f"match_anchor{head}"])
            picked = raw[matches.image, matches.anchor, matches.row, matches.column]
            overlap = paired_overlap(predicted_corners(picked, matches), corners_of(matches.box))
            goal = objectness_goal(raw, matches, overlap)
            torch.testing.assert_close(goal, golden[f"objectness_target{head}"], **CLOSE)

    def test_loss_and_gradients_are_the_same(self, name):
        golden = arrays(name)
        count = INDEX[name]["heads"]
        heads = [golden[f"logits{head}"].requires_grad_() for head in range(count)]
        loss = detection_loss(heads, golden["targets"], list(golden["anchors_grid"]), self.spec(name))
        torch.testing.assert_close(loss.total, golden["loss_total"], **CLOSE)
        terms = torch.cat([loss.box, loss.objectness, loss.classes])
        order = golden["loss_box_obj_cls"]
        torch.testing.assert_close(terms.detach(), order, **CLOSE)
        loss.total.backward()
        for head in range(count):
            torch.testing.assert_close(heads[head].grad, golden[f"grad{head}"], **CLOSE)


@pytest.mark.parametrize("name", named("decode"))
def test_decoding(name):
    golden, entry = arrays(name), INDEX[name]
    channels = 5 + entry["nc"]
    heads = [
        golden[f"conv_output{i}"].unflatten(1, (3, channels)).permute(0, 1, 3, 4, 2)
        for i in range(len(entry["strides"]))
    ]
    anchors = [
        torch.tensor(pixels, dtype=torch.float64).view(3, 2) / stride
        for pixels, stride in zip(entry["anchors_px"], entry["strides"], strict=True)
    ]
    found = decode(heads, anchors, entry["strides"])
    torch.testing.assert_close(found, golden["decoded_xywh_obj_cls"], **CLOSE)


@pytest.mark.parametrize("case", INDEX["nms.npz"]["cases"])
def test_suppression(case):
    golden, settings = arrays("nms.npz"), INDEX["nms.npz"]["cases"][case]
    spec = SuppressionSpec(
        settings["conf_thres"], settings["iou_thres"], settings.get("multi_label", False),
        settings.get("agnostic", False), settings.get("max_det", 300),
    )  # fmt: skip
    for number, predictions in enumerate(golden[f"{case}_predictions"]):
        assert torch.equal(suppress(predictions, spec), golden[f"{case}_out{number}"])


def test_of_too_many_candidates_the_best_enter_suppression():
    boxes = torch.tensor([[10.0 + 20 * place, 10, 8, 8] for place in range(4)])  # apart
    scores = torch.tensor([0.3, 0.9, 0.5, 0.7])[:, None]
    predictions = torch.cat([boxes, scores, torch.ones(4, 1)], 1)
    kept = suppress(predictions, SuppressionSpec(candidates=2))
    assert kept[:, 4].tolist() == pytest.approx([0.9, 0.7])
