"""Control modules: cost-matched bottlenecks, and modules that learn nothing."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.attention import build_attention
from ema_lab.errors import SpecError
from ema_lab.models.build import build_model
from ema_lab.models.matched import Bottleneck, matched_widths
from ema_lab.profiling.measure import count_parameters, measure_cost

OF = ["se", "ca", "ema", {"name": "ema", "groups": 8}, "gam", {"name": "frozen", "of": {"name": "ema"}}]
SMALL_OF = [{"name": "ema", "groups": 4}, "gam"]


def parameters(spec):
    return count_parameters(build_model(spec, device="meta"))["parameters"]


def named(of):
    return of if isinstance(of, dict) else {"name": of}


@pytest.mark.parametrize(
    ("backbone", "of"),
    [*(("resnet50", of) for of in OF), *(("mobilenet_v3_large", of) for of in ("ca", {"name": "gam"}))],
    ids=str,
)
def test_the_added_parameters_are_the_modules_within_a_hundredth(make_spec, backbone, of):
    model, data = {"backbone": backbone}, {"image_size": 64}
    base = parameters(make_spec(model=model, data=data))
    added = parameters(make_spec(of, model=model, data=data)) - base
    control = {"name": "matched", "of": named(of)}
    assert parameters(make_spec(control, model=model, data=data)) - base == pytest.approx(added, rel=0.01)


@pytest.mark.parametrize("of", SMALL_OF, ids=str)
def test_the_added_macs_are_the_modules_within_a_hundredth(make_spec, of):
    def macs(attention):
        return measure_cost(build_model(make_spec(attention)), image_size=16)["macs"]

    added = macs(of) - macs("none")
    control = {"name": "matched", "of": named(of), "by": "macs"}
    assert macs(control) - macs("none") == pytest.approx(added, rel=0.01)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (
            "eca",
            r"^matched: 1 x 1 bottlenecks cannot match 27 parameters within 1 %: the nearest total is 32 ",
        ),
        ("simam", r"^matched: the module to match adds no parameters: there is nothing to match"),
        ("identity", r"^matched: the module to match adds no parameters: there is nothing to match"),
    ],
)
def test_what_cannot_be_matched_names_the_nearest(make_spec, of, message):
    with pytest.raises(SpecError, match=message):
        build_model(make_spec({"name": "matched", "of": {"name": of}}), device="meta")


@given(
    places=st.lists(st.tuples(st.integers(0, 60), st.sampled_from([4, 6, 10, 16])), min_size=1, max_size=3)
)
def test_no_other_widths_come_nearer(places):
    targets, units = zip(*places, strict=True)
    total = sum(targets)
    ranges = [range(total // unit + 2) for unit in units]
    totals = [sum(w * u for w, u in zip(widths, units, strict=True)) for widths in product(*ranges)]
    best = min(abs(other - total) for other in totals)
    try:
        widths = matched_widths(targets, units)
    except ValueError as error:
        assert total == 0 or best > 0.01 * total
        if total == 0:
            return
        nearest = int(str(error).partition("nearest total is ")[2].partition(" ")[0])
        assert abs(nearest - total) == best
    else:
        assert all(width >= 0 for width in widths)
        assert abs(sum(w * u for w, u in zip(widths, units, strict=True)) - total) <= 0.01 * total


def test_widths_are_in_proportion_to_what_the_module_adds():
    assert matched_widths([1000, 2000, 4000], [10, 20, 40]) == [100, 100, 100]
    assert matched_widths([1000, 0, 3000], [10, 10, 10]) == [100, 0, 300]


def test_a_bottleneck_adds_to_its_input_and_one_of_no_width_is_the_identity():
    x = torch.randn(2, 8, 3, 3)
    module = Bottleneck(8, 2)
    reduce, expand = module.reduce.weight[:, :, 0, 0], module.expand.weight[:, :, 0, 0]
    expected = x + torch.einsum("ch,bhyx->bcyx", expand, torch.einsum("hc,bcyx->bhyx", reduce, x).relu())
    torch.testing.assert_close(module(x), expected)
    assert Bottleneck(8, 0)(x) is x


def test_alone_it_matches_one_module_and_needs_a_model_for_macs():
    module = build_attention("matched", 64, of={"name": "se", "reduction": 4})
    assert sum(p.numel() for p in module.parameters()) == 2 * 64 * 16
    with pytest.raises(ValueError, match="needs a model's image size to match MACs"):
        build_attention("matched", 64, of={"name": "se"}, by="macs")


def test_frozen_starts_as_the_trained_module_and_stays(make_spec):
    of = {"name": "ema", "groups": 4}
    trained, frozen = build_model(make_spec(of)), build_model(make_spec({"name": "frozen", "of": of}))
    assert trained.state_dict().keys() == frozen.state_dict().keys()
    for key, value in trained.state_dict().items():
        assert torch.equal(value, frozen.state_dict()[key])
    still = {name for name, p in frozen.named_parameters() if not p.requires_grad}
    assert still == {name for name in trained.state_dict() if ".attention." in name}


def test_frozen_needs_something_to_freeze(make_spec):
    with pytest.raises(
        SpecError, match=r"frozen after layer1.0.bn2 .* needs a module with weights, got of='simam'"
    ):
        build_model(make_spec({"name": "frozen", "of": {"name": "simam"}}), device="meta")
