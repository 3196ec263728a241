"""Contract of the store: rules on which execution, status and reports rely."""

import errno
import json
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.errors import DamagedFileError, StoreError
from ema_lab.store.document import read_json, write_json
from ema_lab.store.record import ErrorRecord, RunRecord
from ema_lab.store.store import RunStore

NUMBERS = st.floats(-1e100, 1e100)
RECORDS = st.builds(
    RunRecord,
    run_id=st.just("0123456789abcdef"),
    status=st.sampled_from(["done", "failed"]),
    attempt=st.integers(1, 9),
    metrics=st.dictionaries(st.sampled_from(["top1", "top5", "loss"]), NUMBERS),
    chosen_epoch=st.integers(0, 300),
    cost=st.dictionaries(st.text(max_size=5), st.integers()),
    wall_seconds=NUMBERS,
    environment=st.dictionaries(st.text(max_size=5), st.text(max_size=5)),
    source=st.dictionaries(st.text(max_size=5), st.text(max_size=5)),
    error=st.none() | st.builds(ErrorRecord, kind=st.text(), message=st.text(), traceback=st.text()),
)


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


@pytest.fixture
def spec(specs):
    return specs[0]


def hold(root, run_id, ready, release):
    """Hold a run's lock until `release` gets an item; runs in another process."""
    with RunStore(root).claim(run_id) as claimed:
        ready.put(claimed)
        release.get()


@pytest.fixture
def held_elsewhere(store, spec):
    """Hold the run's lock in another process; the fixture's value kills that process."""
    context = multiprocessing.get_context("spawn")
    ready, release = context.Queue(), context.Queue()
    process = context.Process(target=hold, args=(store.root, spec.run_id, ready, release))
    process.start()
    assert ready.get(timeout=180)

    def kill():
        process.kill()
        process.join()

    yield kill
    kill()


class TestStore:
    def test_does_not_touch_the_disk_before_the_first_run(self, store, spec):
        assert (store.run_ids(), store.record(spec.run_id), store.attempts(spec.run_id)) == ([], None, [])
        assert store.state(spec.run_id) == "pending"
        assert not store.is_locked(spec.run_id)
        assert not store.root.exists()

    def test_begins_an_attempt_with_the_spec_of_the_run(self, store, spec):
        attempt = store.begin(spec)
        assert (attempt.number, attempt.outcome) == (1, None)
        assert store.run_ids() == [spec.run_id]
        assert store.spec(spec.run_id) == spec
        assert store.attempts(spec.run_id) == [attempt]

    def test_numbers_attempts_in_order(self, store, spec):
        for _ in range(11):
            store.end(spec.run_id, store.begin(spec), "interrupted")
        assert [attempt.number for attempt in store.attempts(spec.run_id)] == list(range(1, 12))

    def test_numbers_an_attempt_above_all_others_over_gaps(self, store, spec):
        for _ in range(3):
            store.end(spec.run_id, store.begin(spec), "failed")
        for number in (1, 2):
            (store.folder(spec.run_id) / "attempts" / f"{number}.json").unlink()
        assert store.begin(spec).number == 4
        assert store.attempt_numbers(spec.run_id) == [3, 4]

    def test_flushes_a_record_to_the_disk_before_it_is_renamed(self, store, spec, monkeypatch):
        store.begin(spec)
        calls = []
        fsync, replace = os.fsync, Path.replace
        monkeypatch.setattr(os, "fsync", lambda file: calls.append("fsync") or fsync(file))
        monkeypatch.setattr(
            Path, "replace", lambda self, to: calls.append(Path(to).name) or replace(self, to)
        )
        store.write(RunRecord(run_id=spec.run_id, status="done", attempt=1))
        assert calls == ["fsync", "record.json"]

    def test_does_not_list_what_is_no_run(self, store, spec):
        store.begin(spec)
        for name in (".importing-x", f".removing-{spec.run_id}", "copy-of-a-run", spec.run_id[:-1]):
            (store.root / name).mkdir()
            (store.root / name / "spec.json").write_text("{}")
        assert store.run_ids() == [spec.run_id]

    @given(record=RECORDS)
    def test_gives_a_record_back_as_it_was_written(self, tmp_path_factory, record):
        store = RunStore(tmp_path_factory.getbasetemp() / "round-trip")
        store.folder(record.run_id).mkdir(parents=True, exist_ok=True)
        store.write(record)
        assert store.record(record.run_id) == record
        assert store.records([record.run_id, "absent"]) == {record.run_id: record}

    def test_leaves_no_partial_file(self, store, spec):
        store.end(spec.run_id, store.begin(spec), "done")
        store.write(RunRecord(run_id=spec.run_id, status="done", attempt=1))
        assert list(store.root.rglob("*.partial")) == []

    def test_keeps_the_old_record_when_the_new_one_cannot_be_written(self, store, spec):
        store.begin(spec)
        old = RunRecord(run_id=spec.run_id, status="done", attempt=1, metrics={"top1": 90.0})
        store.write(old)
        with pytest.raises(ValueError, match="JSON compliant"):
            store.write(old.model_copy(update={"metrics": {"top1": float("nan")}}))
        assert store.record(spec.run_id) == old
        assert list(store.root.rglob("*.partial")) == []

    def test_finds_a_run_by_the_beginning_of_its_id(self, store, specs):
        for spec in specs:
            store.begin(spec)
        for spec in specs:
            assert store.find(spec.run_id) == store.find(spec.run_id[:8]) == spec.run_id
        with pytest.raises(StoreError, match="begins 4 run ids"):
            store.find("")
        with pytest.raises(StoreError, match="no run is named 'zzz'"):
            store.find("zzz")

    @pytest.mark.parametrize("name", ["record.json", "spec.json", "attempts/1.json"])
    @pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', "\x00", '{"seed": 0}'], ids=repr)
    def test_names_a_file_that_it_cannot_read(self, store, spec, name, text):
        store.begin(spec)
        (store.folder(spec.run_id) / name).write_text(text)
        read = {"record.json": store.record, "spec.json": store.spec, "attempts/1.json": store.attempts}[name]
        with pytest.raises(StoreError) as caught:
            read(spec.run_id)
        assert str(store.folder(spec.run_id) / name.partition("/")[0]) in str(caught.value)

    def test_refuses_a_spec_that_was_changed_by_hand(self, store, spec):
        store.begin(spec)
        path = store.folder(spec.run_id) / "spec.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "seed": 7}))
        with pytest.raises(StoreError, match="was changed"):
            store.spec(spec.run_id)

    def test_cannot_be_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="must be a folder"):
            RunStore(tmp_path / "file")
        with (
            pytest.raises(StoreError, match="cannot be written"),
            RunStore(tmp_path / "file" / "below").claim("x"),
        ):
            pass

    def test_writes_through_a_new_file_and_a_rename(self, tmp_path):
        path = tmp_path / "a.json"
        write_json(path, {"x": 1})
        before = path.stat().st_ino
        with path.open(encoding="utf-8") as reader:
            write_json(path, {"x": 2})
            assert json.load(reader) == {"x": 1}
        assert path.stat().st_ino != before
        assert json.loads(path.read_text()) == {"x": 2}

    def test_writes_a_surrogate_as_plain_text_and_reads_none(self, tmp_path):
        path = tmp_path / "a.json"
        write_json(path, {"file\udcff": ["\ud800", "\U0001f600"]})
        assert read_json(path) == {"file\\udcff": ["\\ud800", "\U0001f600"]}
        path.write_text('{"file": "\\uDCFF"}')
        with pytest.raises(DamagedFileError, match="not Unicode"):
            read_json(path)
        path.write_text('{"file": "\\ud83d\\ude00"}')
        assert read_json(path) == {"file": "\U0001f600"}


class TestState:
    def test_a_record_that_says_done_is_done(self, store, spec):
        store.begin(spec)
        store.write(RunRecord(run_id=spec.run_id, status="done", attempt=1))
        assert store.state(spec.run_id) == "done"

    @pytest.mark.parametrize(
        ("outcomes", "expected"),
        [
            (["failed"], "pending"),
            (["failed", "failed"], "pending"),
            (["failed", "failed", "failed"], "failed"),
            ([None, None, None], "failed"),
            ([None, "failed", None], "failed"),
            (["interrupted"] * 5, "pending"),
            (["interrupted", "failed", "interrupted", "failed"], "pending"),
        ],
        ids=str,
    )
    def test_failed_and_killed_attempts_count_and_interrupted_ones_do_not(
        self, store, spec, outcomes, expected
    ):
        for outcome in outcomes:
            attempt = store.begin(spec)
            if outcome is not None:
                store.end(spec.run_id, attempt, outcome)
        assert store.state(spec.run_id) == expected

    def test_the_limit_is_the_callers(self, store, spec):
        store.end(spec.run_id, store.begin(spec), "failed")
        assert [store.state(spec.run_id, limit) for limit in (1, 2)] == ["failed", "pending"]


@pytest.fixture
def sealed(store, monkeypatch):
    """Make the store read-only, as another user's is, or one that is mounted so."""
    open_file, make_folder = os.open, os.mkdir

    def refuse(path):
        if str(path).startswith(str(store.root)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def open_readable(path, flags, *arguments, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse(path)
        return open_file(path, flags, *arguments, **options)

    def seal():
        monkeypatch.setattr(os, "open", open_readable)
        monkeypatch.setattr(os, "mkdir", lambda path, *rest, **more: (refuse(path), make_folder(path, *rest)))

    return seal


class TestReadOnly:
    def test_states_are_known_without_a_lock_file_or_with_one(self, store, specs, sealed):
        for spec in specs[:2]:
            store.begin(spec)
        with store.claim(specs[0].run_id):
            sealed()
            assert [store.state(spec.run_id) for spec in specs[:3]] == ["running", "pending", "pending"]
        assert store.state(specs[0].run_id) == "pending"

    def test_a_claim_is_refused_in_one_line(self, store, spec, sealed):
        with store.claim(spec.run_id):
            pass
        sealed()
        with (
            pytest.raises(StoreError, match="cannot be written: Read-only") as caught,
            store.claim(spec.run_id),
        ):
            pass
        assert "\n" not in str(caught.value)

    def test_a_folder_that_may_not_be_listed_is_refused_in_one_line(self, store, spec, monkeypatch):
        store.begin(spec)

        def refuse(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(StoreError, match="cannot be read: Permission denied"):
            store.folder_names()
        monkeypatch.setattr(os, "listdir", refuse)
        assert store.facts(spec.run_id).unreadable


class TestLocks:
    def test_looking_at_a_lock_takes_it_from_nobody(self, store, spec):
        with store.claim(spec.run_id):
            pass
        assert not store.is_locked(spec.run_id)
        with store.claim(spec.run_id) as claimed:
            assert claimed

    def test_a_pipe_in_the_place_of_a_lock_is_not_waited_for(self, store, spec):
        path = store.root / ".locks" / f"{spec.run_id}.lock"
        path.parent.mkdir(parents=True)
        os.mkfifo(path)
        store.begin(spec)
        assert store.state(spec.run_id) == "pending"

    def test_a_claim_is_held_for_its_block_only(self, store, spec):
        with store.claim(spec.run_id) as claimed:
            assert claimed
            assert store.is_locked(spec.run_id)
            with store.claim(spec.run_id) as second:
                assert not second
        assert not store.is_locked(spec.run_id)
        with store.claim(spec.run_id) as again:
            assert again

    def test_a_claim_ends_with_an_error_too(self, store, spec):
        with pytest.raises(RuntimeError), store.claim(spec.run_id):
            raise RuntimeError
        assert not store.is_locked(spec.run_id)

    def test_runs_are_locked_apart(self, store, specs):
        with store.claim(specs[0].run_id), store.claim(specs[1].run_id) as claimed:
            assert claimed

    def test_a_lock_is_freed_when_its_process_dies_and_its_file_stays(self, store, spec, held_elsewhere):
        store.begin(spec)
        with store.claim(spec.run_id) as claimed:
            assert not claimed
        assert store.state(spec.run_id) == "running"
        held_elsewhere()
        assert store.state(spec.run_id) == "pending"
        with store.claim(spec.run_id) as claimed:
            assert claimed
        assert (store.root / ".locks" / f"{spec.run_id}.lock").is_file()
