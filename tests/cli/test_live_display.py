"""A line per finished run where nobody looks at a terminal, a live line where somebody does."""

import io
import json
import re
import runpy
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from tiny import fake_outcome

from ema_lab.ablation.ablation import load_ablation
from ema_lab.cli import progress
from ema_lab.cli.progress import CheckDisplay, RunDisplay, epoch_text, trained_epochs
from ema_lab.cli.volume import set_volume
from ema_lab.execution.claim import Task
from ema_lab.execution.engines.engine import Progress
from ema_lab.execution.executor import execute
from ema_lab.store.curve import read_curve
from ema_lab.store.heartbeat import Heartbeat
from ema_lab.store.store import RunStore
from ema_lab.workflow.events import ModelChecked, RunEnded


@pytest.fixture
def tasks(folder: Path) -> list[Task]:
    return [Task(cell.spec, "tiny", cell.row) for cell in load_ablation("tiny").cells]


@pytest.fixture
def ids(tasks: list[Task]) -> list[str]:
    return [task.spec.run_id for task in tasks]


def test_each_finished_run_is_reported_once(tasks, ids, capsys):
    with RunDisplay(tasks, RunStore("runs"), Console(file=io.StringIO())) as display:
        display.update(Progress(4, running=ids[:2]))
        for number, (index, state) in enumerate([(0, "done"), (2, "done"), (1, "failed")], start=1):
            display.end(RunEnded(tasks[index], state, number, 4))
            display.update(Progress(4, done=ids[:1], running=ids[1:2]))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        f"[1/4] done: none seed 0 ({ids[0]})",
        f"[2/4] done: se seed 0 ({ids[2]})",
        f"[3/4] FAILED: none seed 1 ({ids[1]})",
    ]


def test_a_long_silence_is_broken_by_the_counts(tasks, ids, capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    display = RunDisplay(tasks, RunStore("runs"), Console(file=io.StringIO()))
    counts = Progress(4, done=ids[:1], running=ids[1:2], busy=ids[2:3])
    display.end(RunEnded(tasks[0], "done", 1, 4))
    for clock[0] in (0.0, 10.0, 29.0, 31.0, 40.0):
        display.update(counts)
    assert capsys.readouterr().err.splitlines() == [
        f"[1/4] done: none seed 0 ({ids[0]})",
        "[1/4] 1/4 done, 1 running, 0 failed, 1 elsewhere: none seed 1: epoch 0/1",
    ]


def test_a_terminal_shows_the_counts_and_no_lines(tasks, ids, capsys):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with RunDisplay(tasks, RunStore("runs"), console) as display:
        display.update(Progress(4, done=ids[:1], running=ids[1:3]))
        display.end(RunEnded(tasks[0], "done", 1, 4))
        display.update(Progress(4, done=ids[:2], failed=ids[2:]))
    shown = screen.getvalue()
    assert "2/4 done, 0 running, 2 failed" in shown
    assert "ETA" in shown
    printed = capsys.readouterr()
    assert printed.out + printed.err == ""


def test_the_terminal_is_given_back_after_an_error(tasks):
    screen = io.StringIO()
    display = RunDisplay(tasks, RunStore("runs"), Console(file=screen, force_terminal=True))
    with pytest.raises(KeyboardInterrupt), display:
        raise KeyboardInterrupt
    assert screen.getvalue().rindex("\x1b[?25h") > screen.getvalue().rindex("\x1b[?25l")  # cursor: shown last


def test_epochs_are_counted_from_the_curve(folder):
    store = RunStore("runs")
    assert trained_epochs(store, "a") == 0
    store.folder("a").mkdir(parents=True)
    (store.folder("a") / "curve.csv").write_text("epoch,lr\n1,0.1\n2,0.1\n")
    assert trained_epochs(store, "a") == 2


def curve(store: RunStore, run_id: str, *rows: str) -> None:
    """Write a curve with the columns of a run without a validation split."""
    store.folder(run_id).mkdir(parents=True, exist_ok=True)
    text = "epoch,lr,train_loss,train_top1,train_seconds\n" + "".join(f"{row}\n" for row in rows)
    (store.folder(run_id) / "curve.csv").write_text(text)


def test_a_finished_run_has_its_metric_and_a_failed_one_its_reason_and_place(tasks, ids, folder, capsys):
    store = RunStore("runs")
    boom = folder / "boom.py"
    boom.write_text("def forward():\n    raise ValueError('no such gate')\n")

    def train(spec, job):
        if spec.run_id == ids[1]:
            runpy.run_path(str(boom))["forward"]()
        return fake_outcome(spec)

    execute([task.spec for task in tasks[:2]], train=train, store=store)
    with RunDisplay(tasks, store, Console(file=io.StringIO())) as display:
        display.end(RunEnded(tasks[0], "done", 1, 4))
        display.end(RunEnded(tasks[1], "failed", 2, 4))
    assert capsys.readouterr().err.splitlines() == [
        f"[1/4] done: none seed 0 ({ids[0]}): Top-1 90.00 %, 1 h 00 min",
        f"[2/4] FAILED: none seed 1 ({ids[1]}): ValueError: no such gate (boom.py:2)",
    ]


def test_a_running_row_has_epoch_loss_metric_and_speed(tasks, ids, folder):
    store = RunStore("runs")
    assert epoch_text(tasks[0], read_curve(store.folder(ids[0]))) == "epoch 0/1"
    curve(store, ids[0], "1,0.1,2.30259,11.5,0.5")
    text = epoch_text(tasks[0], read_curve(store.folder(ids[0])))
    assert text == "epoch 1/1, loss 2.3, train top-1 11.50 %, 64 images/s"  # 32 images in half a second


def test_a_terminal_has_a_line_for_each_running_row(tasks, ids, folder):
    store, screen = RunStore("runs"), io.StringIO()
    curve(store, ids[2], "1,0.1,0.5,80.0,0.25")
    console = Console(file=screen, force_terminal=True, width=120)
    with RunDisplay(tasks, store, console) as display:
        display.end(RunEnded(tasks[1], "failed", 2, 4))
        display.update(Progress(4, running=[ids[2]]))  # drawn at the end at the latest
    shown = screen.getvalue()
    assert "se seed 0: epoch 1/1, loss 0.5, train top-1 80.00 %, 128 images/s" in shown
    assert f"[2/4] FAILED: none seed 1 ({ids[1]})" in shown


@pytest.mark.parametrize(
    ("level", "lines"), [(-1, ["FAILED"]), (0, ["done", "FAILED"]), (1, ["epoch", "done", "FAILED"])]
)
def test_quiet_leaves_failures_and_verbose_adds_epochs(tasks, ids, capsys, folder, level, lines):
    set_volume(level)
    store = RunStore("runs")
    curve(store, ids[2], "1,0.1,0.5,80.0,0.25")
    try:
        with RunDisplay(tasks, store, Console(file=io.StringIO())) as display:
            for _ in range(2):
                display.update(Progress(4, running=[ids[2]]))
            display.end(RunEnded(tasks[0], "done", 1, 4))
            display.end(RunEnded(tasks[1], "failed", 2, 4))
    finally:
        set_volume(0)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(lines)
    assert all(word in line for word, line in zip(lines, said, strict=True))


def test_the_checks_of_models_have_a_bar_on_a_terminal_alone(capsys):
    screen = io.StringIO()
    with CheckDisplay(Console(file=screen, force_terminal=True, width=100)) as bar:
        bar.update(ModelChecked("ema [groups=4]", 3, 12))
    assert "checking 12 models: 3, ema [groups=4]" in screen.getvalue()
    with CheckDisplay(Console(file=(plain := io.StringIO()))) as bar:
        bar.update(ModelChecked("ema", 3, 12))
    assert plain.getvalue() == ""


def beat(run_id: str, seconds_ago: float = 0.0, **facts) -> Heartbeat:
    """Write a heartbeat in the second epoch, and age it."""
    path = RunStore("runs").folder(run_id)
    path.mkdir(parents=True, exist_ok=True)
    known = {"batch": 120, "batches": 400, "batch_seconds": 0.5, "images_per_second": 256.0, **facts}
    Heartbeat(2, **known).write(path)
    file = path / "heartbeat.json"
    written = json.loads(file.read_text())
    then = datetime.fromisoformat(written["time"]) - timedelta(seconds=seconds_ago)
    file.write_text(json.dumps({**written, "time": then.isoformat()}))
    read = Heartbeat.read(path)
    assert read is not None
    return read


def test_a_long_epoch_shows_its_batch_its_speed_and_the_waiting_for_data(tasks, ids):
    curve = [{"epoch": 1.0, "train_loss": 2.0, "train_seconds": 10.0}]
    assert epoch_text(tasks[0], curve, beat(ids[0])) == "epoch 1/1, batch 120/400, loss 2, 256 images/s"
    waiting = beat(ids[0], data_share=0.31)
    assert epoch_text(tasks[0], curve, waiting).endswith("256 images/s, 31 % waiting for data")
    evaluating = beat(ids[0], phase="evaluating")
    assert epoch_text(tasks[0], [], evaluating) == "epoch 0/1, evaluating, 256 images/s"
    (RunStore("runs").folder(ids[0]) / "curve.csv").write_text("epoch,train_loss\n1,2.0\n")
    beat(ids[0])
    assert trained_epochs(RunStore("runs"), ids[0]) == 1.3


def test_a_stall_is_named_once_and_again_if_it_comes_back(tasks, ids, capsys):
    with RunDisplay(tasks, RunStore("runs"), Console(file=io.StringIO())) as display:
        for seconds in (5.0, 700.0, 705.0, 1.0, 130.0):
            beat(ids[0], seconds)
            display.update(Progress(4, running=ids[:1]))
    lines = [line for line in capsys.readouterr().err.splitlines() if "stalled" in line]
    stalled = "warning: none seed 0 is stalled at epoch 2, batch 120 of 400: no batch for"
    usual = "where a batch took 0.5 s"
    assert [re.sub(r"\d\d s", "NN s", line) for line in lines] == [
        f"{stalled} 11 min NN s, {usual}",
        f"{stalled} 2 min NN s, {usual}",
    ]


@pytest.mark.parametrize(
    ("seconds_ago", "facts", "expected"),
    [
        (100.0, {}, False),
        (130.0, {}, True),
        (130.0, {"batch_seconds": 30.0}, False),
        (700.0, {"batch_seconds": 30.0}, True),
        (130.0, {"batch_seconds": 0.01, "phase": "evaluating"}, True),
        (500.0, {"phase": "evaluating"}, False),  # 400 batches of half a second are an epoch of 200 seconds
        (700.0, {"phase": "evaluating"}, True),
    ],
)
def test_silence_is_a_stall_where_batches_were_quick(tasks, ids, seconds_ago, facts, expected):
    assert beat(ids[0], seconds_ago, **facts).is_stalled is expected
