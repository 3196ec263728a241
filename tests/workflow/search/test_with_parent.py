"""A command that ends with the process that started it."""

import signal
import subprocess
import sys
import time

import pytest

WRAPPER = [sys.executable, "-m", "ema_lab.workflow.search.with_parent"]
CHILD = """\
import os, pathlib, sys, time
here = pathlib.Path(sys.argv[1])
try:
    (here / "pid.new").write_text(str(os.getpid()))
    (here / "pid.new").rename(here / "pid")
    time.sleep(60)
except KeyboardInterrupt:
    (here / "told").touch()
"""
PARENT = """\
import subprocess, sys, time
subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
time.sleep(60)
"""


def wait_for(condition) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def lives(pid: str) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_is_stopped_when_its_parent_dies(tmp_path, number):
    child = [*WRAPPER, sys.executable, "-c", CHILD, str(tmp_path)]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *child])
    wait_for((tmp_path / "pid").exists)
    parent.send_signal(number)
    parent.wait()
    wait_for(lambda: not lives((tmp_path / "pid").read_text()))
    assert (tmp_path / "told").exists()  # it was asked to end, not killed


def test_is_stopped_when_its_standard_input_is_closed(tmp_path):
    child = [*WRAPPER, sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(child, stdin=subprocess.PIPE) as process:
        wait_for((tmp_path / "pid").exists)
        process.stdin.close()
        assert process.wait(120) == 0
    assert (tmp_path / "told").exists()


@pytest.mark.parametrize(
    ("ending", "code"), [("sys.exit(3)", 3), ("pass", 0), ("os.kill(os.getpid(), 9)", 128 + 9)]
)
def test_its_exit_code_is_reported(ending, code):
    command = [*WRAPPER, sys.executable, "-c", f"import os, sys; {ending}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.wait(120) == code
