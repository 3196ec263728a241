"""Placement of attention: places, patterns, stages, blocks, widths, replacement."""

import pytest
import torch

from ema_lab.errors import SpecError
from ema_lab.models.build import build_model, sites_of
from ema_lab.models.insertion import insert
from ema_lab.models.placement import glob_matches


def sites(make_spec, placement, backbone="resnet50", attention="se"):
    model = {"backbone": backbone, "placement": placement}
    return [site.name for _, site in sites_of(make_spec(attention, model=model, data={"image_size": 64}))]


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("layer*.*.bn2", "layer1.0.bn2", True),
        ("layer*.*.bn2", "layer1.0.downsample.bn2", False),
        ("layer*", "layer1.0", False),
        ("**.bn2", "layer1.0.downsample.bn2", True),
        ("layer?.0", "layer12.0", False),
        ("layer1.0", "layer1x0", False),
        ("conv1", "layer1.0.conv1", False),
    ],
)
def test_stars_stay_inside_one_part_of_a_name(pattern, name, expected):
    assert glob_matches(pattern, name) is expected


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ({"blocks": "first"}, ["layer1.0.bn3", "layer2.0.bn3", "layer3.0.bn3", "layer4.0.bn3"]),
        ({"blocks": "last"}, ["layer1.2.bn3", "layer2.3.bn3", "layer3.5.bn3", "layer4.2.bn3"]),
        ({"blocks": "even", "stages": [3]}, ["layer3.1.bn3", "layer3.3.bn3", "layer3.5.bn3"]),
        ({"blocks": [1, 4], "stages": [1, 2]}, ["layer1.0.bn3", "layer2.0.bn3", "layer2.3.bn3"]),
        ({"after": "stage_end"}, ["layer1.2", "layer2.3", "layer3.5", "layer4.2"]),
        ({"after": "stage_end", "max_channels": 512}, ["layer1.2", "layer2.3"]),
        ({"after": "after_conv2", "stages": [4]}, ["layer4.0.conv2", "layer4.1.conv2", "layer4.2.conv2"]),
        ({"after": "layer?", "stages": [2]}, ["layer2"]),
        ({"after": ["conv1", "stage_end"], "max_channels": 256}, ["conv1", "layer1.2"]),
        ({"after": "**.conv1", "blocks": [6]}, ["layer3.5.conv1"]),
    ],
    ids=str,
)
def test_a_placement_names_the_submodules_that_it_says(make_spec, placement, expected):
    assert sites(make_spec, placement) == expected


def test_all_blocks_are_the_default_and_every_key_is_part_of_the_identity(make_spec):
    base = make_spec("se")
    same = make_spec("se", model={"placement": {"blocks": "all", "after": "block_end"}})
    other = make_spec("se", model={"placement": {"blocks": "last"}})
    assert same.run_id == base.run_id != other.run_id


@pytest.mark.parametrize(
    ("placement", "backbone", "message"),
    [
        ({"blocks": [7]}, "resnet50", r"no match in block \[7\] of a stage; blocks there: \[1, 2, 3, 4, 5,"),
        ({"blocks": "even", "after": "conv1"}, "resnet50", "'conv1' is in no known block"),
        ({"after": "after_depthwise"}, "resnet50", "'after_depthwise' matches no submodule; places: after_c"),
        ({"replace": "se"}, "resnet50", "finds no squeeze-and-excitation in this backbone"),
        ({"after": "layer1.0.relu"}, "resnet50", r"is called 3 times in a forward pass, not once"),
        ({"after": "features.1.0.block.1"}, "convnext_tiny", r"is not \(B, C, H, W\): for an image"),
        ({"after": "features.1.0.block.3"}, "convnext_tiny", r"is not \(B, C, H, W\): for an image"),
        ({"after": "stages.0.blocks.0.norm"}, "timm/convnext_tiny", r"is not \(B, C, H, W\): for an image"),
        ({"after": "features.denseblock1"}, "densenet121", "_DenseBlock runs whatever children it has"),
        ({"after": "blocks.0"}, "timm/vit_tiny_patch16_224", "cannot take images of shape"),
        ({}, "timm/convmixer_768_32", "'block_end' matches no submodule; places: none; submodules: stem"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_one_line(make_spec, placement, backbone, message):
    model = {"backbone": backbone, "placement": placement}
    with pytest.raises(SpecError, match=message) as caught:
        build_model(make_spec("se", model=model, data={"image_size": 64}), device="meta")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("placement", "message"),
    [
        ({"blocks": "odd"}, "must be all, first, last, even, or a list of numbers within each stage, from 1"),
        ({"blocks": [0]}, "must be all, first, last, even"),
        ({"blocks": []}, "must be all, first, last, even"),
        ({"replace": "se", "after": "block_end"}, "cannot be combined with `after`: leave one of them out"),
        ({"replace": "eca"}, "must be 'se'"),
    ],
)  # fmt: skip
def test_a_wrong_placement_is_refused(make_spec, placement, message):
    with pytest.raises(ValueError, match=message):
        make_spec("se", model={"placement": placement})


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("backbone", "plain"),
    [("timm/seresnet50", "timm/resnet50"), ("regnet_y_400mf", None), ("mobilenet_v3_small", None)],
)
def test_replacing_takes_the_backbones_own_modules_out(make_spec, backbone, plain):
    model = {"backbone": backbone, "placement": {"replace": "se"}}
    own = build_model(make_spec(model={"backbone": backbone}), device="meta")
    without = build_model(make_spec("identity", model=model), device="meta")
    kinds = {type(part).__name__ for part in without.modules()}
    assert not kinds & {"SqueezeExcitation", "SqueezeExcite", "SEModule"}
    assert count(without) < count(own)
    if plain:
        assert count(without) == count(build_model(make_spec(model={"backbone": plain}), device="meta"))
    own_keys = {key for key in own.state_dict() if key in without.state_dict()}
    assert own_keys == without.state_dict().keys()


def test_a_replacing_module_works_where_the_old_one_did(make_spec):
    model = {"backbone": "mobilenet_v3_small", "placement": {"replace": "se"}}
    built = build_model(make_spec({"name": "eca"}, model=model, data={"image_size": 32}))
    built(torch.randn(2, 3, 32, 32)).sum().backward()
    assert built.features[1].block[1].attention.conv.weight.grad.any()


def test_nothing_can_be_placed_inside_what_is_taken_out(make_spec):
    also = [{"attention": "se", "placement": {"after": "features.1.block.1.fc1"}}]
    model = {"backbone": "mobilenet_v3_small", "placement": {"replace": "se"}, "also": also}
    with pytest.raises(
        SpecError, match=r"'features.1.block.1.fc1' is inside 'features.1.block.1', which `repl"
    ):
        build_model(make_spec("eca", model=model), device="meta")


def test_different_modules_stand_at_different_places_of_one_model(make_spec):
    also = [
        {"attention": {"name": "ema", "groups": 8}, "placement": {"stages": [3]}},
        {"attention": "simam", "placement": {"after": "after_conv1", "blocks": "first"}},
    ]
    spec = make_spec("eca", model={"placement": {"stages": [1]}, "also": also})
    assert [(name, site.name) for name, site in sites_of(spec)] == [
        *(("eca", f"layer1.{i}.bn2") for i in range(3)),
        *(("ema", f"layer3.{i}.bn2") for i in range(3)),
        *(("simam", f"layer{i}.0.conv1") for i in (1, 2, 3)),
    ]
    assert type(build_model(spec, device="meta").layer3[0].bn2.attention).__name__ == "EMA"


class Count(torch.nn.Module):
    """Module that adds 1, so that the output counts its applications."""

    def forward(self, x):
        return x + 1


@pytest.mark.parametrize("name", ["", "0"])
def test_a_sequence_applies_what_is_inserted_once_and_in_order(name):
    inner = torch.nn.Sequential(torch.nn.Identity())
    model = torch.nn.Sequential(inner) if name else inner
    assert insert(model, name or "0", Count()).endswith("attention")
    assert insert(model, name or "0", torch.nn.Hardtanh(0, 0.5)).endswith("attention_2")
    assert model(torch.zeros(1, 1, 1, 1)).item() == 0.5
    assert insert(model, name or "0", Count()).endswith("attention_3")
    assert model(torch.zeros(1, 1, 1, 1)).item() == 1.5
