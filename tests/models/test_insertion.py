import copy
import pickle

import pytest
import torch
from torch import nn

from ema_lab.attention import build_attention
from ema_lab.errors import SpecError
from ema_lab.models.build import build_model
from ema_lab.models.dropout import seed_dropout
from ema_lab.models.insertion import CHILD, insert

EMA = {"name": "ema", "groups": 4}


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


class Shadowed(nn.Module):
    """Layer that replaces its own `forward` attribute, as some published backbones do."""

    def __init__(self):
        super().__init__()
        self.forward = self.forward_in_training

    def forward_in_training(self, x):
        return x + 1


@pytest.fixture(autouse=True)
def _nothing_compiled():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def images(size=16):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def apply_by_hook(module, _inputs, output):
    for name, child in module.named_children():
        if CHILD.fullmatch(name):
            output = child(output)
    return output


def by_hooks(plain, inserted):
    """Build the model by forward hooks, as earlier releases did for results that are still valid."""
    for name, module in inserted.named_modules():
        if CHILD.fullmatch(name.rpartition(".")[2]):
            target = plain.get_submodule(name.rpartition(".")[0])
            target.add_module(name.rpartition(".")[2], copy.deepcopy(module))
            if apply_by_hook not in target._forward_hooks.values():
                target.register_forward_hook(apply_by_hook)
    return plain


@pytest.mark.parametrize("attention", ["se", "cbam", EMA], ids=str)
def test_keys_outputs_and_gradients_are_those_of_forward_hooks(make_spec, attention):
    model = build_model(make_spec(attention, model={"also": [{"attention": "eca"}]}))
    old = by_hooks(build_model(make_spec("none")), model)
    assert list(model.state_dict()) == list(old.state_dict())
    assert model.state_dict()._metadata == old.state_dict()._metadata
    results = []
    for network in (model, old):
        network.train()(images()).square().sum().backward()
        state = {key: value.clone() for key, value in network.state_dict().items()}
        results.append((network.eval()(images()), [value.grad for value in network.parameters()], state))
    (output, gradients, state), (expected, expected_gradients, expected_state) = results
    assert torch.equal(output, expected)
    assert all(map(torch.equal, gradients, expected_gradients))
    assert all(torch.equal(state[key], expected_state[key]) for key in expected_state)


def small(variant):
    """Build a network of two sites, with attention after both; a compiled ResNet is in test_build.py."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16)
    )
    for site in () if variant == "none" else ("1", "4"):
        name, options = (variant, {"reduction": 4}) if variant == "se" else ("ema", {"groups": variant})
        insert(model, site, build_attention(name, 16, **options))
    return model.eval()


@pytest.mark.parametrize("fullgraph", [False, True])
def test_the_second_variant_that_is_compiled_has_its_attention(fullgraph):
    for variant in ("none", 4, "se", 8):
        model = small(variant)
        compiled = torch.compile(model, backend="eager", fullgraph=fullgraph)
        torch.testing.assert_close(compiled(images()), model(images()))
    assert not torch.equal(model(images()), small("none")(images()))


def test_what_is_inserted_after_compiling_is_run():
    model = small("none")
    compiled = torch.compile(model, backend="eager")
    before = compiled(images())
    insert(model, "1", Double())
    torch.testing.assert_close(compiled(images()), model(images()))
    assert not torch.equal(compiled(images()), before)


def test_no_hook_is_left_on_a_site_and_its_class_keeps_its_name(make_spec):
    site = build_model(make_spec("se")).get_submodule("layer1.0.bn2")
    assert not site._forward_hooks
    assert isinstance(site, nn.BatchNorm2d)
    assert (type(site).__name__, type(site).__module__) == ("BatchNorm2d", nn.BatchNorm2d.__module__)


def test_a_layer_that_sets_its_own_forward_carries_too():
    model = nn.Sequential(Shadowed())
    insert(model, "0", Double())
    assert model(torch.zeros(1)).item() == 2


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copied_site_carries_and_takes_further_insertions(copied):
    model = nn.Sequential(nn.ReLU())
    insert(model, "0", Double())
    again = nn.Sequential(copied(model[0]))
    assert type(again[0]) is type(model[0])
    assert again(torch.ones(1)).item() == 2
    assert insert(again, "0", Double()) == "0.attention_2"
    assert again(torch.ones(1)).item() == 4


def test_a_site_with_parametrized_weights_carries_and_is_copied():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)))
    plain = model(images())
    insert(model, "0", Double())
    assert torch.equal(model(images()), 2 * plain)
    assert torch.equal(copy.deepcopy(model)(images()), 2 * plain)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.Dropout2d(0.5)], ids=["element", "channel"])
def test_attention_after_a_dropout_stays_when_the_dropout_is_seeded(layer):
    model = nn.Sequential(layer)
    insert(model, "0", Double())
    insert(model, "0", Double())
    seed_dropout(model, 0)
    assert [name for name, _ in model[0].named_children()] == ["attention", "attention_2"]
    assert torch.equal(model.eval()(images()), 4 * images())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_scripted_layer_is_refused_in_one_line():
    model = nn.Sequential(torch.jit.trace(nn.ReLU(), torch.ones(1)))
    with pytest.raises(SpecError, match=r"'0' is compiled by torch\.jit: nothing can be inserted there"):
        insert(model, "0", Double())


def test_a_tracer_sees_attention_below_a_library_layer():
    model = nn.Sequential(nn.BatchNorm2d(3))
    insert(model, "0", nn.Sigmoid())
    called = [str(node.target) for node in torch.fx.symbolic_trace(model).graph.nodes]
    assert called[1:3] == ["0", "0.attention"]
