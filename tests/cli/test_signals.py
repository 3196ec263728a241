"""Real processes, really stopped: what is left is pending, and goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ema_lab.cli.main import run
from ema_lab.store.curve import read_curve
from ema_lab.store.store import RunStore

pytestmark = pytest.mark.slow
PROGRAM = "from ema_lab.cli.main import main; main()"
ABLATION = """
name: long
base:
  model: {backbone: resnet20}
  data: {name: synthetic, image_size: 16, train_images: 256}
  recipe: {epochs: 60, batch_size: 32, optimizer: {name: sgd, lr: 0.05}}
seeds: [0, 1]
baseline: none
variants:
  none: {model.attention: none}
"""


@pytest.fixture
def grid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("long.yaml").write_text(ABLATION)
    return RunStore(tmp_path / "runs")


def start(*options: str, program: str = PROGRAM) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", program, "run", "long.yaml", "--device", "cpu", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(condition, seconds=90.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def epochs(store: RunStore) -> int:
    curves = store.root.glob("*/curve.csv")
    return max((len(path.read_text().splitlines()) - 1 for path in curves), default=0)


def learned(store: RunStore, run_id: str) -> list[dict[str, float]]:
    """Return the curve without its clock: an epoch that a kill cut off is trained, and timed, again."""
    return [
        {name: value for name, value in row.items() if name != "train_seconds"}
        for row in read_curve(store.folder(run_id))
    ]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_grid_is_pending_and_keeps_its_last_epoch(grid, workers, number, code):
    process = start("--workers", workers)
    wait_for(lambda: epochs(grid) >= 2)
    process.send_signal(number)
    _, words = process.communicate(timeout=180)
    assert process.returncode == code
    assert "Traceback" not in words
    assert "what was finished is kept, the rest is pending" in words
    for run_id in grid.run_ids():
        assert grid.state(run_id) == "pending"
        assert [attempt.outcome for attempt in grid.attempts(run_id)] == ["interrupted"]
    assert any((grid.folder(run_id) / "last.ckpt").is_file() for run_id in grid.run_ids())


STARTING = """
import sys
from ema_lab.execution.engines import local
def told(begin, words):
    def beginning(*arguments, **options):
        print(words, file=sys.stderr, flush=True)
        return begin(*arguments, **options)
    return beginning
local._context = told(local._context, "the server starts")
from ema_lab.cli.main import main
main()
"""


def test_ctrl_c_while_the_workers_are_still_starting_prints_no_traceback(grid):
    process = start("--workers", "2", program=STARTING)
    wait_for(lambda: "the server starts" in process.stderr.readline())
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "Traceback" not in words


def test_a_killed_grid_goes_on_and_counts_the_attempt(grid):
    process = start("--workers", "1")
    wait_for(lambda: epochs(grid) >= 2)
    process.kill()
    process.communicate(timeout=180)
    (run_id,) = grid.run_ids()
    assert grid.state(run_id) == "pending"
    before = learned(grid, run_id)
    process = start("--workers", "1", "--only", "seed=0")
    wait_for(lambda: epochs(grid) > len(before))
    process.terminate()
    process.communicate(timeout=180)
    assert learned(grid, run_id)[: len(before)] == before
    assert [attempt.outcome for attempt in grid.attempts(run_id)] == [None, "interrupted"]


def test_a_run_that_takes_too_long_is_stopped_and_says_so(grid, capsys):
    Path("long.yaml").write_text(ABLATION.replace("epochs: 60", "epochs: 100000"))
    process = start("--workers", "2", "--timeout", "4s", "--max-attempts", "1")
    _, words = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "RunTimeoutError: stopped after 4 s" in words
    run(["status", "long.yaml", "--max-attempts", "1", "--json"])
    assert {row["status"] for row in json.loads(capsys.readouterr().out)} == {"failed"}
