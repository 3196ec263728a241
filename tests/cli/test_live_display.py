"""A line per finished run where nobody looks at a terminal, a live line where somebody does."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from ema_lab.ablation.ablation import load_ablation
from ema_lab.cli import progress
from ema_lab.cli.progress import RunDisplay, finished_epochs
from ema_lab.execution.claim import Task
from ema_lab.execution.engines.engine import Progress
from ema_lab.store.store import RunStore
from ema_lab.workflow.events import RunEnded


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
        "[1/4] 1/4 done, 1 running, 0 failed, 1 elsewhere",
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
    assert finished_epochs(store, "a") == 0
    store.folder("a").mkdir(parents=True)
    (store.folder("a") / "curve.csv").write_text("epoch,lr\n1,0.1\n2,0.1\n")
    assert finished_epochs(store, "a") == 2
