"""Gates and Grad-CAM of small models."""

import pytest
import torch

from ema_lab.attention.se import SE, bottleneck_gate
from ema_lab.data.module import ImageData
from ema_lab.errors import SpecError
from ema_lab.execution.executor import execute
from ema_lab.gallery.maps import (
    attention_names,
    detector_cam,
    gate_map,
    gate_of,
    gate_ratio,
    grad_cam,
    recorded,
)
from ema_lab.models.cifar_resnet import CifarResNet
from ema_lab.models.insertion import insert
from ema_lab.models.yolov5 import yolov5
from ema_lab.one_run.model import load_model
from ema_lab.one_run.pipeline import train_run
from ema_lab.store.store import RunStore


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = CifarResNet(classes=4, channels=1, depth=8)
    insert(made, made_last_stage(made), SE(64, reduction=4))
    return made.eval()


def made_last_stage(model):
    return [name for name, child in model.named_children() if isinstance(child, torch.nn.Sequential)][-1]


def test_the_gate_of_se_is_its_sigmoid():
    torch.manual_seed(0)
    module, x = SE(8, reduction=2).double(), torch.randn(2, 8, 5, 5, dtype=torch.float64)
    with torch.no_grad(), recorded(module) as calls:
        module(x)
        gate = bottleneck_gate(x.mean((2, 3)), module.squeeze, module.excite).expand_as(x)
    torch.testing.assert_close(gate_ratio(*calls[0]), gate, rtol=1e-12, atol=0)


def test_a_gate_of_one_half_is_one_half_everywhere_but_where_nothing_comes_in():
    x = torch.ones(1, 3, 2, 2)
    x[..., 0, 0] = 0
    found = gate_map(x, x / 2)
    assert found[0, 0, 0].isnan()
    assert found.flatten()[1:].tolist() == [0.5, 0.5, 0.5]


def test_the_gate_of_of_a_model_lies_between_zero_and_one(model):
    gate = gate_of(model, torch.randn(3, 1, 16, 16))
    assert len(attention_names(model)) == 1
    assert gate.shape == (3, 4, 4)
    assert ((gate > 0) & (gate < 1)).all()


def test_any_module_that_keeps_its_shape_has_a_gate_and_others_are_refused(model):
    name = attention_names(model)[0]
    assert gate_of(model, torch.randn(2, 1, 16, 16), name).shape == (2, 4, 4)
    assert gate_of(model, torch.randn(2, 1, 16, 16), "nowhere") is None
    with pytest.raises(SpecError, match="a gate keeps"):
        gate_of(model, torch.randn(2, 1, 16, 16), "conv1")


def test_grad_cam_has_the_size_of_the_images_and_its_range(model):
    cam = grad_cam(model, torch.randn(2, 1, 16, 16), torch.tensor([0, 3]), made_last_stage(model))
    assert cam.shape == (2, 16, 16)
    assert cam.min() >= 0
    assert cam.max() <= 1


def test_an_unknown_layer_is_answered_with_those_there_are(model):
    with pytest.raises(SpecError, match=r"--target-layer: .*stage9"):
        grad_cam(model, torch.randn(1, 1, 16, 16), torch.tensor([0]), "stage9")


@pytest.mark.slow
def test_grad_cam_of_a_trained_model_depends_on_the_class_and_on_the_variant(make_spec, tmp_path):
    recipe = {"epochs": 1, "batch_size": 64, "augment": {}}
    specs = [make_spec(name, data={"name": "digits"}, recipe=recipe) for name in ("none", "se")]
    store = RunStore(tmp_path / "runs")
    execute(specs, train=train_run, store=store)
    data = ImageData(specs[0], tmp_path)
    pixels, labels = data.splits.test.whole(torch.arange(4)), data.splits.test.labels[:4]
    maps = []
    for spec in specs:
        model, images = load_model(spec.run_id, store), data.normalised(pixels)
        cam = grad_cam(model, images, labels, "layer3.2")
        assert cam.shape == (4, *pixels.shape[2:])
        assert cam.min() >= 0
        assert cam.max() == pytest.approx(1, abs=1e-3)
        assert abs(cam - grad_cam(model, images, (labels + 1) % 10, "layer3.2")).max() > 0.1
        maps.append(cam)
    assert abs(maps[0] - maps[1]).max() > 0.1


def test_grad_cam_of_a_detector_explains_its_scores():
    torch.manual_seed(0)
    detector = yolov5(classes=2, channels=3, architecture="yolov5n").module.eval()
    images = torch.rand(2, 3, 64, 64)
    strict, lax = (detector_cam(detector, images, score, "top_down.3") for score in (0.99, 0.0))
    assert strict.shape == (2, 64, 64)
    assert 0 <= strict.min() <= strict.max() <= 1
    assert abs(strict - lax).max() > 0.01
    with pytest.raises(SpecError, match=r"no layer is named 'top_down\.9'"):
        detector_cam(detector, images, 0.5, "top_down.9")


class Finder(torch.nn.Module):
    """A detector of its own kind: one box per bright image, whose score is the mean of a convolution."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 1, 3, padding=1)

    def detections(self, images, suppression):
        scores = self.conv(images).flatten(1).mean(1).sigmoid()
        rows = [torch.cat([score.new_zeros(4), score[None], score.new_zeros(1)])[None] for score in scores]
        return [row[: int(image.mean() > 0.5)] for row, image in zip(rows, images, strict=True)]


def test_an_image_without_a_detection_has_a_map_of_zeros():
    torch.manual_seed(0)
    images = torch.stack([torch.zeros(3, 16, 16), torch.rand(3, 16, 16) / 2 + 0.5])
    maps = detector_cam(Finder().eval(), images, 0.25, "conv")
    assert maps.shape == (2, 16, 16)
    assert maps[0].max() == 0
