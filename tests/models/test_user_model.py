"""Attention in a module at hand: as in a run, with the same errors, and nothing changed by an error."""

import pytest
import torch
from torch import nn

from ema_lab.errors import SpecError
from ema_lab.models.build import build_model
from ema_lab.models.user_model import insert


class Net(nn.Module):
    """Two layers with a branch on a value, which a pass without values could not decide."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.layer2 = nn.Conv2d(8, 16, 3, stride=2)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.layer2(self.layer1(x))
        if x.abs().sum().item() < 0:
            raise AssertionError
        return self.head(x.mean((2, 3)))


def names(model):
    return [name for name, _ in model.named_modules() if name.endswith("attention")]


def test_the_model_is_that_of_a_run(make_spec):
    placement = {"after": "block_end", "stages": [2, 3]}
    spec = make_spec({"name": "ema", "groups": 8}, model={"placement": placement}, seed=3)
    expected = build_model(spec).state_dict()
    facts = spec.data.facts
    model = build_model(make_spec("none", seed=3))
    insert(model, "ema", after=placement, image_size=facts.image_shape[1:], channels=facts.channels,
           seed=3, groups=8)  # fmt: skip
    assert list(model.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_attention_follows_every_match_and_the_state_of_the_model_stays():
    model = Net().double()
    model.layer1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.random.get_rng_state()
    assert insert(model, "se", after="layer*", image_size=8, reduction=4) is model
    assert names(model) == ["layer1.attention", "layer2.attention"]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert {part.training for part in model.layer1.modules()} == {False}
    assert {part.training for part in model.layer2.modules()} == {True} == {model.training}
    images = torch.ones(2, 3, 8, 8, dtype=torch.float64)
    model.eval()
    whole = model(images)
    model.layer2.attention.excite.weight.data += 1
    assert not torch.equal(model(images), whole)


def test_a_second_attention_has_the_next_name():
    model = insert(insert(Net(), "se", after="layer2"), {"name": "eca"}, after="layer2")
    assert [name for name, _ in model.layer2.named_children()] == ["attention", "attention_2"]


def test_a_model_on_the_meta_device_gets_attention_there():
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 8, 3))
    assert insert(model, "se", after="0", reduction=2)[0].attention.squeeze.weight.is_meta


@pytest.mark.parametrize(
    ("attention", "keys", "words"),
    [
        ("emma", {}, r"no attention is named 'emma'; did you mean 'ema'"),
        ("ema", {"group": 8}, r"attention.group: no key is named 'group'; did you mean 'groups'"),
        (nn.Identity, {}, r"attention: must be a name or a mapping with a name"),
        ("none", {}, r"attention: none inserts nothing"),
        (
            "se",
            {"after": "layr*"},
            r"'layr\*' matches no submodule; places: .*submodules: layer1, layer2, head",
        ),
        ("se", {"after": {"stage": [1]}}, r"no key is named 'stage'; did you mean 'stages'"),
        ("se", {"after": "head"}, r"the output of 'head' is not \(B, C, H, W\), got \(2, 5\)"),
        ("se", {"channels": 1}, r"cannot take images of shape \(1, 32, 32\) \(at 'layer1.0'\)"),
        ("ema", {"groups": 16}, r"ema after layer1 \(8 channels\): EMA needs channels % groups == 0"),
    ],
)
def test_a_wrong_request_changes_nothing(attention, keys, words):
    model = Net()
    with pytest.raises(SpecError, match=words):
        insert(model, attention, **{"after": "layer*", **keys})
    assert names(model) == []
    assert type(model.layer2) is nn.Conv2d
