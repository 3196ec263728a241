"""Standard streams that are closed, full, or of another encoding: one line and exit code 2, no traceback."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ema_lab.cli

COMMANDS = ["--version", "--help", "list ablations", "list --json", "show cifar-200", "plan quickstart"]


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = line.replace("ema-lab", f"'{sys.executable}' -c 'from ema_lab.cli.main import main; main()'")
    given = {**os.environ, "PYTHONPATH": str(Path(ema_lab.cli.__file__).parents[2]), **environment}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=given, check=False)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_output_is_one_line(folder, command, unbuffered):
    done = shell(f"ema-lab {command} >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[-1] == "ema-lab: standard output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr


def test_an_output_without_the_signs_is_one_line(folder):
    done = shell("ema-lab report tiny", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("ema-lab: standard output is ascii, which has no '\\u")
    assert "set PYTHONIOENCODING=utf-8" in line


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_error(folder, closed):
    done = shell(f"ema-lab plan tiny {closed}")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_lends_its_number_to_no_file(folder, closed):
    words = "from ema_lab.cli.output import open_closed_streams as o; o(); "
    probe = words + "open('n', 'w').write(str(open('x', 'w').fileno()))"
    assert shell(f"'{sys.executable}' -c \"{probe}\" {closed}").returncode == 0
    assert int(Path("n").read_text()) > 2


def test_every_command_prints_by_the_functions_that_escape():
    """`put` and `say` alone print: so no escape sequence of a record or a log reaches a terminal."""
    prints = []
    for path in Path(ema_lab.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
                prints.append(f"{path.name}:{ast.unparse(node)}")
    allowed = ("output.py:", "trial.py:print(json.dumps(", "store.py:print(f'{question}")
    assert [call for call in prints if not call.startswith(allowed)] == []
