"""Rates of dropout and of stochastic depth that a recipe sets."""

import copy

import pytest
import timm
import torch

from ema_lab.errors import SpecError
from ema_lab.models.build import build_model
from ema_lab.models.dropout import SeededDropout, seeded_layers, set_step
from ema_lab.models.insertion import RESIDUAL_DROP


def built(make_spec, backbone, attention="none", *, size=32, device="meta", placement=None, **recipe):
    model = {"backbone": backbone, **({"placement": placement} if placement else {})}
    spec = make_spec(attention, model=model, data={"image_size": size}, recipe=recipe)
    return build_model(spec, device=device)


def dropped(model) -> dict[str, float]:
    return {
        name: layer.p
        for name, layer in model.named_modules()
        if isinstance(layer, SeededDropout) and layer.per == "image"
    }


def test_rates_of_a_mobilenets_blocks_are_timms(make_spec):
    theirs = timm.create_model("mobilenetv2_100", drop_path_rate=0.2)
    expected = [
        block.drop_path.drop_prob if block.has_skip else None
        for stage in theirs.blocks
        for block in stage
        if hasattr(block, "has_skip")
    ]
    ours = dropped(built(make_spec, "mobilenet_v2", drop_path=0.2))
    assert list(ours.values()) == pytest.approx([rate for rate in expected if rate is not None])
    assert all(name.endswith(RESIDUAL_DROP) for name in ours)


@pytest.mark.parametrize(
    ("backbone", "count"),
    [
        *(("resnet20", 9), ("resnet18", 8), ("mobilenet_v3_small", 6), ("mnasnet0_5", 10)),
        *(
            ("efficientnet_b0", 16),
            ("convnext_tiny", 18),
            ("regnet_y_400mf", 16),
            ("timm/mobilenetv2_100", 17),
        ),
    ],
)
def test_every_residual_branch_is_dropped_at_its_rate(make_spec, backbone, count):
    model = built(make_spec, backbone, size=64, drop_path=0.4)
    rates = list(dropped(model).values())
    assert len(rates) == count
    assert rates == sorted(rates)
    assert 0.3 < rates[-1] < 0.4


def test_a_dropped_branch_leaves_the_shortcut_and_attention_comes_before(make_spec):
    model = built(
        make_spec, "resnet20", "se", device="cpu", placement={"after": "block_end"}, drop_path=0.9
    ).train()
    block = model.layer3[2]
    assert [name for name, _ in block.bn2.named_children()] == ["attention", RESIDUAL_DROP]
    x = torch.rand(64, 64, 8, 8)
    set_step(seeded_layers(model), 3)
    out = block(x)
    kept = sum(not torch.equal(one, other) for one, other in zip(out, x, strict=True))
    assert 0 < kept < 32  # the last of 9 blocks drops 8/9 of 0.9
    assert torch.equal(model.eval()(x[:, :3]), copy.deepcopy(model)(x[:, :3]))


def test_masks_and_weights_are_those_of_every_variant(make_spec):
    place = {"placement": {"after": "block_end"}}
    plain, attended = (
        built(make_spec, "resnet20", name, device="cpu", drop_path=0.5, **place)
        for name in ("identity", {"name": "ema", "groups": 4})
    )
    keys = {name: layer.key for name, layer in attended.named_modules() if isinstance(layer, SeededDropout)}
    assert keys == {n: layer.key for n, layer in plain.named_modules() if isinstance(layer, SeededDropout)}
    assert len(set(keys.values())) == 9
    without = built(make_spec, "resnet20", device="cpu").state_dict()
    assert plain.state_dict().keys() == without.keys()
    assert all(torch.equal(value, without[name]) for name, value in plain.state_dict().items())


def test_dropout_layers_take_the_recipes_rate_but_attentions_keep_theirs(make_spec):
    model = built(make_spec, "mobilenet_v2", dropout=0.35)
    assert [layer.p for layer in seeded_layers(model)] == [0.35]
    assert [layer.p for layer in seeded_layers(built(make_spec, "mobilenet_v2"))] == [0.2]


@pytest.mark.parametrize(
    ("backbone", "recipe", "words"),
    [
        ("resnet20", {"dropout": 0.1}, "recipe.dropout: the backbone has no dropout layer"),
        ("vgg11", {"drop_path": 0.1}, "no residual branch that can be dropped"),
        ("densenet121", {"drop_path": 0.1}, "no residual branch that can be dropped"),
        ("resnet20", {"drop_path": 0.0}, "0 changes nothing"),
    ],
)
def test_a_rate_that_would_change_nothing_is_one_line(make_spec, backbone, recipe, words):
    with pytest.raises(SpecError, match=words) as caught:
        built(make_spec, backbone, **recipe)
    assert "\n" not in str(caught.value)
