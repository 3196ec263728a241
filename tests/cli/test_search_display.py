"""The live bar of a search: trials that are over, epochs of those that run, and the time left."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from ema_lab.cli.search_display import SearchDisplay
from ema_lab.search.history import Counts, EndedTrial

ENDED = EndedTrial(0, "pruned", {})


class Study:
    """A study that is over as far as the test says; each trial trains two seeds of four epochs."""

    class sweep:  # noqa: N801
        epochs, seeds = 4, (0, 1)

    def __init__(self, root):
        self.store = type("Store", (), {"folder": staticmethod(lambda run_id: root / run_id)})
        self.over, self.running = 0, {}
        self.results = SimpleNamespace(stale=lambda run_ids: ())
        self.search = SimpleNamespace(objectives=())

    def counts(self):
        return Counts(done=self.over, running=len(self.running))

    def running_run_ids(self):
        return list(self.running)

    def trains(self, run_id, epochs, root):
        self.running[run_id] = epochs
        (root / run_id).mkdir(exist_ok=True)
        (root / run_id / "curve.csv").write_text("epoch\n" + "1\n" * epochs)


@pytest.fixture
def seen(tmp_path):
    """Return a study, a clock that stands, and what the bar of five trials shows after an update."""
    study, time = Study(tmp_path), [0.0]
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    display = SearchDisplay(study, 5, console, clock=lambda: time[0])

    def look(now, ended=None):
        time[0] = now
        display.watch(ended)
        (task,) = display._bar.tasks
        return task.completed, task.description, task.fields["left"]

    return study, look


def test_the_bar_counts_trials_that_run_by_their_epochs(seen, tmp_path):
    study, look = seen
    study.over = 1
    assert look(0.0) == (1, "1/5 trials, 0 running", "ETA -:--:--")
    study.trains("a", 4, tmp_path)
    assert look(10.0) == (1.5, "1/5 trials, 1 running (epochs 4)", "ETA 0:01:10")
    study.trains("a", 6, tmp_path)
    study.trains("b", 2, tmp_path)
    assert look(20.0) == (2.0, "1/5 trials, 2 running (epochs 6, 2)", "ETA 0:01:00")


def test_what_was_over_before_this_call_is_no_pace(seen):
    study, look = seen
    study.over = 4
    look(0.0)
    study.over = 5
    assert look(30.0)[2] == "ETA 0:00:00"


def test_a_trial_that_begins_just_after_another_has_ended_is_shown_at_once(seen, tmp_path):
    study, look = seen
    look(0.0)
    study.over = 1
    look(10.0, ENDED)
    study.trains("a", 0, tmp_path)
    assert look(10.1)[1] == "1/5 trials, 1 running (epochs 0)"


def test_a_trial_never_counts_more_than_once(seen, tmp_path):
    study, look = seen
    study.trains("a", 40, tmp_path)
    assert look(0.0)[0] == 1


def test_a_search_that_only_time_ends_shows_no_time_left(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    display = SearchDisplay(Study(tmp_path), None, console, clock=lambda: 0.0)
    display.watch(None)
    assert display._bar.tasks[0].fields["left"] == ""
