"""Names that installed packages declare by entry points: listed, shown and placed like our own."""

import json
import sys
from pathlib import Path

import pytest
from tiny import TINY

from ema_lab.registry import registry

GATE = '''\
"""A gate from elsewhere."""

from torch import nn


class Gate(nn.Module):
    """Scales by one number.

    Args:
        channels: Channels of the input.
        scale: The number.
    """

    def __init__(self, channels: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return self.scale * x
'''


@pytest.fixture
def install(folder, tmp_path, monkeypatch):
    """Return a function that installs a distribution as pip leaves it: a module and a dist-info folder."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    registry.all_installed.cache_clear()

    def install(entry_points: str, distribution: str = "gates-dist", module: str = "gates_of_others") -> Path:
        info = tmp_path / "site" / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        path = tmp_path / "site" / f"{module}.py"
        path.write_text(GATE)
        return path

    yield install
    registry.all_installed.cache_clear()
    sys.modules.pop("gates_of_others", None)


def test_a_module_of_an_installed_package_is_named_like_our_own(command, install):
    install("[ema_lab.attention]\nother_gate = gates_of_others:Gate\n")
    rows = {row["name"]: row["about"] for row in json.loads(command("list", "attentions", "--json").out)}
    assert rows["other_gate"] == "A gate from elsewhere (from gates-dist)"
    assert "from" not in rows["identity"]
    shown = command("show", "attention", "other_gate").out
    assert shown.startswith("attention other_gate (from gates-dist)\n")
    assert "scale: float (default 1.0)" in shown
    assert command("show", "other_gate").out == shown
    assert "gates_of_others" not in sys.modules  # its source was read, not run
    Path("ablations/tiny.yaml").write_text(TINY.replace("{name: se, reduction: 4}", "{name: other_gate}"))
    planned = command("plan", "tiny", "--check")
    assert (planned.code, "4 pending" in planned.err) == (0, True)
    trained = command("run", "tiny", "--smoke", "--only", "variant=se", "--device", "cpu")
    assert trained.code == 0, trained.err


def test_an_option_of_an_installed_module_is_checked(command, install):
    install("[ema_lab.attention]\nother_gate = gates_of_others:Gate\n")
    text = TINY.replace("{name: se, reduction: 4}", "{name: other_gate, scal: 2.0}")
    Path("ablations/tiny.yaml").write_text(text)
    answer = command("plan", "tiny")
    assert answer.code == 2
    assert "no key is named 'scal'; did you mean 'scale'?" in answer.err


@pytest.mark.parametrize("words", ["list attentions", "show attention se", "plan tiny"])
def test_a_name_that_is_ours_too_is_an_error_where_it_is_used_or_listed(command, install, words):
    install("[ema_lab.attention]\nse = gates_of_others:Gate\n")
    answer = command(*words.split())
    assert answer.code == 2
    assert "the attention 'se' is declared by ema-lab itself and gates-dist; uninstall one" in answer.err


@pytest.mark.parametrize("words", ["list datasets", "show attention ema", "plan tiny --only variant=none"])
def test_a_name_that_is_ours_too_disturbs_nothing_else(command, install, words):
    install("[ema_lab.attention]\nse = gates_of_others:Gate\n")
    Path("ablations/tiny.yaml").write_text(TINY.replace("{name: se, reduction: 4}", "eca"))
    assert command(*words.split()).code == 0


def test_two_packages_that_declare_one_name_are_both_named(command, install):
    for distribution in ("gates-dist", "more-gates"):
        install("[ema_lab.attention]\nother_gate = gates_of_others:Gate\n", distribution)
    assert "is declared by gates-dist and more-gates" in command("show", "attention", "other_gate").err


def test_a_package_that_is_broken_hides_no_other(command, install):
    install("[ema_lab.attention]\nother_gate = not_there_for_test:Gate\n")
    rows = {row["name"]: row["about"] for row in json.loads(command("list", "attentions", "--json").out)}
    assert rows["other_gate"] == (
        "cannot be read: no Python module 'not_there_for_test' on the import path or in this folder "
        "(from gates-dist)"
    )
    assert "did you mean 'other_gate'" in command("show", "attention", "other_gat").err


@pytest.mark.parametrize(
    ("kind", "group"), [("backbones", "ema_lab.backbones"), ("datasets", "ema_lab.datasets")]
)
def test_backbones_and_data_sets_are_found_too(command, install, kind, group):
    install(f"[{group}]\nother = gates_of_others:Gate\n")
    rows = {row["name"]: row["about"] for row in json.loads(command("list", kind, "--json").out)}
    assert rows["other"] == "Scales by one number (from gates-dist)"


def test_a_helper_from_another_folder_is_named_by_plan_and_check(command, folder, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "shared_by_gates.py").write_text("SCALE = 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    monkeypatch.syspath_prepend(str(folder))
    Path("gate_with_helper.py").write_text(f"import shared_by_gates\n{GATE}")
    text = TINY.replace("{name: se, reduction: 4}", "'gate_with_helper:Gate'")
    Path("ablations/tiny.yaml").write_text(text)
    line = f"shared_by_gates ({tmp_path}/elsewhere/shared_by_gates.py) is imported from another folder than"
    for words in (["plan", "tiny"], ["plan", "tiny", "--check"], ["check", "gate_with_helper:Gate"]):
        assert [said.startswith(line) for said in command(*words).err.splitlines()].count(True) == 1
    Path("gate_with_helper.py").write_text(GATE)
    assert "another folder" not in command("plan", "tiny").err


def test_packages_are_searched_once_for_all_kinds_of_names(install, monkeypatch):
    searches, search = [], registry.importlib.metadata.entry_points
    monkeypatch.setattr(
        registry.importlib.metadata, "entry_points", lambda **by: (searches.append(by), search(**by))[1]
    )
    install(
        "[ema_lab.attention]\none_gate = a:Gate\n\n[ema_lab.tasks]\none_task = a:TASK\n[others]\nx = a:b\n"
    )
    assert registry.installed("ema_lab.attention")["one_gate"][0].distribution == "gates-dist"
    assert registry.installed("ema_lab.tasks")["one_task"][0].target == "a:TASK"
    assert registry.installed("others") == {}
    assert searches == [{}]
