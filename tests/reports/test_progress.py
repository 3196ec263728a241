"""Progress of a grid: epochs done, and the time that is left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.reports.page.progress import Work, progress


def test_a_grid_without_a_running_run_has_no_time_left():
    assert progress([Work("a", 4, "done", 40.0), Work("a", 4, "pending")]) == {
        "total": 8,
        "done": 4,
        "workers": 0,
        "seconds_left": None,
    }


def test_each_row_has_the_pace_of_its_own_finished_runs():
    works = [
        Work("a", 10, "done", 100.0),
        Work("b", 10, "done", 1000.0),
        Work("a", 10, "pending"),
        Work("b", 10, "running", trained=4),
    ]
    found = progress(works)
    assert (found["total"], found["done"], found["workers"]) == (40, 24, 1)
    assert found["seconds_left"] == pytest.approx(10 * 10.0 + 6 * 100.0)


def test_a_row_without_a_finished_run_has_the_mean_pace():
    works = [Work("a", 10, "done", 100.0), Work("b", 10, "done", 300.0), Work("c", 5, "running")]
    assert progress(works)["seconds_left"] == pytest.approx(5 * 20.0)


def test_runs_at_one_time_share_the_time():
    works = [Work("a", 10, "done", 100.0), *[Work("a", 10, "running", trained=5)] * 2]
    assert progress(works)["seconds_left"] == pytest.approx(50.0)


def test_before_the_first_finished_run_no_time_is_known():
    assert progress([Work("a", 10, "running", trained=3)])["seconds_left"] is None


def test_a_run_that_failed_for_good_is_left_out():
    assert progress([Work("a", 10, "failed"), Work("a", 10, "done", 1.0)])["total"] == 10


STATES = st.sampled_from(["done", "running", "failed", "pending"])
WORKS = st.builds(
    Work,
    st.sampled_from("abc"),
    st.integers(1, 300),
    STATES,
    st.none() | st.floats(0, 1e6),
    st.none() | st.floats(0, 400),
)


@given(st.lists(WORKS))
def test_no_more_is_done_than_there_is(works):
    found = progress(works)
    assert 0 <= found["done"] <= found["total"]
    assert found["seconds_left"] is None or found["seconds_left"] >= 0
