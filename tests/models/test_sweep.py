"""Every family of backbones carries every kind of attention: forward, backward, state dict."""

import pytest
import torch

from ema_lab.models.build import build_model

BACKBONES = [
    "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "mnasnet0_5", "mnasnet1_0",
    "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf",
    "resnet18", "resnet20", "resnet34", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0", "vgg11", "vgg11_bn", "wide_resnet50_2",
    *(f"timm/{name}" for name in (
        "convnext_atto", "darknet53", "densenet121", "dla34", "efficientnet_lite0", "gernet_s",
        "ghostnet_050", "mobilenetv2_050", "mobilenetv3_small_050", "mobilenetv4_conv_small", "regnetx_002",
        "res2net50_26w_4s", "resnet18", "resnetv2_50", "rexnet_100", "seresnet18",
    )),
]  # fmt: skip
MODULES = [{"name": "se", "reduction": 4}, "eca", "cbam", "ca", {"name": "ema", "groups": 1}, "simam"]
MODULES[2] = {"name": "cbam", "reduction": 4}
PLACEMENTS = [{"after": "block_end", "blocks": "last"}, {"after": "stage_end"}]
SIZE = 64


def test_the_sweep_is_as_wide_as_it_is_meant_to_be():
    assert len(set(BACKBONES)) >= 30
    assert len(MODULES) == 6
    assert len(PLACEMENTS) == 2


def check(make_spec, backbone, attention, placement, device):
    """Build a model, run a step of training, and load its state into another of the same."""
    data = {"image_size": SIZE, "train_images": 40}
    spec = make_spec(attention, model={"backbone": backbone, "placement": placement}, data=data)
    model = build_model(spec, device=device)
    calls = dict.fromkeys((name for name, _ in model.named_modules() if name.endswith(".attention")), 0)

    def count_call(name):
        calls[name] += 1

    for name in calls:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: count_call(name))
    logits = model.train()(torch.ones(2, 3, SIZE, SIZE, device=device).normal_())
    assert logits.shape == (2, 10)
    assert set(calls.values()) == {1}
    logits.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
    keys = build_model(make_spec(model={"backbone": backbone}, data=data), device="meta").state_dict().keys()
    added = model.state_dict().keys() - keys
    assert keys <= model.state_dict().keys()
    assert all(".attention." in key for key in added)
    other = build_model(spec, device="meta")
    other.load_state_dict(model.state_dict(), assign=True)
    return model, other


@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda placement: placement["after"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_one_module_in_every_family(make_spec, backbone, placement):
    check(make_spec, backbone, MODULES[4], placement, "meta")


@pytest.mark.slow
@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda placement: placement["after"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_module_in_every_family(make_spec, backbone, placement):
    for attention in MODULES:
        model, other = check(make_spec, backbone, attention, placement, "cpu")
        x = torch.randn(2, 3, SIZE, SIZE)
        with torch.no_grad():
            expected, found = model.eval()(x), other.eval()(x)
        assert expected.isfinite().all()
        assert torch.equal(expected, found)


def test_seresnet50_by_insertion_is_timms(make_spec):
    data = {"image_size": SIZE}
    theirs = build_model(make_spec(model={"backbone": "timm/seresnet50"}, data=data)).eval()
    se = {"name": "se", "reduction": 16, "bias": True}
    ours = build_model(make_spec(se, model={"backbone": "timm/resnet50"}, data=data, seed=1)).eval()
    with torch.no_grad():
        for value in theirs.state_dict().values():
            value.add_(0.01 * torch.randn_like(value)) if value.is_floating_point() else None
    state = {}
    for key, value in theirs.state_dict().items():
        renamed = key.replace(".se.fc1.", ".bn3.attention.squeeze.").replace(
            ".se.fc2.", ".bn3.attention.excite."
        )
        state[renamed] = value[:, :, 0, 0] if ".se.fc" in key and key.endswith("weight") else value
    ours.load_state_dict(state)
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
