"""Standard streams that are closed, full, or of another encoding: one line and exit code 2, no traceback."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ema_lab.cli

COMMANDS = ["--version", "--help", "list ablations", "list --json", "show cifar-200", "plan quickstart"]
# A process for each command, forked from one that has imported the command line.
FULL = """\
import os, sys
from ema_lab.cli.main import main
for line in sys.argv[1:]:
    for write_through in (False, True):
        if child := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), end=" ", flush=True)
        else:
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
            sys.stdout.reconfigure(write_through=write_through)
            sys.argv = ["ema-lab", *line.split()]
            main()
"""


NUMBERED = """\
from ema_lab.cli.main import main
try:
    main()
finally:
    with open("file", "w") as file, open("number", "w") as number:
        number.write(str(file.fileno()))
"""


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = line.replace("ema-lab", f"'{sys.executable}' -c 'from ema_lab.cli.main import main; main()'")
    given = {**os.environ, "PYTHONPATH": str(Path(ema_lab.cli.__file__).parents[2]), **environment}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=given, check=False)


@pytest.mark.slow
def test_a_full_output_is_one_line(folder):
    done = subprocess.run([sys.executable, "-c", FULL, *COMMANDS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2"] * 2 * len(COMMANDS)
    told = [line for line in done.stderr.splitlines() if line.startswith("ema-lab: ")]
    line = "ema-lab: standard output cannot be written: No space left on device"
    assert told == [line] * 2 * len(COMMANDS)
    assert "Traceback" not in done.stderr


def test_a_full_output_is_one_line_of_the_installed_command(folder):
    done = shell("ema-lab --version >/dev/full")
    line = "ema-lab: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, line)


@pytest.mark.parametrize(
    ("line", "code"), [("plan tiny", 0), pytest.param("plan nosuch", 2, marks=pytest.mark.slow)]
)
def test_where_messages_cannot_be_written_the_work_goes_on(folder, line, code):
    done = shell(f"ema-lab {line} 2>/dev/full")
    assert (done.returncode, "none" in done.stdout) == (code, not code)


def test_an_output_without_the_signs_is_one_line(folder):
    done = shell("ema-lab report tiny", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("ema-lab: standard output is ascii, which has no '\\u")
    assert "set PYTHONIOENCODING=utf-8" in line


@pytest.mark.parametrize(
    "command",
    [
        "plan tiny",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("list --json", "--help", "--version")),
    ],
)
def test_a_closed_output_is_one_line(folder, command):
    done = shell(f"ema-lab {command} >&-")
    line = "ema-lab: standard output is closed: what the command printed is lost"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, line)


def test_a_closed_output_is_no_error_of_a_command_that_prints_nothing(folder):
    done = shell("ema-lab retry tiny >&-")
    assert (done.returncode, "lost" in done.stderr) == (0, False)


@pytest.mark.parametrize(
    "closed", ["<&- >&- 2>&-", *(pytest.param(one, marks=pytest.mark.slow) for one in ("<&-", ">&-", "2>&-"))]
)
def test_a_closed_stream_lends_its_number_to_no_file(folder, closed):
    Path("program.py").write_text(NUMBERED)
    done = shell(f"'{sys.executable}' program.py plan tiny {closed}")
    assert done.returncode == (2 if ">&-" in closed.replace("2>&-", "") else 0)
    assert "Traceback" not in done.stderr
    assert int(Path("number").read_text()) > 2


def test_every_command_prints_by_the_functions_that_escape():
    """`put` and `say` alone print: so no escape sequence of a record or a log reaches a terminal."""
    prints = []
    for path in Path(ema_lab.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
                prints.append(f"{path.name}:{ast.unparse(node)}")
    allowed = ("output.py:", "trial.py:print(json.dumps(", "store.py:print(f'{question}")
    assert [call for call in prints if not call.startswith(allowed)] == []
