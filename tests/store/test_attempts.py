"""Outcomes written by another process: only for ended attempts of the interrupted session."""

import pytest

from ema_lab.store.attempts import end_interrupted, forgive, note_killed
from ema_lab.store.store import RunStore


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def outcomes(store, spec):
    return [attempt.outcome for attempt in store.attempts(spec.run_id)]


class TestInterruption:
    def test_ends_the_open_attempt_of_its_session(self, store, specs):
        store.begin(specs[0], session="ours")
        end_interrupted(store, specs[0].run_id, "ours")
        assert outcomes(store, specs[0]) == ["interrupted"]

    @pytest.mark.parametrize("session", ["", "theirs"], ids=["older or in-process", "of another call"])
    def test_leaves_the_attempt_of_another(self, store, specs, session):
        store.begin(specs[0], session=session)  # same host, same second
        end_interrupted(store, specs[0].run_id, "ours")
        assert outcomes(store, specs[0]) == [None]
        assert store.attempts(specs[0].run_id)[0].counts

    def test_leaves_an_older_open_attempt_before_an_ended_one(self, store, specs):
        store.begin(specs[0], session="ours")
        store.end(specs[0].run_id, store.begin(specs[0], session="ours"), "failed", "ValueError: no")
        end_interrupted(store, specs[0].run_id, "ours")
        assert outcomes(store, specs[0]) == [None, "failed"]

    def test_leaves_one_that_is_known_as_killed(self, store, specs):
        store.begin(specs[0], session="ours")
        note_killed(store, specs[0].run_id)
        end_interrupted(store, specs[0].run_id, "ours")
        assert outcomes(store, specs[0]) == [None]

    def test_leaves_a_run_that_is_held(self, store, specs):
        store.begin(specs[0], session="ours")
        with store.claim(specs[0].run_id):
            end_interrupted(store, specs[0].run_id, "ours")
        assert outcomes(store, specs[0]) == [None]

    def test_survives_a_damaged_attempt(self, store, specs):
        store.begin(specs[0], session="ours")
        attempt = store.folder(specs[0].run_id) / "attempts" / "1.json"
        attempt.write_text("{")
        end_interrupted(store, specs[0].run_id, "ours")
        assert attempt.read_text() == "{"


def test_forgiving_leaves_other_outcomes_as_they_are(store, specs):
    for outcome in ("failed", "interrupted"):
        store.end(specs[0].run_id, store.begin(specs[0]), outcome)
    assert forgive(store, specs[0].run_id)
    assert [attempt.forgiven for attempt in store.attempts(specs[0].run_id)] == [True, False]
