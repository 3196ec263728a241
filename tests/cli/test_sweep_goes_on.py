"""A search that is called again, as a user calls it; what trains is a fake."""

import json
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from curved import write_curve
from tiny import rates

from ema_lab.execution.executor import execute
from ema_lab.one_run import pipeline
from ema_lab.search.mirror import trial_runs
from ema_lab.search.objective import read_objectives
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.study import Search, SweepStudy
from ema_lab.search.sweep import load_sweep
from ema_lab.store.job import RunOutcome
from ema_lab.store.quarantine import refresh
from ema_lab.store.staleness import Staleness

SWEEP = rates("{values: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}", name="small", more="run_cap: 2")
CALL = ("sweep", "small", "--workers", "1", "--device", "cpu")


class TrainedRuns(list):
    """The runs that were trained. `best`: what the next one has, but for its learning rate."""

    best = 90.0


@pytest.fixture
def trained(folder, monkeypatch):
    """Write the sweep `small` and a training that takes no time; return the runs that it trains."""
    run_ids = TrainedRuns()

    def train_run(spec, job, *, machine, track, report=None):
        run_ids.append(spec.run_id)
        row = {"epoch": spec.recipe.epochs, "val_top1": run_ids.best - 10 * spec.recipe.optimizer.lr}
        write_curve(job.folder, [row])
        if report is not None:
            report(row)
        return RunOutcome({"top1": 50.0}, spec.recipe.epochs, {"macs": 10, "parameters": 10})

    monkeypatch.setattr("ema_lab.one_run.pipeline.train_run", train_run)
    write(SWEEP)
    return run_ids


def write(text: str) -> None:
    Path("sweeps").mkdir(exist_ok=True)
    Path("sweeps/small.yaml").write_text(text)


def found() -> SweepStudy:
    """Return the study of `small`."""
    sweep = load_sweep("small")
    objectives = read_objectives(sweep, ())
    return SweepStudy(Search(sweep, objectives, choose_strategy(sweep, objectives), Path("runs")))


def change_source(run_id: str) -> None:
    """Let a run be one that another source of its module gave."""
    path = Path("runs") / run_id / "record.json"
    record = json.loads(path.read_text())
    record["source"]["module"] = "0" * 16
    path.write_text(json.dumps(record))


def train_again(study: SweepStudy, run_ids, train) -> None:
    """Do what `run --refresh` does."""
    specs = [study.store.spec(run_id) for run_id in run_ids]
    refresh(study.store, specs, Staleness())
    execute(specs, train=partial(train, machine=None, track=None), store=study.store)


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
            "ema-lab: the process that starts the workers was killed; repeat the command to continue"
        ]

    def test_any_more_end_the_search(self, command, trained, monkeypatch):
        def keep_asking(*_others):
            raise BrokenProcessPool

        monkeypatch.setattr("ema_lab.search.workers._keep_asking", keep_asking)
        answer = command(*CALL, "--workers", "2")
        assert answer.code == 1
        assert answer.err.endswith("no new ones can be started; repeat the command to continue\n")


class TestStaleRuns:
    @pytest.mark.usefixtures("unpainted")
    def test_are_marked_wherever_trials_are_shown(self, command, trained):
        assert "stale" not in command(*CALL).out
        first = found().trials()[0]
        change_source(first.run_ids[0])
        words = "small: 1 trial is stale: the source of module has changed since"
        shown = command("sweep", "show", "small")
        assert shown.out.splitlines()[0].split()[:3] == ["trial", "status", "stale"]
        assert ", 1 stale (" in shown.err
        assert words in shown.err
        rows = json.loads(command("sweep", "show", "small", "--json").out)
        assert {row["trial"]: row["stale"] for row in rows} == {0: "module", 1: None}
        assert words in command("sweep", "export", "small", "--out", "t.csv").err
        assert "stale" in Path("t.csv").read_text().splitlines()[0]
        assert command("sweep", "plot", "small", "--out", "out").code == 0
        table = Path("out/trials.md").read_text()
        assert f"| {first.values[0]:.2f}‡ |" in table
        assert "‡: 1 trial is stale: the source of module has changed since." in table
        assert "1 trial is stale" in Path("out/history.txt").read_text()
        assert words in command(*CALL).err
        assert [one.tags for one in trial_runs(found())] == [("done", "stale"), ("done", "best: optimistic")]

    def test_that_were_trained_again_have_their_new_values(self, command, trained):
        command(*CALL)
        study = found()
        first, second = study.trials()
        change_source(first.run_ids[0])
        trained.best = 50.0
        train_again(study, first.run_ids, pipeline.train_run)
        now = {one.number: (one.values, one.stale) for one in study.trials()}
        assert now == {0: ((first.values[0] - 40,), ()), 1: (second.values, ())}
        rows = json.loads(command("sweep", "show", "small", "--json").out)
        assert [(row["trial"], row["val_top1"]) for row in rows] == [
            (1, second.values[0]),
            (0, first.values[0] - 40),
        ]
        assert study.reported(first.run_ids) == {1: first.values[0] - 40}
        assert next(one.summary for one in trial_runs(study)) == {"objective/val_top1": first.values[0] - 40}

    def test_whose_result_was_quarantined_keep_a_marked_value(self, command, trained):
        command(*CALL)
        study = found()
        first = study.trials()[0]
        change_source(first.run_ids[0])
        refresh(study.store, [study.store.spec(first.run_ids[0])], Staleness())
        again = study.trials()[0]
        assert (again.values, again.stale) == (first.values, ("superseded",))
        assert "superseded results were not trained again" in command("sweep", "show", "small").err

    def test_are_not_learned_from(self, command, trained):
        command(*CALL, "--trials", "3")
        change_source(found().trials()[0].run_ids[0])
        other = Path("sweeps/other.yaml")
        other.write_text(SWEEP.replace("name: small", "name: other"))
        answer = command("sweep", "other", "--workers", "1", "--device", "cpu", "--trials", "1")
        learned = len(set(trained)) - 1
        assert f"other: {learned} finished choice" in answer.err
        assert "other: 1 finished choice is not learned from: stale" in answer.err
        assert f"{learned} learned from the store" in answer.err

    def test_whose_values_a_new_trial_takes_are_named(self, command, trained):
        command(*CALL, "--trials", "1")
        change_source(trained[0])
        text = SWEEP.replace("name: small", "name: other").replace("random", "grid")
        Path("sweeps/other.yaml").write_text(text.replace("run_cap: 2\n", ""))
        answer = command("sweep", "other", "--workers", "1", "--device", "cpu")
        assert answer.err.count(" (stale: module); recipe.optimizer.lr=") == 1
        assert "other: 1 trial is stale: the source of module has changed since" in answer.err
        assert len(trained) == len(set(trained)) == 6
