"""The table of commands is that of the commands themselves, and help is short."""

from typing import Any

import pytest
import typer

from ema_lab.cli.commands import ENTRIES, GROUPS
from ema_lab.cli.main import app

ROOT: Any = typer.main.get_command(app)
LONGEST = 54  # characters of a summary


def below(name: str) -> dict[str, Any]:
    return getattr(ROOT.commands[name], "commands", {})


def first_line(command: Any) -> str:
    return command.help.splitlines()[0]


@pytest.mark.parametrize("name", ENTRIES)
def test_a_summary_is_the_first_line_of_the_commands_help(name):
    assert ENTRIES[name].summary == first_line(ROOT.commands[name])
    assert ROOT.commands[name].name == name


def test_every_summary_is_short():
    lines = {name: first_line(ROOT.commands[name]) for name in ENTRIES}
    lines |= {f"{name} {sub}": first_line(each) for name in ENTRIES for sub, each in below(name).items()}
    assert {"run", "sweep plot", "store gc"} <= lines.keys()
    assert {name: line for name, line in lines.items() if len(line) > LONGEST or line[-1] != "."} == {}


def test_help_has_every_group_and_leaves_out_the_commands_of_programs(command):
    lines = command("--help").out.splitlines()
    titles = [line.removesuffix(":") for line in lines if line[:1].isalpha() and line.endswith(":")]
    assert titles == ["Options", *GROUPS, "Everywhere"]
    listed = {
        line.split()[0]: line.split(maxsplit=1)[1]
        for line in lines[lines.index("Define:") : lines.index("Everywhere:")]
        if line[:1] == " "
    }
    assert listed == {name: entry.summary for name, entry in ENTRIES.items() if not entry.hidden}
    assert "trial" not in listed
    assert command("trial", "--help").code == 0


def test_the_width_of_a_terminal_keeps_each_summary_on_one_line(command):
    assert all(len(line) < 80 for line in command("--help").out.splitlines())
