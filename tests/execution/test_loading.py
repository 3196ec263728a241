"""The imports of a run are loaded once, by the server of the workers, while this process checks the runs."""

import gc
import multiprocessing.forkserver as forkserver
import os
import signal
import subprocess
import sys

import pytest

from ema_lab.cli.main import main
from ema_lab.collector import without_collector
from ema_lab.execution.engines.local import LocalEngine

GRID = """
name: two
base: {model: {backbone: resnet20, attention: none}, data: {name: digits, train_images: 20}}
seeds: [0, 1]
variants: {plain: {recipe: {use: digits-quick, epochs: 1, batch_size: 10}}}
"""
RUN = """
import sys
from ema_lab.cli.main import run

if __name__ == "__main__":
    assert run("run two.yaml --workers 2 --threads 1".split()) == 0
    loaded = {"torch", "lightning"} & sys.modules.keys()
    assert loaded == {"torch"}, loaded
"""
WARM = """
import gc, sys
from ema_lab.cli.warm import serve
from ema_lab.workflow.search.wandb_agents import LOADED

serve(sys.argv[1], LOADED)
assert gc.isenabled()
assert "lightning" in sys.modules
"""
BLOCKED = """
import multiprocessing.forkserver, pathlib, sys
from ema_lab.execution.engines.local import LocalEngine

try:
    with LocalEngine(2).loading(lambda: None):
        number = multiprocessing.forkserver._forkserver._forkserver_pid
        print(pathlib.Path(f"/proc/{number}/status").read_text())
        sys.exit()
except SystemExit:
    pass
"""


@pytest.fixture
def no_server():
    """No server of workers, before and after the test."""

    def end() -> None:
        if (number := forkserver._forkserver._forkserver_pid) is not None:
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)
            os.close(forkserver._forkserver._forkserver_alive_fd)
            forkserver._forkserver._forkserver_pid = None
            forkserver._forkserver._forkserver_alive_fd = None

    end()
    yield
    end()


def test_a_system_without_waitid_forgets_the_killed_server(no_server, monkeypatch):
    monkeypatch.delattr(os, "waitid")
    with pytest.raises(ZeroDivisionError), LocalEngine(2).loading(lambda: None):
        raise ZeroDivisionError
    assert forkserver._forkserver._forkserver_pid is None
    with LocalEngine(2).loading(lambda: None):
        assert forkserver._forkserver._forkserver_pid is not None


def test_the_server_of_workers_loads_during_the_checks_and_is_killed_if_they_fail(no_server):
    with LocalEngine(2).loading(lambda: None):
        number = forkserver._forkserver._forkserver_pid
    assert os.waitpid(number, os.WNOHANG) == (0, 0)
    with pytest.raises(ZeroDivisionError), LocalEngine(2).loading(lambda: None):
        raise ZeroDivisionError
    end = os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    assert (end.si_code, end.si_status) == (os.CLD_KILLED, signal.SIGKILL)
    with LocalEngine(2).loading(lambda: None):  # such as the next call from a notebook
        assert forkserver._forkserver._forkserver_pid != number


def test_a_ctrl_c_does_not_reach_the_server_amid_its_imports():
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, check=True)
    blocked = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("SigBlk"))
    assert int(blocked, 16) >> signal.SIGINT - 1 & 1


def test_a_process_that_trains_itself_starts_no_server(no_server):
    loaded = []
    with LocalEngine(1).loading(lambda: loaded.append(True)):
        assert (forkserver._forkserver._forkserver_pid, loaded) == (None, [True])
    with pytest.raises(ZeroDivisionError), LocalEngine(1).loading(lambda: None):
        raise ZeroDivisionError


@pytest.mark.slow
def test_a_process_that_hands_runs_to_workers_loads_no_lightning(tmp_path):
    (tmp_path / "two.yaml").write_text(GRID)
    (tmp_path / "program.py").write_text(RUN)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("was_on", [True, False])
def test_imports_leave_the_garbage_collector_as_it_was(was_on):
    before = gc.isenabled()
    try:
        (gc.enable if was_on else gc.disable)()
        with without_collector():
            assert not gc.isenabled()
        assert gc.isenabled() is was_on
        with pytest.raises(ImportError), without_collector():
            raise ImportError
        assert gc.isenabled() is was_on
    finally:
        (gc.enable if before else gc.disable)()


def test_the_end_of_a_command_searches_nothing_that_was_imported(monkeypatch, capsys):
    frozen = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    with pytest.raises(SystemExit):
        main(["--version"])
    assert frozen == [True]


@pytest.mark.slow
def test_a_warm_process_has_loaded_what_trains_and_collects_garbage(tmp_path):
    words = [sys.executable, "-c", WARM, str(tmp_path / "socket")]
    done = subprocess.run(words, input="", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
