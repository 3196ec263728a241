"""Places of each family of backbones: each place is where the documentation puts it."""

from dataclasses import replace

import pytest
import torch
from materialise import materialised, only_norms_have_buffers
from torch import Tensor, nn

from ema_lab.errors import SpecError
from ema_lab.models.blocks import KINDS, PLAIN, describe
from ema_lab.models.build import named_backbone, sites_of
from ema_lab.models.insertion import insert

RESIDUAL = [
    "convnext_tiny", "efficientnet_b0", "efficientnet_v2_s", "mnasnet0_5", "mobilenet_v2",
    "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "resnet20", "resnet50",
    *(f"timm/{name}" for name in (
        "convnext_atto", "cspresnet50", "darknet53", "dla34", "dla60", "efficientnet_b0", "efficientnetv2_s",
        "gernet_s", "ghostnet_100", "mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv4_conv_small",
        "nf_resnet50", "regnety_004", "res2net50_26w_4s", "resnest14d", "resnet18", "resnet50", "resnetv2_50",
        "resnetv2_18", "rexnet_100", "skresnet18", "skresnet50",
        "cs3edgenet_x", "cspnext_tiny", "dla60_res2net", "edgenext_xx_small", "efficientnet_cc_b0_4e",
        "ese_vovnet39b", "fasternet_t0", "ghostnetv3_050", "hrnet_w18_small", "inception_next_atto",
        "lcnetv2_small", "legacy_seresnet18", "legacy_seresnet50", "repghostnet_050",
        "starnet_s1", "tresnet_m", "xception41", "xception41p",
    )),
]  # fmt: skip
FEW_ADDITIONS = {"timm/ese_vovnet39b", "timm/lcnetv2_small", "timm/resnest14d"}
SUMMED_INSIDE = [  # branches, or several additions, inside of a block
    "googlenet", "inception_v3", "squeezenet1_1",
    *(f"timm/{name}" for name in (
        "fastvit_sa12", "hgnet_tiny", "inception_resnet_v2", "inception_v3", "inception_v4", "mobileone_s0",
        "repvgg_a0", "repvit_m1", "selecsls42",
    )),
]  # fmt: skip
OTHERS = [  # for block classes that none of the above has
    "alexnet",
    *(f"timm/{name}" for name in (
        "cspresnet50", "dpn68", "halonet26t", "lcnet_050", "legacy_senet154", "legacy_seresnext26_32x4d",
        "legacy_xception", "mobilenetv4_hybrid_medium", "mobilevit_xxs", "mobilevitv2_050",
        "regnetv_040", "test_byobnet",
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


def with_weights(name):
    described = named_backbone(name, 10, 3, device="meta")
    if only_norms_have_buffers(described.module):
        return replace(described, module=materialised(described.module))
    return named_backbone(name, 10, 3)


@pytest.mark.parametrize("name", RESIDUAL)
def test_a_block_without_its_branch_is_its_shortcut(name):
    described = with_weights(name)
    module = described.module.eval()
    shortcuts = 0
    with torch.no_grad():
        for block, inputs in block_inputs(described, torch.randn(1, 3, 64, 64)):
            part = module.get_submodule(block.name)
            insert(module, end_of(block), Zero())
            x, output = inputs[0], part(*inputs)
            added, rest = output[:, : x.shape[1]], output[:, x.shape[1] :]
            if added.shape == x.shape and added.any() and not rest.any():
                torch.testing.assert_close(activated(x, added), added)
                shortcuts += 1
    assert shortcuts >= (0 if name in FEW_ADDITIONS else len(described.blocks) / 4)


def end_of(block):
    return next(name for place, name in block.places.items() if place in {"block_end", "block_end.v2"})


def block_inputs(described, image):
    """Return each block with its inputs in an ordinary pass."""
    calls = []
    for block in described.blocks:
        part = described.module.get_submodule(block.name)

        def record(_part, inputs, block=block):
            calls.append((block, [x.clone() if isinstance(x, Tensor) else x for x in inputs]))

        part.register_forward_pre_hook(record)
    described.module(image)
    assert [block for block, _ in calls] == list(described.blocks)
    return list(calls)


def activated(x: Tensor, y: Tensor) -> Tensor:
    """Apply the activation that ends some blocks: ReLU, or a leaky one with the slope of `y`."""
    slope = (y[x < 0] / x[x < 0]).mean() if (x < 0).any() else 0
    return torch.where(x < 0, slope * x, x)


def test_families_without_additions_have_the_places_that_are_stated(on_meta):
    for name in WITHOUT_ADDITIONS:
        described = on_meta(name)
        ends = {block.places["block_end"] for block in described.blocks}
        for end in ends:
            part = described.module.get_submodule(end)
            assert type(part).__name__ in {"_DenseLayer", "DenseLayer", "InvertedResidual", "ReLU"}
        assert len(ends) == len(described.blocks) > 3


def test_a_stage_is_the_blocks_between_two_halvings(on_meta):
    for name, sizes in STAGES.items():
        blocks = on_meta(name).blocks
        counts = [sum(block.stage == stage for block in blocks) for stage in range(1, len(sizes) + 1)]
        assert counts == sizes
        assert [block.number for block in blocks] == [n for size in sizes for n in range(1, size + 1)]
        assert sum("stage_end" in block.places for block in blocks) == len(sizes)


@pytest.mark.slow
def test_every_kind_of_block_that_is_known_of_is_met(on_meta):
    met = set()
    for name in [*RESIDUAL, *WITHOUT_ADDITIONS, *SUMMED_INSIDE, *OTHERS]:
        for part in on_meta(name).module.modules():
            met.add(f"{type(part).__module__}.{type(part).__qualname__}")
    assert (KINDS.keys() | PLAIN) - met == set()


def test_a_place_is_after_the_convolution_or_after_the_depthwise_norm(on_meta):
    resnet = on_meta("resnet50")
    assert resnet.blocks[0].places == {
        "after_conv1": "layer1.0.conv1",
        "after_conv2": "layer1.0.conv2",
        "after_conv3": "layer1.0.conv3",
        "block_end": "layer1.0.bn3",
    }
    mobilenet = on_meta("mobilenet_v2")
    depthwise = [mobilenet.module.get_submodule(b.places["after_depthwise"]) for b in mobilenet.blocks]
    assert [[type(layer).__name__ for layer in part] for part in depthwise] == [
        ["Conv2d", "BatchNorm2d", "ReLU6"]
    ] * 17
    assert all(part[0].groups == part[0].in_channels for part in depthwise)


def test_a_network_of_unknown_blocks_has_no_places():
    described = describe(nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert described.blocks == ()
    assert described.places == ()


@pytest.mark.parametrize(
    "name", [*SUMMED_INSIDE, "alexnet", "timm/dpn68", "timm/legacy_xception", "timm/regnetv_040"]
)
def test_attention_sits_at_the_end_of_every_block(make_spec, on_meta, name):
    described = on_meta(name)
    for block in described.blocks:
        assert end_of(block).startswith(block.name)
    sites = sites_of(make_spec("se", model={"backbone": name}, data={"image_size": 128}))
    assert [site.name for _, site in sites] == [end_of(block) for block in described.blocks]


def test_parallel_branches_are_stages_of_their_own_numbers(make_spec, on_meta):
    described = on_meta("timm/hrnet_w18_small")
    assert described.stage_sizes == (1, 4, 6, 8)
    assert not any(block.name.startswith("incre_modules") for block in described.blocks)
    assert "stage_end" not in described.places
    with pytest.raises(SpecError, match=r"'stage_end' matches no submodule; .* \(parallel branches"):
        placed(make_spec, "timm/hrnet_w18_small", {"after": "stage_end"})


def placed(make_spec, name, placement):
    model = {"backbone": name, "placement": placement}
    return [site.name for _, site in sites_of(make_spec("se", model=model, data={"image_size": 128}))]


class TestPlacesThatOnceCoveredAPart:
    NAME = "timm/mobilenetv4_hybrid_medium"

    @pytest.mark.parametrize("after", ["block_end", "stage_end", "after_depthwise"])
    def test_are_refused_with_the_new_name(self, make_spec, after):
        new = r"places: block_end.v2, .* once covered 24 of 32 blocks"
        message = rf"'{after}' matches no submodule; (did you mean .*)?{new}"
        with pytest.raises(SpecError, match=message):
            placed(make_spec, self.NAME, {"after": after})

    @pytest.mark.parametrize("choice", [{"stages": [1]}, {"blocks": "first"}])
    def test_are_not_chosen_from_by_stages_and_patterns(self, make_spec, choice):
        with pytest.raises(SpecError, match="`stages` and `blocks` need a place of the revised names"):
            placed(make_spec, self.NAME, {"after": "blocks.*.*"} | choice)

    def test_cover_all_blocks_under_the_new_name(self, make_spec, on_meta):
        assert len(placed(make_spec, self.NAME, {"after": "block_end.v2"})) == 32
        fourth = placed(make_spec, self.NAME, {"after": "block_end.v2", "stages": [4]})
        assert len(fourth) == on_meta(self.NAME).stage_sizes[3]
        ends = placed(make_spec, self.NAME, {"after": "stage_end.v2"})
        assert ends == ["blocks.0.0", "blocks.1.1", "blocks.2.11", "blocks.4.0"]

    def test_that_were_right_keep_their_name_where_stages_were_not(self, make_spec, on_meta):
        name = "timm/efficientnet_blur_b0"
        same = placed(make_spec, name, {})
        assert same == placed(make_spec, name, {"after": "block_end.v2"})
        assert on_meta(name).stage_sizes == (1, 2, 2, 6, 5)
        with pytest.raises(
            SpecError, match=r"all blocks as one stage; the right ones are named block_end\.v2"
        ):
            placed(make_spec, name, {"stages": [1]})
        assert len(placed(make_spec, name, {"after": "block_end.v2", "stages": [2]})) == 2

    def test_of_unknown_blocks_are_refused_with_a_pattern(self, make_spec):
        message = r"8 of 20 blocks are known; Block is not: name the place by a pattern .* 'blocks\.\*'"
        model = {"backbone": "timm/vit_base_resnet26d_224", "placement": {"after": "block_end"}}
        spec = make_spec("se", model=model, data={"image_size": 224})
        with pytest.raises(SpecError, match=message):
            sites_of(spec)
