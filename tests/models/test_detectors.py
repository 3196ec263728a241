"""torchvision's detectors on any backbone: names and numbers are theirs, pairing and placement ours."""

import copy
import pickle

import pytest
import torch
import torchvision
from pydantic import ValidationError
from torch import nn
from torchvision.models.detection import (
    FCOS,
    FasterRCNN,
    RetinaNet,
    fasterrcnn_resnet50_fpn,
    fcos_resnet50_fpn,
    retinanet_resnet50_fpn,
)
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from ema_lab.errors import SpecError
from ema_lab.models.backbone import Backbone, Block
from ema_lab.models.build import build_model, sites_of
from ema_lab.models.features import features_of
from ema_lab.models.torchvision_detectors import _AsTheyAre
from ema_lab.profiling.measure import measure_cost
from ema_lab.registry.catalogue import DETECTOR_HEADS
from ema_lab.specs.detection import SuppressionForm
from ema_lab.specs.run import RunSpec

THEIRS = {
    "fasterrcnn": fasterrcnn_resnet50_fpn,
    "fcos": fcos_resnet50_fpn,
    "retinanet": retinanet_resnet50_fpn,
}
TARGETS = torch.tensor(
    [[0, 1, 0.5, 0.5, 0.5, 0.25], [0, 0, 0.25, 0.25, 0.25, 0.25], [1, 1, 0.75, 0.5, 0.5, 0.5]]
)


def spec_of(
    detector="fcos", backbone="resnet18", attention="none", *, model=None, seed=0, **recipe
) -> RunSpec:
    tree = {
        "model": {"detector": detector, "backbone": backbone, "attention": attention, **(model or {})},
        "data": {"name": "synthetic_scenes"},
        "recipe": {"epochs": 1, "batch_size": 4, "optimizer": {"name": "adamw", "lr": 0.001}, **recipe},
        "seed": seed,
    }
    return RunSpec.model_validate(tree)


def narrow(detector: str, attention="none", **keys) -> RunSpec:
    """A small detector on a small backbone, for what does not depend on its size."""
    return spec_of({"name": detector, "neck": 64}, "shufflenet_v2_x0_5", attention, **keys)


def images(count=2, side=64):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(
    params=["fcos", *(pytest.param(name, marks=pytest.mark.slow) for name in THEIRS if name != "fcos")]
)
def detector(request):
    return request.param


def test_every_shipped_detector_is_tested_here():
    shipped = [name for name in DETECTOR_HEADS if not DETECTOR_HEADS[name].distribution]
    assert shipped == list(THEIRS)


def their_resnet18(name: str) -> nn.Module:
    """Build torchvision's detector from torchvision's parts alone."""
    stages, extra = ([1, 2, 3, 4], None) if name == "fasterrcnn" else ([2, 3, 4], LastLevelP6P7(256, 256))
    options = {"weights": None, "norm_layer": nn.BatchNorm2d, "trainable_layers": 5}
    body = resnet_fpn_backbone(
        backbone_name="resnet18", returned_layers=stages, extra_blocks=extra, **options
    )
    kind = {"fasterrcnn": FasterRCNN, "fcos": FCOS, "retinanet": RetinaNet}[name]
    sizes = {"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "min_size": 64, "max_size": 64}
    return kind(body, 2 + (name == "fasterrcnn"), **sizes)


def test_losses_and_detections_are_those_of_torchvision(detector):
    ours, theirs = build_model(spec_of(detector)), their_resnet18(detector)
    theirs.load_state_dict(ours.state_dict())
    # Its resizing draws a size from a list of one, and so shifts the draws of proposals to learn from.
    theirs.transform.torch_choice = lambda sizes: sizes[0]
    first = int(detector == "fasterrcnn")
    wanted = [
        {
            "boxes": torch.tensor([[16.0, 24, 48, 40], [8, 8, 24, 24]]),
            "labels": torch.tensor([1, 0]) + first,
        },
        {"boxes": torch.tensor([[32.0, 16, 64, 48]]), "labels": torch.tensor([1]) + first},
    ]
    torch.manual_seed(0)
    found = ours.train().losses(images(), TARGETS)
    torch.manual_seed(0)
    expected = theirs.train()(list(images()), wanted)
    assert found.keys() == expected.keys()
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term)
    form = SuppressionForm(confidence=0.001, iou=0.5, most=100)
    holder = theirs.roi_heads if first else theirs
    holder.score_thresh, holder.nms_thresh, holder.detections_per_img = form.confidence, form.iou, form.most
    with torch.no_grad():
        rows, expected = ours.eval().detections(images(), form), theirs.eval()(list(images()))
    assert sum(map(len, rows)) > 0
    for mine, one in zip(rows, expected, strict=True):
        torch.testing.assert_close(mine[:, :4], one["boxes"])
        torch.testing.assert_close(mine[:, 4], one["scores"])
        assert torch.equal(mine[:, 5].long(), one["labels"] - first)


def test_a_published_state_dict_of_torchvision_fits_by_name_and_shape(detector):
    ours = build_model(spec_of(detector, "resnet50"), device="meta").state_dict()
    with torch.device("meta"):
        classes = 2 + (detector == "fasterrcnn")
        theirs = THEIRS[detector](weights=None, weights_backbone=None, num_classes=classes).state_dict()
    shapes = {name: value.shape for name, value in ours.items()}
    assert shapes == {name: value.shape for name, value in theirs.items()}


def test_variants_of_a_seed_start_from_the_same_weights(detector):
    plain, inserted, other = (
        build_model(narrow(detector, name, seed=seed)).state_dict()
        for name, seed in (("none", 0), ("eca", 0), ("none", 1))
    )
    assert all(torch.equal(value, inserted[name]) for name, value in plain.items())
    assert len(inserted) > len(plain)
    drawn = "backbone.fpn.inner_blocks.0.0.weight"
    assert not torch.equal(plain[drawn], other[drawn])


@pytest.mark.parametrize(
    ("placement", "sites"),
    [
        (
            {"stages": [3, 4]},
            [f"backbone.body.layer{stage}.{block}.bn2" for stage in (3, 4) for block in (0, 1)],
        ),
        ({"after": "stage_end", "stages": [4]}, ["backbone.body.layer4.1"]),
        ({"after": "backbone.body.layer4"}, ["backbone.body.layer4"]),
        (
            {"after": "backbone.fpn.layer_blocks.*"},
            [f"backbone.fpn.layer_blocks.{level}" for level in (2, 1, 0)],
        ),
        ({"after": "backbone.fpn.extra_blocks.p6"}, ["backbone.fpn.extra_blocks.p6"]),
    ],
)
def test_attention_goes_into_the_backbone_and_the_neck_by_name(placement, sites):
    spec = spec_of(attention="identity", model={"placement": placement})
    assert [site.name for _, site in sites_of(spec)] == sites


def test_a_head_that_runs_on_every_level_carries_no_attention():
    spec = spec_of(attention="eca", model={"placement": {"after": "head.classification_head.conv.0"}})
    with pytest.raises(SpecError, match="is called 5 times in a forward pass, not once"):
        build_model(spec, device="meta")


@pytest.mark.slow
@pytest.mark.parametrize("after", ["stage_end", "backbone.body.layer*"])
def test_the_pyramid_reads_what_attention_makes_of_a_stage(after):
    """The gate of `frozen` SE at the last stage's end halves the map at most; the pyramid must see it."""
    model = {"placement": {"after": after, "stages": [4]}}
    plain = build_model(spec_of()).eval()
    gated = build_model(spec_of(attention={"name": "se"}, model=model)).eval()
    with torch.no_grad():
        before, behind = (each.backbone.read(images()) for each in (plain, gated))
    assert [torch.equal(*pair) for pair in zip(before, behind, strict=True)] == [True, True, False]


def test_what_follows_the_last_stage_costs_nothing(detector):
    model = build_model(spec_of(detector))
    assert isinstance(model.backbone.body.fc, nn.Identity)
    counted = measure_cost(model, image_size=64)
    assert counted["parameters"] == sum(value.numel() for value in their_resnet18(detector).parameters())
    assert counted["macs"] > 0


def test_stages_that_are_not_read_are_taken_out():
    model = build_model(spec_of({"name": "fcos", "stages": [1, 2]}))
    assert model.backbone.strides == (4, 8)
    assert isinstance(model.backbone.body.layer3, nn.Identity)
    with pytest.raises(SpecError, match="no match in stage"):
        sites_of(
            spec_of({"name": "fcos", "stages": [1, 2]}, attention="eca", model={"placement": {"stages": [3]}})
        )


@pytest.mark.parametrize(
    "backbone", ["resnet20", "mobilenet_v2", "densenet121", "vgg11_bn", "timm/resnetv2_50"]
)
def test_any_backbone_with_stages_can_be_read(backbone):
    model = build_model(spec_of("fcos", backbone), device="meta")
    outputs = model(torch.empty(2, 3, 64, 64, device="meta"))
    assert [tuple(each.shape)[0::2] for each in outputs] == [(2, 2), (2, 4), (2, 1)]


def test_a_copy_and_a_pickle_give_the_same_outputs(detector):
    model = build_model(narrow(detector, "eca")).eval()
    with torch.no_grad():
        outputs = model(images())
        for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert all(torch.equal(*pair) for pair in zip(outputs, again(images()), strict=True))


def test_images_without_boxes_have_a_finite_loss(detector):
    model = build_model(narrow(detector)).train()
    terms = model.losses(images(), torch.zeros(0, 6))
    assert all(term.isfinite() for term in terms.values())


def test_images_pass_torchvision_unchanged():
    batch, _ = _AsTheyAre()(images())
    assert torch.equal(batch.tensors, images())
    assert batch.image_sizes == [(64, 64)] * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"detector": "focs"}, "did you mean 'fcos'"),
        ({"detector": {"name": "fcos", "stage": [1]}}, "did you mean 'stages'"),
        ({"detector": "fcos", "backbone": "yolov5n"}, "is a detector itself"),
    ],
)
def test_a_wrong_detector_is_refused_without_torch(change, words):
    with pytest.raises(ValidationError, match=words):
        spec_of(model=change)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"label_smoothing": 0.1}, "does not apply to the detector fcos"),
        ({"detection": {"loss": {"box": 0.1}}}, "does not apply to the detector fcos, which has its own"),
        ({"detection": {"suppression": {"agnostic": True}}}, "does not apply to the detector"),
        ({"detection": {"anchors": "published"}}, "does not apply to the detector"),
    ],
)
def test_settings_of_another_loss_are_refused(recipe, words):
    with pytest.raises(ValidationError, match=words):
        spec_of(**recipe)


def test_a_classification_data_set_has_no_detectors(make_spec):
    with pytest.raises(ValidationError, match="does not apply to the task classification"):
        make_spec(model={"detector": "fcos"})


@pytest.mark.parametrize(
    ("detector", "backbone", "words"),
    [
        ({"name": "fcos", "stages": [2, 9]}, "resnet18", "has no stage 9; stages there: .1, 2, 3, 4"),
        ({"name": "fcos", "stages": [3, 2]}, "resnet18", "stages must ascend"),
        ({"name": "fcos", "neck": 100}, "resnet18", "needs neck % 32 == 0"),
        ({"name": "retinanet", "neck": 0}, "resnet18", "neck must be at least 1"),
        ("fcos", "timm/hrnet_w18_small", "reads the ends of stages"),
        ("fcos", "timm/vit_tiny_patch16_224", "cannot take images|reads the ends of stages"),
    ],
)
def test_a_detector_that_cannot_be_built_is_one_line(detector, backbone, words):
    with pytest.raises(SpecError, match=words) as caught:
        build_model(spec_of(detector, backbone), device="meta")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("detector ")


def test_a_run_id_without_a_detector_is_that_of_before():
    tree = spec_of().resolved()
    del tree["model"]["detector"]
    spec = RunSpec.model_validate({**tree, "model": {"backbone": "yolov5n"}})
    assert spec.run_id == "c782f0188e53d7a3"
    assert spec_of().run_id != spec.run_id


def test_features_of_a_stage_that_ends_in_no_map_are_refused():
    with torch.device("meta"):
        network = torchvision.models.resnet18(num_classes=2)
    with pytest.raises(SpecError, match=r"stage 1 must end with one map .* gives \(2, 2\)"):
        features_of(Backbone(network, (Block("fc", 1, 1, {"stage_end": "fc"}),)), (3, 64, 64))
