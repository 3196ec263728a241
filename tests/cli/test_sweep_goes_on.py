"""A search that is called again, as a user calls it; what trains is a fake."""

import csv
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from ema_lab.experiments.search.objective import read_objectives
from ema_lab.experiments.search.strategy import choose_strategy
from ema_lab.experiments.search.study import Search, SweepStudy
from ema_lab.experiments.search.sweep import load_sweep
from ema_lab.job import RunOutcome

SWEEP = """\
name: small
method: random
metric: {name: val_top1, goal: maximize}
run_cap: 2
command: [ema-lab, trial, "${args_json}"]
parameters:
  base: {value: tiny/se}
  seeds: {value: [0]}
  data.val_images: {value: 8}
  recipe.optimizer.lr: {values: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}
"""
CALL = ("sweep", "small", "--workers", "1", "--device", "cpu")


@pytest.fixture
def trained(folder, monkeypatch):
    """Write the sweep `small` and a training that takes no time; return the runs that it trains."""
    run_ids = []

    def train_run(spec, job, *, machine, track, report=None):
        run_ids.append(spec.run_id)
        row = {"epoch": spec.recipe.epochs, "val_top1": 90 - 10 * spec.recipe.optimizer.lr}
        with (job.folder / "curve.csv").open("w", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow(row)
        if report is not None:
            report(row)
        return RunOutcome({"top1": 50.0}, spec.recipe.epochs, {"macs": 10, "parameters": 10})

    monkeypatch.setattr("ema_lab.pipeline.train_run", train_run)
    write(SWEEP)
    return run_ids


def write(text: str) -> None:
    Path("sweeps").mkdir(exist_ok=True)
    Path("sweeps/small.yaml").write_text(text)


def found() -> SweepStudy:
    """Return the study of `small`."""
    sweep = load_sweep("small")
    objectives = read_objectives(sweep.spec, ())
    return SweepStudy(Search(sweep, objectives, choose_strategy(sweep, objectives), Path("runs")))


class TestMoreTrialsThanTheLimit:
    def test_one_that_was_begun_is_finished(self, command, trained):
        assert command(*CALL, "--trials", "4").code == 0
        found().study.ask()  # by a call with --trials 5, which is killed here
        answer = command(*CALL)
        assert answer.code == 0
        assert answer.err.startswith("small: 5 trials, 4 of them over, with 1 worker; checking")
        assert (found().counts().done, found().counts().own) == (5, 5)

    def test_with_none_begun_nothing_is_started(self, command, trained):
        command(*CALL, "--trials", "4")
        answer = command(*CALL)
        assert answer.code == 0
        assert answer.err.startswith("small: 4 finished, 0 pruned, 0 failed")

    def test_a_grid_has_its_cells_whatever_another_method_has_tried(self, command, trained):
        command(*CALL, "--trials", "3")
        write(SWEEP.replace("random", "grid").replace("run_cap: 2", "run_cap: 5"))
        answer = command(*CALL)
        assert answer.code == 0
        assert "small: 8 trials, 3 of them over, with 1 worker" in answer.err
        write(SWEEP.replace("random", "grid").replace("run_cap: 2\n", ""))
        answer = command(*CALL)
        assert "small: 9 trials, 8 of them over, with 1 worker" in answer.err
        assert "small: 9 finished" in answer.err
        assert len(trained) == len(set(trained)) == 6


class TestWorkersThatCannotBeStarted:
    @pytest.mark.parametrize("error", [EOFError(), ConnectionRefusedError()])
    def test_as_their_server_was_killed_are_no_interruption(self, command, trained, monkeypatch, error):
        def start(_process):
            raise error

        monkeypatch.setattr(ForkServerProcess, "start", start)
        answer = command(*CALL, "--workers", "2")
        assert answer.code == 1
        assert answer.err.splitlines()[1:] == [
            "ema-lab: the process that starts the workers was killed; call it again to go on"
        ]

    def test_any_more_end_the_search(self, command, trained, monkeypatch):
        def keep_asking(*_others):
            raise BrokenProcessPool

        monkeypatch.setattr("ema_lab.experiments.search.execution._keep_asking", keep_asking)
        answer = command(*CALL, "--workers", "2")
        assert answer.code == 1
        assert answer.err.endswith("others cannot be started; call it again to go on\n")
