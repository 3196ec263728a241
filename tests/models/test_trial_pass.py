"""Trial pass: models that cannot run are refused before the first epoch; models that need values pass."""

import re

import pytest
import torch
from torch import nn

from ema_lab.attention.se import SE
from ema_lab.errors import SpecError
from ema_lab.models.build import build_model
from ema_lab.models.trial_pass import UNKNOWN, layer_of, output_of, shape_of
from ema_lab.specs.run import RunSpec
from ema_lab.tasks.task import check_run

GATE = """
import torch
from torch import nn


class Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(INPUT, channels, 1)
        LAZY

    def forward(self, x):
        BODY
        return x * self.mix(x).sigmoid()


def net(classes, channels):
    return Net(classes, channels)


class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.gate = Gate(channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(self.gate(x).mean((2, 3)))
"""
NEEDS_VALUES = [
    "x = x * float(x.mean() > -9)",
    "x = x if x.max() > -9 else x + 1",
    "x = x + torch.from_numpy(x.detach().numpy() * 0)",
    "x = x * (1 + 0 * x.nonzero().sum())",
    "x = x * torch.ones(1, device='cpu')",
    "x = x * len(x.mean((2, 3)).tolist())",
]
CANNOT_RUN = [
    ("x = x.view(x.shape[0], 7, -1)", "RuntimeError"),
    ("x = self.absent(x)", "AttributeError"),
    ("x = x + torch.zeros(5)", "RuntimeError"),
    ("x = x[0, 0, 0, 0, 0]", "IndexError"),
    ("raise KeyError('made')", "KeyError"),
    ("x = float(x.mean()) * self.absent(x)", "AttributeError"),
    ("assert float(x.mean()) > 9, 'too small'", "AssertionError: too small"),
]


@pytest.fixture
def write(tmp_path, monkeypatch, request):
    """Return a function that writes a custom module and returns its name and the location of its body."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write_module(body="pass", width="channels", lazy="pass"):
        name = f"own_trial_{abs(hash((body, width, lazy, request.node.name)))}"
        text = GATE.replace("BODY", body).replace("INPUT", width).replace("LAZY", lazy)
        (tmp_path / f"{name}.py").write_text(text)
        line = 1 + next(i for i, text_line in enumerate(text.splitlines()) if text_line.strip() == body)
        return name, f"{name}.py:{line}"

    return write_module


@pytest.mark.parametrize("body", NEEDS_VALUES)
def test_what_only_needs_values_is_not_refused(make_spec, write, body):
    name, _ = write(body)
    check_run(make_spec(f"{name}:Gate"))
    check_run(make_spec("none", model={"backbone": f"{name}:net"}))


@pytest.mark.parametrize("part", ["Gate", "net"])
def test_a_constructor_that_only_needs_values_is_not_refused(make_spec, write, part):
    name, _ = write(lazy="self.start = self.mix.weight.detach().numpy().mean()")
    model = {"backbone": f"{name}:net"} if part == "net" else {}
    check_run(make_spec("none" if model else f"{name}:Gate", model=model))


@pytest.mark.parametrize(("body", "expected"), CANNOT_RUN)
def test_attention_that_cannot_run_is_named_with_its_line_layer_and_channels(
    make_spec, write, body, expected
):
    name, location = write(body)
    with pytest.raises(SpecError) as caught:
        check_run(make_spec(f"{name}:Gate"))
    message = str(caught.value)
    assert message.startswith(f"{name}:Gate after layer1.0.bn2 (16 channels) fails")
    assert expected in message
    assert f"({location})" in message
    assert "\n" not in message


@pytest.mark.parametrize(("body", "expected"), CANNOT_RUN)
def test_a_backbone_that_cannot_run_is_named_with_its_line_and_layer(make_spec, write, body, expected):
    name, location = write(body)
    with pytest.raises(SpecError) as caught:
        check_run(make_spec("none", model={"backbone": f"{name}:net"}))
    message = str(caught.value)
    assert message.startswith(f"backbone {name}:net fails at 'gate' on an input of shape (2, 3, ")
    assert expected in message
    assert f"({location})" in message


def test_the_layer_is_the_innermost_one(make_spec, write):
    name, _ = write(width="channels + 1")
    with pytest.raises(SpecError, match=r"fails at 'mix' on an input .*own_trial_\d+\.py:14"):
        check_run(make_spec(f"{name}:Gate"))


def test_a_pattern_over_a_backbone_that_cannot_run_names_the_line(make_spec, write):
    name, location = write("x = self.absent(x)")
    model = {"backbone": f"{name}:net", "placement": {"after": "gate"}}
    rule = rf"cannot take images of shape .* \(at 'gate'\): AttributeError: .*{re.escape(location)}"
    with pytest.raises(SpecError, match=rule):
        check_run(make_spec("se", model=model))


@pytest.mark.parametrize("model", [{"attention": "OWN:Gate"}, {"backbone": "OWN:net", "attention": "none"}])
@pytest.mark.parametrize(
    ("lazy", "rule"),
    [
        (
            "self.late = nn.LazyConv2d(4, 1)",
            "late: LazyConv2d has no values before its first input; use Conv2d",
        ),
        (
            "self.late = nn.UninitializedParameter()",
            "late: UninitializedParameter .*; give it a shape in __init__",
        ),
        ("self.register_buffer('late', nn.UninitializedBuffer())", "late: UninitializedBuffer has no values"),
        ("self.mix.late = nn.UninitializedParameter()", r"mix\.late: UninitializedParameter has no values"),
    ],
)
@pytest.mark.parametrize("use", [check_run, build_model], ids=["check", "build"])
def test_values_that_the_first_input_shapes_are_refused_in_one_line(make_spec, write, model, use, lazy, rule):
    name, _ = write(lazy=lazy)
    own = {key: value.replace("OWN", name) for key, value in model.items()}
    with pytest.raises(SpecError, match=rule) as caught:
        use(make_spec(own.pop("attention"), model=own))
    assert "\n" not in str(caught.value)


def test_what_needs_a_gpu_is_not_refused_without_one(monkeypatch):
    class NeedsGpu(nn.Module):
        def forward(self, x):
            raise RuntimeError("Found no NVIDIA driver on your system")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    shape = (2, 4, 3, 3)
    assert output_of("it", NeedsGpu(), shape, with_values=NeedsGpu) is UNKNOWN
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(SpecError, match="it fails on an input"):
        output_of("it", NeedsGpu(), shape, with_values=NeedsGpu)


DETECTION = {
    "model": {"backbone": "yolov5s", "attention": "se", "placement": {"after": "stage4"}},
    "data": {"name": "synthetic_scenes"},
    "recipe": {"epochs": 1, "batch_size": 4, "optimizer": {"name": "sgd", "lr": 0.1}},
    "seed": 0,
}


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_a_model_that_needs_a_gpu_passes_the_check_without_one(make_spec, monkeypatch, task):
    def needs_gpu(_self, _x):
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(SE, "forward", needs_gpu)
    check_run(make_spec("se") if task == "classification" else RunSpec.model_validate(DETECTION))


def test_a_trial_neither_reads_nor_moves_the_global_generator():
    class Random(nn.Module):
        def forward(self, x):
            return x * float(torch.rand(()))

    before = torch.get_rng_state()
    out = output_of("it", Random().to("meta"), (1, 1, 2, 2), with_values=Random)
    assert shape_of(out) == (1, 1, 2, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_error_outside_of_the_model_has_no_layer():
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018
    assert layer_of(caught.value, nn.ReLU()) == ""
