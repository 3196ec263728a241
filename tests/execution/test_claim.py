"""Attempts of a claim: time limits and sessions."""

import logging
import os
import socket
from concurrent.futures import Future
from dataclasses import replace

import pytest

from ema_lab.execution.claim import Claim, Task, failed_record
from ema_lab.execution.engines.engine import Monitor, Progress
from ema_lab.execution.engines.local import LocalEngine
from ema_lab.execution.engines.session import Session
from ema_lab.execution.executor import execute
from ema_lab.store.document import write_json
from ema_lab.store.failure import failure_of
from ema_lab.store.job import RunOutcome
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore

DONE = RunOutcome({"top1": 50.0})


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.fixture
def claim(store):
    return Claim(lambda spec, job: DONE, store, 3, "cpu", "ours")


@pytest.fixture
def task(specs):
    return Task(specs[0])


def outcomes(store, task):
    return [attempt.outcome for attempt in store.attempts(task.spec.run_id)]


class TestTimeLimit:
    def test_ends_the_open_attempt_as_failed(self, store, claim, task):
        store.begin(task.spec, session="ours")
        assert claim.timed_out(task, 60) == "timeout"
        assert outcomes(store, task) == ["failed"]
        assert failure_of(store.facts(task.spec.run_id)).cause == "timeout"

    def test_before_an_attempt_began_counts(self, store, claim, task):
        assert claim.timed_out(task, 60) == "timeout"
        assert outcomes(store, task) == ["failed"]
        assert store.attempts(task.spec.run_id)[0].counts
        assert store.record(task.spec.run_id).error.kind == "RunTimeoutError"

    def test_in_every_call_is_given_up_at_last(self, store, claim, task):
        for number in range(3):
            assert store.state(task.spec.run_id) == "pending"
            assert replace(claim, session=f"call {number}").timed_out(task, 60) == "timeout"
        assert store.state(task.spec.run_id) == "failed"

    @pytest.mark.parametrize("session", ["", "theirs"])
    def test_leaves_an_older_open_attempt_as_it_is(self, store, claim, task, session):
        store.begin(task.spec, session=session)
        assert claim.timed_out(task, 60) == "timeout"
        assert outcomes(store, task) == [None, "failed"]
        assert sum(attempt.counts for attempt in store.attempts(task.spec.run_id)) == 2

    @pytest.mark.parametrize(
        ("outcome", "result"), [("failed", "failed"), ("pruned", "stopped"), ("interrupted", "stopped")]
    )
    def test_leaves_an_attempt_that_has_ended(self, store, claim, task, outcome, result):
        attempt = store.begin(task.spec, session="ours")
        record = failed_record(task.spec.run_id, 1, ValueError("first"))
        if outcome == "failed":
            store.write(record)
        store.end(task.spec.run_id, attempt, outcome, "first")
        before = store.attempts(task.spec.run_id)
        assert claim.timed_out(task, 60) == result
        assert store.attempts(task.spec.run_id) == before
        assert store.record(task.spec.run_id) == (record if outcome == "failed" else None)

    def test_leaves_a_result_that_was_written_at_the_last_moment(self, store, claim, task):
        store.begin(task.spec, session="ours")
        done = RunRecord(run_id=task.spec.run_id, status="done", attempt=1, metrics={"top1": 50.0})
        store.write(done)
        assert claim.timed_out(task, 60) == "done"
        assert (store.record(task.spec.run_id), outcomes(store, task)) == (done, ["done"])

    def test_leaves_a_failure_that_was_written_at_the_last_moment(self, store, claim, task):
        store.begin(task.spec, session="ours")
        store.write(failed_record(task.spec.run_id, 1, ValueError("first")))
        claim.timed_out(task, 60)
        assert outcomes(store, task) == ["failed"]
        assert store.record(task.spec.run_id).error.kind == "ValueError"

    def test_is_what_ended_the_attempt_whatever_an_older_record_says(self, store, claim, task):
        run_id = task.spec.run_id
        store.write(
            failed_record(run_id, store.begin(task.spec, session="ours").number, MemoryError("first"))
        )
        store.end(run_id, store.attempts(run_id)[0], "failed", "MemoryError: first")
        store.begin(task.spec, session="ours")
        assert claim.timed_out(task, 60) == "timeout"
        record = store.record(run_id)
        assert (record.attempt, record.error.kind) == (2, "RunTimeoutError")
        assert failure_of(store.facts(run_id)).cause == "timeout"

    def test_leaves_a_result_of_another_process(self, store, claim, task):
        assert replace(claim, session="theirs")(task) == "done"
        assert claim.timed_out(task, 60) == "elsewhere"
        assert outcomes(store, task) == ["done"]

    def test_leaves_a_run_that_another_process_has_taken_over(self, store, claim, task, monkeypatch):
        monkeypatch.setattr("ema_lab.execution.claim.LOCK_SECONDS", 0.0)
        with store.claim(task.spec.run_id):
            assert claim.timed_out(task, 60) == "busy"
        assert outcomes(store, task) == []

    def test_of_a_worker_that_never_began_is_recorded_by_the_engine(self, store, task, monkeypatch):
        monkeypatch.setattr("ema_lab.execution.engines.local._result", lambda future: "timeout")
        monkeypatch.setattr("ema_lab.execution.engines.local.worker_pool", EmptyPool)
        claim = Claim(lambda spec, job: DONE, store, 3, "cpu")
        monitor = Monitor(Progress(1))
        LocalEngine(2, timeout=1.0).run([task], claim, monitor)
        assert monitor.progress.failed == [task.spec.run_id]
        assert outcomes(store, task) == ["failed"]


class EmptyPool:
    """A pool whose tasks end before they begin."""

    def __init__(self, workers, gpus):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, timeout, task):
        future = Future()
        future.set_result(None)
        return future


class TestSession:
    def test_is_noted_in_each_attempt(self, store, claim, task):
        claim(task)
        assert store.attempts(task.spec.run_id)[0].session == "ours"

    def test_of_a_cluster_is_its_folder_s_name(self, store, claim, task):
        session = Session.open(store, "ray")
        session.work(claim, task)
        assert store.attempts(task.spec.run_id)[0].session == session.folder.name

    def test_of_a_cluster_ends_no_older_attempt_of_the_same_process_number(self, store, claim, task):
        session = Session.open(store, "ray")
        store.begin(task.spec)  # killed long ago, on this host, by a process of this number
        note = {"host": socket.gethostname(), "pid": os.getpid()}
        write_json(session.tasks / f"{task.spec.run_id}.running", note)
        session.end_interrupted(store, [task.spec.run_id])
        assert outcomes(store, task) == [None]

    @pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, '{"host": 1}'])
    def test_of_a_cluster_survives_a_damaged_note(self, store, claim, task, text):
        session = Session.open(store, "ray")
        store.begin(task.spec)  # by another process, as far as a damaged note tells
        (session.tasks / f"{task.spec.run_id}.running").write_text(text)
        session.end_interrupted(store, [task.spec.run_id])
        assert outcomes(store, task) == [None]


def test_an_interrupted_pool_leaves_the_open_attempts_of_others(store, specs, monkeypatch):
    for spec in specs[:2]:
        store.begin(spec, session="" if spec.seed else "another call")  # killed, in this second, on this host

    def interrupt(progress):
        raise KeyboardInterrupt

    monkeypatch.setattr("ema_lab.execution.engines.local.worker_pool", EmptyPool)
    with pytest.raises(KeyboardInterrupt):
        execute(specs[:2], train=None, store=store, workers=2, watch=interrupt)
    assert [outcomes(store, Task(spec)) for spec in specs[:2]] == [[None], [None]]


def test_an_older_record_does_not_explain_a_newer_failure(store, claim, task):
    run_id = task.spec.run_id
    store.write(failed_record(run_id, store.begin(task.spec).number, MemoryError("first")))
    store.end(run_id, store.attempts(run_id)[0], "failed", "MemoryError: first")
    store.end(run_id, store.begin(task.spec), "failed", "ImportError: second")
    found = failure_of(store.facts(run_id))
    assert (found.cause, found.message) == ("import error", "ImportError: second")


def test_a_run_that_another_process_holds_is_not_begun(store, claim, task):
    trained = []
    claim = replace(claim, train=lambda spec, job: trained.append(spec) or DONE)
    with store.claim(task.spec.run_id):
        assert claim(task) == "busy"
    assert (trained, outcomes(store, task), store.record(task.spec.run_id)) == ([], [], None)
    assert claim(task) == "done"


def test_a_run_that_is_left_alone_says_why(store, claim, task, caplog):
    claim(task)
    (store.folder(task.spec.run_id) / "record.json").write_text('{"format": 9}')
    with caplog.at_level(logging.ERROR):
        assert claim(task) == "failed"
    assert "not a record of this version" in caplog.text
