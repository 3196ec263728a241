"""Commands that only read run no code of the modules that definitions and results name."""

import ast
import sys
from pathlib import Path

import pytest

import ema_lab

PACKAGE = Path(ema_lab.__file__).parent
RUNNING = {"eval", "exec", "compile", "__import__"}
IMPORTING = {"import_module", "exec_module", "load_module", "run_path", "run_module"}
MAY_IMPORT = {  # each takes a name that the package itself or an option chooses, never one of a record
    "__init__.py", "cli/commands.py", "cli/warm.py", "registry/registry.py", "tracking/mirror/trackio.py",
}  # fmt: skip
TRAP = '''
"""A module that tells when it is run."""
import os
from pathlib import Path

from torch import nn

Path(os.environ["TRAP"]).write_text("run")
FACTS = {"classes": 2, "channels": 1, "image_size": 8, "train_images": 8, "test_images": 4,
         "mean": [0.5], "std": [0.5]}


class Gate(nn.Module):
    """A gate."""

    def __init__(self, channels: int, ratio: int = 4, *, kind: "open(os.environ['TRAP'], 'w')" = 0):
        """Not read."""


class Good(nn.Module):
    """A gate.

    Args:
        ratio: A ratio.
    """

    def __init__(self, channels: int, ratio: int = 4):
        super().__init__()


def data(root):
    """Images."""


def net(classes, channels):
    """A backbone."""
'''
ABLATION = """
name: trap
base:
  model: {backbone: resnet20}
  data: {name: 'trap_to_read:data'}
  recipe: {epochs: 1, batch_size: 2, optimizer: {name: sgd, lr: 0.1}}
seeds: [0]
baseline: none
variants:
  none: {model.attention: none}
  mine: {model.attention: {name: 'trap_to_read:GATE'}}
  net: {model.backbone: 'trap_to_read:net', model.attention: none}
"""


def runs(call: ast.Call) -> bool:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="builtins"), attr=name):
            return name in RUNNING
    return False


def test_no_file_of_the_package_evaluates_text():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name, nodes = str(path.relative_to(PACKAGE)), list(ast.walk(ast.parse(path.read_text())))
        found += [f"{name}:{node.lineno}" for node in nodes if isinstance(node, ast.Call) and runs(node)]
        names = {getattr(node, "attr", getattr(node, "id", "")) for node in nodes}
        found += [f"{name}: {one}" for one in names & IMPORTING if name not in MAY_IMPORT]
    assert found == []


@pytest.mark.parametrize("text", ["eval('1')", "exec('1')", "builtins.eval('1')", "__import__('os')"])
def test_a_call_that_evaluates_text_is_found(text):
    assert runs(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize("text", ["model.eval()", "re.compile('x')", "torch.compile(model)"])
def test_other_calls_are_none(text):
    assert not runs(ast.parse(text, mode="eval").body)


@pytest.fixture
def trap(folder, monkeypatch):
    (folder / "trap_to_read.py").write_text(TRAP)
    (folder / "ablations" / "trap.yaml").write_text(ABLATION.replace("GATE", "Good"))
    (folder / "reports" / "trap.yaml").write_text("name: trap\ntitle: Trap\nablation: trap\n")
    monkeypatch.setenv("TRAP", str(folder / "ran"))
    monkeypatch.delitem(sys.modules, "trap_to_read", raising=False)
    return folder / "ran"


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "trap"],
        ["status", "trap"],
        ["report", "trap", "--out", "out"],
        ["list"],
        ["list", "ablations"],
        ["show", "ablation", "trap"],
        ["show", "attention", "trap_to_read:Good"],
        ["show", "dataset", "trap_to_read:data"],
        ["show", "backbone", "trap_to_read:net"],
        ["schema"],
    ],
    ids=" ".join,
)
def test_a_command_that_reads_does_not_run_a_users_module(command, trap, words):
    answer = command(*words)
    assert answer.code == 0, answer.err
    assert not trap.exists()
    assert "trap_to_read" not in sys.modules


@pytest.mark.parametrize("words", [["plan", "trap"], ["status", "trap"], ["report", "trap", "--out", "out"]])
def test_a_command_that_reads_does_not_evaluate_an_annotation(command, trap, words):
    path = trap.parent / "ablations" / "trap.yaml"
    path.write_text(path.read_text().replace("Good'", "Gate'"))
    answer = command(*words)
    assert answer.code == 2
    assert "trap_to_read.py:" in answer.err
    assert "option 'kind' must not be quoted" in answer.err
    assert not trap.exists()


def test_what_finished_runs_name_is_not_run_when_the_store_is_read(command, trap, trained):
    trained("trap")
    for words in (["store", "check"], ["store", "gc"], ["list", "runs"], ["report", "trap", "--out", "out"]):
        assert "Traceback" not in command(*words).err
    assert not trap.exists()


def test_the_trap_closes_when_the_module_is_run(command, trap):
    command("check", "trap_to_read:Good")
    assert trap.exists()
