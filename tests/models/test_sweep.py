"""Every family of backbones carries every kind of attention: forward, backward, state dict."""

import re

import pytest
import torch
from materialise import materialised

from ema_lab.models.build import build_model

BACKBONES = [
    "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "mnasnet0_5",
    "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf",
    "resnet18", "resnet20", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5",
    "vgg11_bn", "wide_resnet50_2",
    *(f"timm/{name}" for name in (
        "convnext_atto", "darknet53", "dla34", "efficientnet_lite0", "gernet_s",
        "ghostnet_050", "mobilenetv2_050", "mobilenetv3_small_050", "mobilenetv4_conv_small", "regnetx_002",
        "res2net50_26w_4s", "resnet18", "resnetv2_50", "rexnet_100", "seresnet18",
    )),
]  # fmt: skip
QUICK = {"resnet18", "resnet20", "mobilenet_v3_small", "timm/convnext_atto", "timm/regnetx_002"}
MODULES = [
    {"name": "se", "reduction": 4},
    "eca",
    {"name": "cbam", "reduction": 4},
    "ca",
    {"name": "ema", "groups": 1},
    "simam",
]
PLACEMENTS = [{"after": "block_end", "blocks": "last"}, {"after": "stage_end"}]
SIZE = 64
ATTENTION = re.compile(r".*\.attention(_\d+)?")


def test_the_sweep_is_as_wide_as_it_is_meant_to_be():
    assert len(set(BACKBONES)) >= 30
    assert len(MODULES) == 6
    assert set(BACKBONES) > QUICK
    assert len(PLACEMENTS) == 2


def check(make_spec, backbone, attentions, device):
    """Build a model with attentions at all placements, run a training step, and return it with its spec."""
    data = {"image_size": SIZE, "train_images": 40}
    insertions = [{"attention": one, "placement": place} for one in attentions for place in PLACEMENTS]
    first, *also = insertions
    model = {"backbone": backbone, "placement": first["placement"], "also": also}
    spec = make_spec(first["attention"], model=model, data=data)
    model = build_model(spec, device="meta")
    model = model if device == "meta" else materialised(model)
    calls = {name: [] for name, _ in model.named_modules() if ATTENTION.fullmatch(name)}
    assert len(calls) >= len(insertions)
    for name, made in calls.items():
        model.get_submodule(name).register_forward_hook(lambda *_, made=made: made.append(1))
    logits = model.train()(torch.ones(2, 3, SIZE, SIZE, device=device).normal_())
    assert logits.shape == (2, 10)
    assert all(made == [1] for made in calls.values())
    logits.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    return model, spec


def check_keys(model, own):
    """Check that insertion renames none of a backbone's own keys, and adds none but attention's."""
    names = [name for name, _ in model.named_modules()]
    sites = tuple(f"{name}." for name in names if ATTENTION.fullmatch(name))
    assert own <= model.state_dict().keys()
    assert all(key.startswith(sites) for key in model.state_dict().keys() - own)


@pytest.mark.parametrize("backbone", sorted(QUICK))
def test_one_module_in_some_families_at_every_placement(make_spec, on_meta, backbone):
    model, _ = check(make_spec, backbone, MODULES[4:5], "meta")
    check_keys(model, on_meta(backbone).module.state_dict().keys())


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_module_in_every_family(make_spec, on_meta, backbone):
    """All modules are in one model: each is called, gets gradients and has its values restored."""
    model, spec = check(make_spec, backbone, MODULES, "cpu")
    check_keys(model, on_meta(backbone).module.state_dict().keys())
    other = build_model(spec, device="meta")
    other.load_state_dict(model.state_dict(), assign=True)
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        expected, restored = model.eval()(x), other.eval()(x)
    assert expected.isfinite().all()
    assert torch.equal(expected, restored)


@pytest.mark.slow
def test_seresnet50_by_insertion_is_timms(make_spec):
    data = {"image_size": SIZE}
    theirs = build_model(make_spec(model={"backbone": "timm/seresnet50"}, data=data)).eval()
    se = {"name": "se", "reduction": 16, "bias": True}
    with_se = build_model(make_spec(se, model={"backbone": "timm/resnet50"}, data=data, seed=1)).eval()
    with torch.no_grad():
        for value in theirs.state_dict().values():
            value.add_(0.01 * torch.randn_like(value)) if value.is_floating_point() else None
    state = {}
    for key, value in theirs.state_dict().items():
        renamed = key.replace(".se.fc1.", ".bn3.attention.squeeze.").replace(
            ".se.fc2.", ".bn3.attention.excite."
        )
        state[renamed] = value[:, :, 0, 0] if ".se.fc" in key and key.endswith("weight") else value
    with_se.load_state_dict(state)
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(with_se(x), theirs(x))
    assert sum(p.numel() for p in with_se.parameters()) == sum(p.numel() for p in theirs.parameters())
