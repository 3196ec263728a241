import copy
import io
import pickle

import pytest
import torch

from ema_lab.errors import SpecError
from ema_lab.models.build import build_model, check_model, sites_of
from ema_lab.models.shapes import ShapesOnly
from ema_lab.registry.catalogue import ATTENTIONS

CIFAR100 = {"name": "cifar100"}
EMA = {"name": "ema", "groups": 4}
VARIANTS = [
    "none",
    "se",
    "cbam",
    "ca",
    EMA,
    {"name": "ema", "groups": 8},
    {**EMA, "local_branch": False},
    {**EMA, "pointwise_branch": False},
]


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("depth", "parameters"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)]
)
def test_the_small_family_has_the_parameters_of_its_paper(make_spec, depth, parameters):
    assert count(build_model(make_spec(model={"backbone": f"resnet{depth}"}), device="meta")) == parameters


@pytest.mark.parametrize("depth", [18, 34, 152])
def test_torchvision_resnets_build_with_their_own_stem(make_spec, depth):
    spec = make_spec(model={"backbone": f"resnet{depth}"}, data={"image_size": 64})
    with torch.no_grad(), ShapesOnly():
        scores = build_model(spec, device="meta")(torch.empty(1, 3, 64, 64, device="meta"))
    assert scores.shape == (1, 10)


def test_shared_weights_start_bit_equal_in_every_variant(make_spec):
    states = [build_model(make_spec(variant)).state_dict() for variant in VARIANTS]
    for state in states:
        for other in states:
            shared = [k for k in state.keys() & other.keys() if state[k].shape == other[k].shape]
            assert len(shared) >= len(states[0])
            assert all(torch.equal(state[key], other[key]) for key in shared)


@pytest.mark.parametrize("attention", list(ATTENTIONS))
def test_channels_last_is_another_order_of_the_same_values(make_spec, attention):
    needed = {"of": {"name": "se"}} if "of" in ATTENTIONS.options(attention) else {}
    groups = {"groups": 8} if attention in {"ema", "sa"} else {}
    spec = make_spec({"name": attention, **needed, **groups}, data={"image_size": 8})
    other = spec.model_copy(
        update={"recipe": spec.recipe.model_copy(update={"memory_format": "channels_last"})}
    )
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    orders, outputs = [], []
    for model in (build_model(spec), build_model(other)):
        model.double().conv1.register_forward_hook(
            lambda module, inputs, out: orders.append(out.is_contiguous(memory_format=torch.channels_last))
        )
        outputs.append(model(x))
        outputs[-1].square().sum().backward()
        outputs.append(model.conv1.weight.grad)
    assert orders == [False, True]
    for one, same in zip(outputs[:2], outputs[2:], strict=True):
        torch.testing.assert_close(one, same)


def test_another_seed_starts_elsewhere(make_spec):
    first, second = (build_model(make_spec(EMA, seed=seed)).state_dict() for seed in (0, 1))
    differs = {key for key in first if not torch.equal(first[key], second[key])}
    assert "layer1.0.bn2.attention.local.weight" in differs
    assert {"conv1.weight", "fc.weight", "fc.bias"} <= differs


def test_weights_that_were_once_drawn_stay(make_spec):
    state = build_model(make_spec(EMA)).state_dict()
    once = {
        "conv1.weight": [0.098034, -0.143671, -0.102592],  # drawn twice: torch's default, then the network's
        "layer1.0.bn2.attention.local.weight": [0.155305, 0.110613, -0.115719],
        "layer1.0.bn2.attention.local.bias": [0.159632, 0.044416, 0.038313],
        "fc.weight": [0.056103, -0.018919, -0.038333],
        "fc.bias": [0.079204, 0.07741, -0.101305],
    }
    for name, values in once.items():
        assert state[name].flatten()[:3].tolist() == pytest.approx(values, abs=2e-5), name


def test_building_neither_reads_nor_moves_the_global_generator(make_spec):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_model(make_spec("se")).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = build_model(make_spec("se")).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_backbones_own_distributions_are_kept(make_spec):
    weight = (
        build_model(make_spec(model={"backbone": "resnet50"}, data={"image_size": 32})).layer3[0].conv2.weight
    )
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)  # normal, fan out
    assert weight.mean().item() == pytest.approx(0, abs=1e-4)


def test_two_parameters_of_one_model_never_share_their_draws(make_spec):
    state = build_model(make_spec(EMA)).state_dict()
    assert not torch.equal(state["layer1.0.conv1.weight"], state["layer1.0.conv2.weight"])
    first, second = (state[f"layer1.{i}.bn2.attention.local.weight"] for i in (0, 1))
    assert not torch.equal(first, second)


def test_insertion_keeps_the_backbones_own_keys(make_spec):
    plain, with_ema = (build_model(make_spec(variant)).state_dict() for variant in ("none", EMA))
    assert plain.keys() <= with_ema.keys()
    assert all(".attention." in key for key in with_ema.keys() - plain.keys())


@pytest.mark.parametrize("attention", [pytest.param("cbam", marks=pytest.mark.slow), EMA], ids=str)
def test_copies_pickles_and_compiled_models_compute_the_same(make_spec, attention):
    model, plain = build_model(make_spec(attention)).eval(), build_model(make_spec("none")).eval()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = model(images)
    assert not torch.equal(expected, plain(images))
    assert torch.equal(copy.deepcopy(model)(images), expected)
    assert torch.equal(pickle.loads(pickle.dumps(model))(images), expected)
    saved = io.BytesIO()
    torch.save(model.state_dict(), saved)
    again = build_model(make_spec(attention, seed=7)).eval()
    again.load_state_dict(torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
    assert torch.equal(again(images), expected)
    compiled = torch.compile(model, backend="eager", fullgraph=True)  # after another: test_insertion.py
    torch.testing.assert_close(compiled(images), expected)


def test_a_copys_attention_is_its_own(make_spec):
    model = build_model(make_spec(EMA)).eval()
    images = torch.randn(1, 3, 16, 16)
    expected = model(images)
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(model(images), expected)


def test_block_end_is_after_the_last_norm_before_the_addition(make_spec):
    spec = make_spec("se", model={"backbone": "resnet50"}, data={"image_size": 32})
    sites = [site for _, site in sites_of(spec)]
    assert [site.name for site in sites][:4] == [f"layer1.{i}.bn3" for i in range(3)] + ["layer2.0.bn3"]
    assert [site.channels for site in sites] == [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3


def test_stages_widths_and_lists_of_patterns_narrow_a_placement(make_spec):
    def names(**placement):
        return [site.name for _, site in sites_of(make_spec("se", model={"placement": placement}))]

    assert names(stages=[2]) == [f"layer2.{i}.bn2" for i in range(3)]
    assert names(min_channels=32, max_channels=32) == names(stages=[2])
    assert names(after=["layer1.0.bn1", "layer3.?.conv2"]) == ["layer1.0.bn1"] + [
        f"layer3.{i}.conv2" for i in range(3)
    ]
    assert names(after="layer?") == ["layer1", "layer2", "layer3"]
    assert len(names(after="**.bn2")) == 9


def test_a_placement_of_nothing_inserts_nothing(make_spec):
    spec = make_spec("none", model={"placement": {"after": "no.such.place"}})
    assert count(build_model(spec)) == 269_722


def test_two_modules_at_one_place_apply_in_order(make_spec):
    also = [{"attention": "se", "placement": {"stages": [3]}}]
    model = build_model(make_spec("ca", model={"also": also}))
    norm = model.get_submodule("layer3.0.bn2")
    assert [name for name, _ in norm.named_children()] == ["attention", "attention_2"]
    called = []
    for name, child in norm.named_children():
        child.register_forward_hook(lambda *_, name=name: called.append(name))
    model(torch.zeros(2, 3, 16, 16))
    assert called == ["attention", "attention_2"]


@pytest.mark.parametrize(
    ("attention", "placement", "message"),
    [
        ({"name": "ema", "groups": 32}, {}, r"ema after layer1\.0\.bn2 \(16 channels\).*groups"),
        (
            "se",
            {"after": "layer9.*"},
            r"'layer9\.\*' matches no submodule; places: after_conv1, after_conv2, block_end, stage_end; sub",
        ),
        ("se", {"after": "fc"}, r"the output of 'fc' is not \(B, C, H, W\), got \(2, 10\)"),
        ("se", {"stages": [4]}, r"no match in stage \[4\]; stages there: \[1, 2, 3\]"),
        ("se", {"min_channels": 65}, r"widths there: \[16, 32, 64\]"),
    ],
)
def test_what_does_not_fit_is_named(make_spec, attention, placement, message):
    with pytest.raises(SpecError, match=message):
        check_model(make_spec(attention, model={"placement": placement}))


def write_module(path, body):
    path.write_text(
        "from torch import nn\n\n\nclass Own(nn.Module):\n"
        "    def __init__(self, channels: int) -> None:\n        super().__init__()\n"
        f"        {body}\n\n    def forward(self, x):\n        return x.mean((2, 3), keepdim=True)\n"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pass", r"must keep \(B, C, H, W\) = \(2, 16, 16, 16\), got \(2, 16, 1, 1\)"),
        ("{}['absent']", r"\(16 channels\): KeyError: 'absent'"),
    ],
    ids=["changes the shape", "cannot be built"],
)
def test_an_own_module_that_does_not_fit_is_named(make_spec, tmp_path, monkeypatch, body, message):
    monkeypatch.chdir(tmp_path)
    name = "own_" + ("shape" if body == "pass" else "broken")
    write_module(tmp_path / f"{name}.py", body)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SpecError, match=message):
        check_model(make_spec(f"{name}:Own"))


def test_a_module_called_twice_cannot_carry_attention(make_spec):
    placement = {"after": "layer1.0.relu"}
    spec = make_spec("se", model={"backbone": "resnet18", "placement": placement}, data={"image_size": 64})
    with pytest.raises(SpecError, match=r"'layer1\.0\.relu' is called 2 times"):
        check_model(spec)
