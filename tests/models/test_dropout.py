"""Dropout that depends on (seed, name, step) alone."""

import pytest
import torch
from timm.layers import DropPath
from torch import nn
from torch._dynamo.testing import CompileCounter
from torchvision.ops import StochasticDepth

from ema_lab.models.build import build_model
from ema_lab.models.dropout import SeededDropout, seed_dropout, seeded_layers, set_step
from ema_lab.models.insertion import insert


def model():
    return nn.Sequential(nn.Dropout(0.3), nn.Sequential(nn.Dropout2d(0.5)), StochasticDepth(0.2, "row"))


def masks(module, step, shape=(64, 32, 4, 4)):
    layers = seeded_layers(module)
    set_step(layers, step)
    return [layer.train()(torch.ones(shape)) for layer in layers]


def seeded(seed=0):
    module = model()
    seed_dropout(module, seed)
    return module


def test_every_layer_with_dropout_is_replaced_and_no_key_is_renamed():
    assert [type(layer) for layer in seeded().modules() if not list(layer.children())] == [SeededDropout] * 3
    assert seeded().state_dict() == {}


def test_the_dropped_fraction_and_the_mean_are_those_of_dropout():
    for mask, p in zip(masks(seeded(), 5, (512, 256, 4, 4)), (0.3, 0.5, 0.2), strict=True):
        assert (mask == 0).float().mean().item() == pytest.approx(p, abs=0.06)
        assert mask[mask != 0].unique().tolist() == pytest.approx([1 / (1 - p)])


def test_channels_and_images_are_dropped_whole():
    _, channel, image = masks(seeded(), 1)
    assert torch.equal(channel, channel[:, :, :1, :1].expand_as(channel))
    assert torch.equal(image, image[:, :1, :1, :1].expand_as(image))


def test_masks_depend_on_seed_step_and_name_alone():
    first, again = masks(seeded(), 3), masks(seeded(), 3)
    torch.manual_seed(123)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (masks(seeded(), 4), masks(seeded(1), 3)):
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    two = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    seed_dropout(two, 0)
    assert not torch.equal(*masks(two, 0))


def test_a_module_with_dropout_before_it_does_not_shift_a_mask():
    without_extra, with_extra = seeded(), model()
    insert(with_extra, "0", nn.Dropout(0.5))
    seed_dropout(with_extra, 0)
    set_step(seeded_layers(without_extra) + seeded_layers(with_extra), 7)
    x = torch.ones(8, 8, 4, 4)
    assert torch.equal(without_extra[1].train()(x), with_extra[1].train()(x))


def test_nothing_is_dropped_in_evaluation_and_everything_at_one():
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(seeded().eval()(x), x)
    whole = SeededDropout(1.0, "element", 0)
    assert not whole.train()(x).any()


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "efficientnet_b0", "vgg11", "timm/rexnet_100"])
def test_backbones_lose_their_own_dropout(make_spec, backbone):
    built = build_model(make_spec(model={"backbone": backbone}), device="meta")
    kinds = {type(layer).__name__ for layer in built.modules()}
    assert "SeededDropout" in kinds
    assert not kinds & {"Dropout", "StochasticDepth", "DropPath"}


def test_it_compiles_and_takes_a_new_step_without_compiling_again():
    module = seeded().train()
    torch.compiler.reset()
    compilations = CompileCounter()
    compiled = torch.compile(module, backend=compilations, fullgraph=True)
    x = torch.randn(4, 8, 3, 3)
    for step in range(3):
        set_step(seeded_layers(module), step)
        torch.testing.assert_close(compiled(x), module(x))
    assert compilations.frame_count == 1


@pytest.mark.parametrize(("scale_by_keep", "kept_value"), [(True, 4.0), (False, 1.0)])
def test_timms_drop_path_is_scaled_where_it_says_so(scale_by_keep, kept_value):
    module = nn.Sequential(DropPath(0.75, scale_by_keep=scale_by_keep))
    seed_dropout(module, 0)
    (mask,) = masks(module, 1)
    assert mask.unique().tolist() == [0.0, kept_value]
