"""Warm process: a command that it runs is as one that starts by itself, signals and exit code included."""

import os
import select
import signal
import subprocess
import sys

import pytest

from ema_lab.workflow.search.warm import warm_process

COMMAND = [sys.executable, "-c", "from ema_lab.cli.main import main; main()"]
PLUGIN = """
import os, signal, sys
from pathlib import Path
Path("pid").write_text(str(os.getpid()))
print("waiting", flush=True)
signal.pause()

class Gate:
    def __init__(self, channels): ...
"""


@pytest.fixture(scope="module")
def warm():
    with warm_process(["ema_lab.cli.commands", "torch", "no_module_of_this_name"]) as path:
        yield {**os.environ, "EMA_LAB_WARM": path}


@pytest.mark.parametrize("arguments", [["--version"], ["list", "recipe", "--json"], ["show", "nothing"]])
def test_a_command_is_the_same_in_a_warm_process(warm, tmp_path, arguments):
    own, forked = (
        subprocess.run([*COMMAND, *arguments], env=variables, cwd=tmp_path, capture_output=True, check=False)
        for variables in (None, warm)
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (own.returncode, own.stdout, own.stderr)
    assert own.returncode == (2 if "nothing" in arguments else 0)


def test_without_its_warm_process_a_command_starts_by_itself(tmp_path):
    variables = {**os.environ, "EMA_LAB_WARM": str(tmp_path / "gone")}
    done = subprocess.run([*COMMAND, "--version"], env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:8], done.stderr) == (0, "ema-lab ", "")


@pytest.fixture
def waiting(warm, tmp_path):
    """A command that waits in a process of its own, and that process's id."""
    (tmp_path / "waits.py").write_text(PLUGIN)
    arguments = ["check", "waits:Gate"]  # imports the module
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*COMMAND, *arguments], env=warm, cwd=tmp_path, **pipes)
    assert process.stderr.readline() == "waiting\n"  # where the command shows what a module prints
    yield process, int((tmp_path / "pid").read_text())
    process.communicate(timeout=60)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_reach_the_command(waiting, number, code):
    process, pid = waiting
    assert pid != process.pid
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    wait_for_end(pid)


def test_a_command_ends_with_the_process_that_waits_for_it(waiting):
    process, pid = waiting
    process.kill()
    process.wait()
    wait_for_end(pid)


def test_a_command_that_is_killed_is_told_apart(waiting):
    process, pid = waiting
    os.kill(pid, signal.SIGKILL)
    assert process.wait() == 137


def wait_for_end(pid: int) -> None:
    """Wait until a process is gone, which is not a child of this one."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], 60)[0]
    os.close(descriptor)
