"""The places of each family: what they are said to be is what they are."""

import pytest
import torch
from torch import Tensor, nn

from ema_lab.models.blocks import KINDS, PLAIN, describe
from ema_lab.models.build import build_backbone
from ema_lab.models.insertion import insert

RESIDUAL = [
    "convnext_tiny", "efficientnet_b0", "efficientnet_v2_s", "mnasnet0_5", "mobilenet_v2",
    "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnet20", "resnet50",
    *(f"timm/{name}" for name in (
        "convnext_atto", "cspresnet50", "darknet53", "dla34", "dla60", "efficientnet_b0", "efficientnetv2_s",
        "gernet_s", "ghostnet_100", "mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv4_conv_small",
        "nf_resnet50", "regnety_004", "res2net50_26w_4s", "resnest14d", "resnet18", "resnet50", "resnetv2_50",
        "resnetv2_18", "rexnet_100", "skresnet18", "skresnet50",
    )),
]  # fmt: skip
WITHOUT_ADDITIONS = [
    "densenet121", "shufflenet_v2_x0_5", "timm/densenet121", "timm/vgg11", "vgg11", "vgg11_bn",
]  # fmt: skip
STAGES = {
    "densenet121": [6, 12, 24, 16],
    "efficientnet_b0": [1, 2, 2, 6, 5],
    "mobilenet_v2": [1, 2, 3, 7, 4],
    "resnet20": [3, 3, 3],
    "resnet50": [3, 4, 6, 3],
    "regnet_y_400mf": [1, 3, 6, 6],
    "shufflenet_v2_x1_0": [4, 8, 4],
    "convnext_tiny": [3, 3, 9, 3],
    "timm/mobilenetv2_100": [1, 2, 3, 7, 4],
    "timm/resnet50": [3, 4, 6, 3],
    "vgg16": [2, 2, 3, 3, 3],
}


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0 * x


def backbone(make_spec, name, device="meta"):
    return build_backbone(make_spec(model={"backbone": name}, data={"image_size": 64}), device=device)


@pytest.mark.parametrize("name", RESIDUAL)
def test_a_block_without_its_branch_is_its_shortcut(make_spec, name):
    described = backbone(make_spec, name, "cpu")
    module = described.module.eval()
    shortcuts = 0
    with torch.no_grad():
        for block, inputs in block_inputs(described, torch.randn(1, 3, 64, 64)):
            part = module.get_submodule(block.name)
            insert(module, block.places["block_end"], Zero())
            x, output = inputs[0], part(*inputs)
            added, rest = output[:, : x.shape[1]], output[:, x.shape[1] :]
            if added.shape == x.shape and added.any() and not rest.any():
                torch.testing.assert_close(activated(x, added), added)
                shortcuts += 1
    assert shortcuts >= (0 if name == "timm/resnest14d" else len(described.blocks) / 4)


def block_inputs(described, image):
    """Return each block with what it is called with in an ordinary pass."""
    seen = []
    for block in described.blocks:
        part = described.module.get_submodule(block.name)

        def record(_part, inputs, block=block):
            seen.append((block, [x.clone() if isinstance(x, Tensor) else x for x in inputs]))

        part.register_forward_pre_hook(record)
    described.module(image)
    assert [block for block, _ in seen] == list(described.blocks)
    return list(seen)


def activated(x: Tensor, y: Tensor) -> Tensor:
    """The activation that ends some blocks: ReLU, or a leaky one of the same slope as in `y`."""
    slope = (y[x < 0] / x[x < 0]).mean() if (x < 0).any() else 0
    return torch.where(x < 0, slope * x, x)


@pytest.mark.parametrize("name", WITHOUT_ADDITIONS)
def test_families_without_additions_have_the_places_that_are_stated(make_spec, name):
    described = backbone(make_spec, name)
    ends = {block.places["block_end"] for block in described.blocks}
    for end in ends:
        part = described.module.get_submodule(end)
        assert type(part).__name__ in {"_DenseLayer", "DenseLayer", "InvertedResidual", "ReLU"}
    assert len(ends) == len(described.blocks) > 3


@pytest.mark.parametrize(("name", "sizes"), STAGES.items())
def test_a_stage_is_the_blocks_between_two_halvings(make_spec, name, sizes):
    blocks = backbone(make_spec, name).blocks
    found = [sum(block.stage == stage for block in blocks) for stage in range(1, len(sizes) + 1)]
    assert found == sizes
    assert [block.number for block in blocks] == [n for size in sizes for n in range(1, size + 1)]
    assert sum("stage_end" in block.places for block in blocks) == len(sizes)


def test_every_kind_of_block_that_is_known_of_is_met(make_spec):
    met = set()
    for name in [*RESIDUAL, *WITHOUT_ADDITIONS, "timm/lcnet_050", "timm/cspresnet50"]:
        for part in backbone(make_spec, name).module.modules():
            met.add(f"{type(part).__module__}.{type(part).__qualname__}")
    assert (KINDS.keys() | PLAIN) - met == set()


def test_a_place_is_after_the_convolution_or_after_the_depthwise_norm(make_spec):
    resnet = backbone(make_spec, "resnet50")
    assert resnet.blocks[0].places == {
        "after_conv1": "layer1.0.conv1",
        "after_conv2": "layer1.0.conv2",
        "after_conv3": "layer1.0.conv3",
        "block_end": "layer1.0.bn3",
    }
    mobilenet = backbone(make_spec, "mobilenet_v2")
    depthwise = [mobilenet.module.get_submodule(b.places["after_depthwise"]) for b in mobilenet.blocks]
    assert [[type(layer).__name__ for layer in part] for part in depthwise] == [
        ["Conv2d", "BatchNorm2d", "ReLU6"]
    ] * 17
    assert all(part[0].groups == part[0].in_channels for part in depthwise)


def test_a_network_of_unknown_blocks_has_no_places():
    described = describe(nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert described.blocks == ()
    assert described.places == ()


def test_networks_with_parallel_stages_have_no_places(make_spec):
    assert backbone(make_spec, "timm/hrnet_w18_small").places == ()
