"""A real search, really stopped: the next call tries what was being tried, once, from its checkpoint."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import TINY, rates

from ema_lab.search.objective import read_objectives
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.study import Search, SweepStudy
from ema_lab.search.sweep import load_sweep

pytestmark = pytest.mark.system  # minutes: real searches, stopped and killed
PROGRAM = [sys.executable, "-c", "from ema_lab.cli.main import main; main()"]
ABLATION = (
    TINY.replace("name: tiny", "name: base")
    .replace("train_images: 32", "train_images: 128")
    .replace("image_size: 8", "image_size: 16")
    .replace("epochs: 1, batch_size: 16", "epochs: 12, batch_size: 32")
    .replace("lr: 0.1", "lr: 0.05")
)
SWEEP = rates(
    "{distribution: log_uniform_values, min: 0.01, max: 0.5}", name="short", base="base.yaml/se", images=64
)


def begin(trials: int, workers: int) -> subprocess.Popen[str]:
    options = ["--trials", str(trials), "--workers", str(workers), "--device", "cpu"]
    return subprocess.Popen(
        [*PROGRAM, "sweep", "short.yaml", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def go_on(trials: int, workers: int = 1) -> str:
    """Call it once more, to its end, and return what it said."""
    process = begin(trials, workers)
    _, words = process.communicate(timeout=180)
    assert process.returncode == 0, words
    return words


class Watched:
    """The search as it stands."""

    def __init__(self) -> None:
        sweep = load_sweep("short.yaml")
        objectives = read_objectives(sweep, ())
        self.study = SweepStudy(
            Search(sweep, objectives, choose_strategy(sweep, objectives), Path("runs").absolute())
        )
        self.store = self.study.store

    def wait_for(self, condition, seconds: float = 90.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited too long"
            time.sleep(0.1)

    def running(self) -> list[str]:
        """Return the runs being tried that have a checkpoint and are far from their end."""
        ids = self.study.running_run_ids()
        return [one for one in ids if 2 <= self.curve(one).count("\n") - 1 <= 8]

    def curve(self, run_id: str) -> str:
        path = self.store.folder(run_id) / "curve.csv"
        return path.read_text() if path.exists() else ""

    def assert_done(self, trials: int, *, died: int) -> None:
        """Assert that so many trials are done, each dead one having one copy of the same parameters."""
        counts = self.study.counts()
        assert (counts.done, counts.own) == (trials, trials)
        found = self.study.study.get_trials()
        assert [trial.state.name for trial in found].count("FAIL") == died == len(found) - trials
        for trial in found:
            if history := trial.system_attrs.get("retry_history"):
                assert trial.params == found[history[-1]].params
        assert len({trial.params["recipe.optimizer.lr"] for trial in found}) == trials
        assert sorted(self.store.run_ids()) == sorted(one.run_ids[0] for one in self.study.trials())


@pytest.fixture
def watched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(ABLATION)
    Path("short.yaml").write_text(SWEEP)
    return Watched()


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the process ids of a search's workers: the grandchildren, forked from a server."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = dict(tuple(map(int, line.split())) for line in listed.splitlines())
    return [pid for pid, parent in parents.items() if parents.get(parent) == process.pid]


@pytest.mark.parametrize(
    ("workers", "number", "code"),
    [(1, signal.SIGINT, 130), (2, signal.SIGINT, 130), (2, signal.SIGTERM, 143)],
)
def test_a_stopped_search_goes_on_where_it_was(watched, workers, number, code):
    process = begin(3, workers)
    watched.wait_for(lambda: len(watched.running()) == workers)
    process.send_signal(number)
    _, words = process.communicate(timeout=180)
    assert process.returncode == code
    assert "Traceback" not in words
    assert "what was finished is kept, the rest is pending" in words
    stopped = watched.study.running_run_ids()
    assert len(stopped) == workers
    first = {run_id: watched.curve(run_id).splitlines()[:2] for run_id in stopped}
    for run_id in stopped:
        assert [one.outcome for one in watched.store.attempts(run_id)] == ["interrupted"]
    go_on(3)
    watched.assert_done(3, died=workers)
    for run_id in stopped:
        assert [one.outcome for one in watched.store.attempts(run_id)] == ["interrupted", "done"]
        assert watched.curve(run_id).splitlines()[:2] == first[run_id]
        assert watched.curve(run_id).count("\n") == 1 + 12


def test_a_worker_that_is_killed_costs_nothing_but_its_time(watched):
    process = begin(3, 2)
    watched.wait_for(lambda: len(watched.running()) == 2)
    os.kill(workers_of(process)[-1], signal.SIGKILL)
    _, words = process.communicate(timeout=180)
    assert process.returncode == 0, words
    watched.assert_done(3, died=1)


def test_a_search_whose_parent_is_killed_is_completed_by_the_next(watched):
    process = begin(3, 2)
    watched.wait_for(lambda: len(watched.running()) == 2)
    process.kill()
    process.communicate(timeout=180)
    go_on(3)
    counts = watched.study.counts()  # the workers may have gone on with what they were at
    assert (counts.done, counts.own, counts.running) == (3, 3, 0)
    assert {watched.store.state(one.run_ids[0]) for one in watched.study.trials()} == {"done"}


def test_more_trials_are_added_and_with_none_to_add_nothing_is_started(watched):
    go_on(2)
    go_on(3)
    watched.assert_done(3, died=0)
    assert "with" not in go_on(3).splitlines()[0]
    watched.assert_done(3, died=0)
