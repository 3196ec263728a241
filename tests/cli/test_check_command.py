"""`ema-lab check`: a user's own module, and the shipped things, held to their contract."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ema_lab.contract.attention import CHECKS

GATE = '''\
"""A gate."""

from torch import nn


class MyGate(nn.Module):
    """Gates channels.

    Args:
        channels: Channels of the input.
        bias: Whether there is a bias.
    """

    def __init__(self, channels: int, *, bias: bool = True) -> None:
        super().__init__()
        print("made")
        self.mix = nn.Linear(channels, channels, bias=bias)

    def forward(self, x):
        return x * self.mix(x.mean((2, 3))).sigmoid()[:, :, None, None]


class Failing(MyGate):
    def __init__(self, channels: int) -> None:
        raise KeyError("absent")


class Own(MyGate):
    pass


class Positional(MyGate):
    def __init__(self, channel, bias=True):
        super().__init__(channel, bias=bias)


class Broken(MyGate):
    """Loses the size."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x):
        return super().forward(x).mean((2, 3), keepdim=True)


class Ending(nn.Module):
    """Ends in a convolution, which returns autocast's type, and has its channels in the middle."""

    def __init__(self, spatial: bool = True, inplanes: int = 8):
        super().__init__()
        self.mix = nn.Conv2d(inplanes, inplanes, 3 if spatial else 1, padding="same")

    def forward(self, x):
        return self.mix(x)


class NoArguments(nn.Module):
    def __init__(self):
        super().__init__()


class Lazy(MyGate):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.late = nn.LazyConv2d(channels, 1)


class Unshaped(MyGate):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.late = nn.UninitializedParameter()


class Bare(nn.Module):
    pass


class Odd(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()


def pictures(root, *, count: int = 0):
    raise OSError("nothing there")


def net(classes, channels):
    raise OSError("nothing there")
'''


@pytest.fixture(autouse=True)
def _gate(folder: Path) -> None:
    (folder / "gate_to_check.py").write_text(GATE)
    sys.modules.pop("gate_to_check", None)


def rows(answer) -> dict[str, tuple[str, str]]:
    return {row["check"]: (row["result"], row["detail"]) for row in json.loads(answer.out)}


def test_a_good_module_passes(command):
    answer = command("check", "gate_to_check:MyGate", "--option", "bias=false", "--channels", "8")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].split() == ["check", "result", "detail"]
    assert len(lines) == 1 + len(CHECKS)
    assert lines[1].split() == ["is", "built", "passed", "64", "parameters"]
    summary = f"gate_to_check:MyGate (attention, 8 channels): {len(CHECKS)} passed"
    assert answer.err.splitlines()[-1] == summary


def test_a_failure_is_printed_with_its_place_and_the_code_is_1(command):
    answer = command("check", "gate_to_check:Failing", "--json")
    found = rows(answer)
    line = 1 + GATE.splitlines().index('        raise KeyError("absent")')
    assert answer.code == 1
    assert found.pop("is built") == ("failed", f"KeyError: 'absent' (gate_to_check.py:{line})")
    assert {result for result, _ in found.values()} == {"does not apply"}
    assert "(attention, 64 channels): 1 failed, 21 does not apply" in answer.err


def test_a_module_that_changes_the_shape_fails(command):
    answer = command("check", "gate_to_check:Broken", "--json")
    assert answer.code == 1
    assert rows(answer)["keeps shape and type"] == (
        "failed",
        "returns (2, 64, 1, 1) in training on (2, 64, 1, 6)",
    )


def test_a_registered_module_is_checked_at_the_first_width_that_it_takes(command):
    answer = command("check", "sa")
    assert answer.code == 0
    assert "sa (attention, 128 channels): 22 passed" in answer.err


@pytest.mark.parametrize(
    ("words", "summary"),
    [
        (["resnet20", "--image-size", "8", "--in-channels", "1", "--classes", "4"], "4 classes, 1 x 8 x 8)"),
        (["timm/test_resnet"], "timm/test_resnet (backbone, 10 classes, 3 x 32 x 32)"),
        (["digits"], "digits (data set): 8 passed, 1 does not apply"),
        (["synthetic", "--option", "train_images=20", "--option", "test_images=10"], "(data set): 9 passed"),
    ],
)
def test_a_registered_name_decides_the_kind(command, words, summary):
    answer = command("check", *words)
    assert answer.code == 0
    assert summary in answer.err


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["gate_to_check:pictures"], "(data set): 1 failed"),
        (["gate_to_check:net"], "(backbone, 10 classes, 3 x 32 x 32): 1 failed"),
        (["gate_to_check:Own", "--kind", "backbone"], "(backbone, 10 classes, 3 x 32 x 32): 1 failed"),
    ],
)
def test_the_first_parameters_or_an_option_decide_the_kind_of_own_code(command, words, place):
    answer = command("check", *words)
    assert answer.code == 1
    assert place in answer.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nope", "no attention, backbone, detector or data set is named 'nope'; did you mean 'none'?"),
        ("se --kind gate", "no kind to check is named 'gate'; known: attention, backbone, detector, dataset"),
        ("se --kind backbone", "no backbone is named 'se'"),
        ("se --option reduction", "--option takes KEY=VALUE, such as groups=8, got 'reduction'"),
        ("se --option reduction=four", "--option reduction: must be a whole number, got 'four'"),
        ("se --option redction=4", "did you mean 'reduction'?"),
        ("se --image-size 8", "--image-size is for a check of kind backbone, this one is attention"),
        ("digits --channels 8", "--channels is for a check of kind attention, this one is dataset"),
        ("nowhere:Gate", "no Python module 'nowhere' on the import path"),
        ("gate_to_check:Nope", "defines no class or function 'Nope'"),
        ("gate_to_check:Odd", "takes (width), so its kind is not clear; say --kind"),
        ("gate_to_check:Bare", "has no __init__ that can be read, so its kind is not clear; say --kind"),
        ("gate_to_check:Positional --option bias=false", "the parameter 'bias' has no type"),
        ("gate_to_check:Bare --kind attention --option bias=false", "no __init__ of it can be read"),
        ("gate_to_check:Ending --kind attention", "channels_as: inplanes}"),
        ("gate_to_check:NoArguments --kind attention", "no parameter for the number of channels"),
    ],
)
def test_a_wrong_request_is_one_line(command, words, message):
    answer = command("check", *words.split())
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    assert message in answer.err


def test_a_request_is_refused_before_torch_is_loaded(folder):
    program = (
        "import sys\n"
        "from ema_lab.cli.main import run\n"
        "assert run(['check', '--help']) == 0\n"
        "assert run(['check', 'gate_to_check:Odd']) == 2\n"
        "assert run(['check', 'se', '--option', 'redction=1']) == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_own_option_that_cannot_be_one_is_explained_in_an_ablation(command, folder):
    path = folder / "ablations" / "tiny.yaml"
    text = path.read_text()
    path.write_text(
        text.replace("{name: se, reduction: 4}", "{name: 'gate_to_check:Positional', bias: false}")
    )
    answer = command("plan", "tiny")
    assert answer.code == 2
    assert "tiny.yaml:11: " in answer.err
    assert (
        "has no option 'bias': the parameter 'bias' has no type: write it as `bias: int = True`" in answer.err
    )


@pytest.mark.parametrize("name", ["Own", "Positional"])
def test_the_name_of_the_first_parameter_decides_the_kind_too(command, name):
    answer = command("check", f"gate_to_check:{name}")
    assert f"gate_to_check:{name} (attention, 64 channels)" in answer.err


def test_a_module_that_ends_in_a_convolution_passes_with_its_channels_named(command):
    words = ("--kind", "attention", "--channels", "8", "--option", "channels_as=inplanes")
    answer = command("check", "gate_to_check:Ending", *words, "--json")
    found = rows(answer)
    assert found["computes under autocast"][0] == "passed"
    assert found["options have an effect"] == ("passed", "spatial=False changes it")
    failed = {name for name, (outcome, _) in found.items() if outcome == "failed"}
    assert failed == {"options are explained"}


@pytest.mark.parametrize(("name", "kind"), [("Lazy", "LazyConv2d"), ("Unshaped", "UninitializedParameter")])
def test_values_that_the_first_input_shapes_are_refused(command, name, kind):
    answer = command("check", f"gate_to_check:{name}", "--json")
    assert answer.code == 1
    assert f"late: {kind} has no values before its first input" in rows(answer)["is built"][1]
