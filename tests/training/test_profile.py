"""Profile of a run: its phases add up, its trace opens, and it changes no result."""

import json
import time
from pathlib import Path

import pytest
import torch

from ema_lab.errors import SpecError
from ema_lab.store.job import RunJob
from ema_lab.training.machine import Machine
from ema_lab.training.profile import MEANINGS, TRACED_STEPS, UNTRACED_STEPS, RunProfiler
from ema_lab.training.run import train
from ema_lab.workflow.train.run import run


def test_a_profiled_run_tells_where_its_time_went(make_spec, tmp_path):
    spec = make_spec(recipe={"epochs": 2}, data={"val_images": 10})
    losses = []
    for profile in (False, True):
        folder = tmp_path / str(profile)
        folder.mkdir()
        machine = Machine(tmp_path, "cpu", num_threads=1, profile=profile)
        outcome = train(spec, RunJob(folder), machine, lambda row: losses.append(row["train_loss"]))
        assert (folder / "profile.txt").exists() == (folder / "trace.json").exists() == profile
    assert losses[:2] == losses[2:]
    lines = (folder / "profile.txt").read_text().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith(f"{spec.run_id}: ")
    assert "8 steps" in lines[0]
    phases = {line.split(" s ")[0].rsplit(None, 1)[0].strip(): line for line in lines[1:8]}
    assert phases.keys() == MEANINGS.keys()
    seconds = {name: float(line.split(" s ")[0].rsplit(None, 1)[1]) for name, line in phases.items()}
    assert min(seconds.values()) >= 0
    assert all(seconds[name] > 0 for name in ("forward", "backward", "epoch end"))
    assert sum(seconds.values()) == pytest.approx(float(lines[0].split()[1]), abs=0.1)
    assert outcome.wall_seconds > 0
    trace = json.loads((folder / "trace.json").read_text())
    steps = [event for event in trace["traceEvents"] if event.get("name") == "run_training_batch"]
    assert len(steps) == TRACED_STEPS
    operators = float(lines[8].split()[0])
    evaluation_too = sum(event.get("cat") == "cpu_op" for event in trace["traceEvents"]) / TRACED_STEPS
    assert 500 < operators < evaluation_too
    assert f"in steps {UNTRACED_STEPS + 1} to 8" in lines[8]


def test_a_short_run_has_no_trace_and_says_so(tmp_path):
    profiler = RunProfiler(tmp_path, torch.device("cpu"))
    for _ in range(UNTRACED_STEPS):
        with profiler.profile("run_training_batch"), profiler.profile("forward"):
            pass
    profiler.finish("abc", 0.0)
    assert (tmp_path / "profile.txt").read_text().splitlines()[-1] == "no trace: it would begin after 3 steps"
    assert not (tmp_path / "trace.json").exists()


def test_compilation_is_no_forward_pass(tmp_path):
    profiler = RunProfiler(tmp_path, torch.device("cpu"))
    profiler._began -= 10
    profiler._seconds["forward"] = 8.0
    profiler.finish("abc", 7.5)
    lines = (tmp_path / "profile.txt").read_text().splitlines()
    assert "0.50 s" in lines[2]
    assert "9.50 s" in lines[7]


def test_writing_the_trace_is_no_time_of_the_run(tmp_path, monkeypatch):
    profiler, clock, late = RunProfiler(tmp_path, torch.device("cpu")), time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + late[0])

    def export(trace, path):
        late[0] += 1000
        Path(path).write_text("{}")

    monkeypatch.setattr("ema_lab.training.profile.torch_profile.export_chrome_trace", export)
    for _ in range(UNTRACED_STEPS + TRACED_STEPS):
        with profiler.profile("run_training_batch"), profiler.profile("forward"):
            pass
    profiler.finish("abc", 0.0)
    assert late == [1000]
    assert float((tmp_path / "profile.txt").read_text().split()[1]) < 100


def test_a_smoke_run_has_no_profile():
    with pytest.raises(SpecError, match="--profile writes into"):
        run("quickstart", smoke=True, profile=True)
