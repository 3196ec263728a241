"""Quarantine: superseded results, damaged files, and checkpoints of another source."""

import logging

import pytest

from ema_lab.execution import claim as claim_module
from ema_lab.execution.claim import Claim, Task
from ema_lab.store.job import RunOutcome
from ema_lab.store.quarantine import quarantine_damaged, refresh, supersede, supersede_stale_progress
from ema_lab.store.record import RunRecord
from ema_lab.store.source import source_hashes
from ema_lab.store.staleness import Staleness
from ema_lab.store.store import RunStore

FILES = ("curve.csv", "predictions.npz", "last.ckpt", "best.ckpt", "log.txt")


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def finish(store, spec, source=None):
    """Write a finished run; `source` overrides the recorded source hashes."""
    attempt = store.begin(spec)
    for name in FILES:
        (store.folder(spec.run_id) / name).write_text(f"{name} of attempt {attempt.number}")
    hashes = source or source_hashes(spec)
    store.write(RunRecord(run_id=spec.run_id, status="done", attempt=attempt.number, source=hashes))
    store.end(spec.run_id, attempt, "done")


def stale(spec):
    return {**source_hashes(spec), "training": "0" * 16}


class TestRefresh:
    def test_keeps_all_of_the_old_result_and_makes_the_run_pending(self, store, specs):
        finish(store, specs[0], stale(specs[0]))
        assert refresh(store, specs, Staleness()) == [specs[0].run_id]
        folder = store.folder(specs[0].run_id)
        assert sorted(path.name for path in folder.iterdir()) == ["spec.json", "superseded"]
        kept = sorted(path.name for path in (folder / "superseded" / "1").iterdir())
        assert kept == sorted([*FILES, "attempts", "record.json"])
        assert store.state(specs[0].run_id) == "pending"

    def test_takes_what_is_stale_only(self, store, specs):
        for spec in specs[:2]:
            finish(store, spec)
        finish(store, specs[2], stale(specs[2]))
        assert refresh(store, specs, Staleness()) == [specs[2].run_id]
        assert [store.state(spec.run_id) for spec in specs] == ["done", "done", "pending", "pending"]

    def test_numbers_what_it_keeps(self, store, specs):
        for _ in range(2):
            finish(store, specs[0], stale(specs[0]))
            refresh(store, specs[:1], Staleness())
        below = store.folder(specs[0].run_id) / "superseded"
        assert sorted(path.name for path in below.iterdir()) == ["1", "2"]

    def test_leaves_a_run_that_a_process_holds(self, store, specs):
        finish(store, specs[0], stale(specs[0]))
        with store.claim(specs[0].run_id):
            assert refresh(store, specs[:1], Staleness()) == []
        assert store.state(specs[0].run_id) == "done"

    def test_that_is_cut_off_leaves_a_run_done_and_stale(self, store, specs, monkeypatch):
        finish(store, specs[0], stale(specs[0]))
        folder = store.folder(specs[0].run_id)
        (folder / "superseded" / "1").mkdir(parents=True)
        (folder / "last.ckpt").rename(folder / "superseded" / "1" / "last.ckpt")
        assert store.state(specs[0].run_id) == "done"
        assert refresh(store, specs[:1], Staleness()) == [specs[0].run_id]
        assert (folder / "superseded" / "2" / "record.json").exists()
        assert (folder / "superseded" / "1" / "last.ckpt").exists()

    @pytest.mark.parametrize(("is_damaged", "place"), [(False, -1), (True, 0)])
    def test_moves_the_record_last_or_of_a_damaged_result_first(
        self, store, specs, monkeypatch, is_damaged, place
    ):
        finish(store, specs[0])
        moved = []
        rename = type(store.root).rename
        monkeypatch.setattr(
            type(store.root), "rename", lambda self, to: moved.append(self.name) or rename(self, to)
        )
        supersede(store.folder(specs[0].run_id), is_damaged=is_damaged)
        assert moved[place] == "record.json"
        assert len(moved) == len(FILES) + 2


class TestOtherSource:
    def interrupted(self, store, spec, source):
        store.end(spec.run_id, store.begin(spec, "cpu", source), "interrupted")
        (store.folder(spec.run_id) / "last.ckpt").write_text("an epoch")

    def test_is_not_gone_on_with(self, store, specs):
        self.interrupted(store, specs[0], stale(specs[0]))
        assert supersede_stale_progress(store, specs[0].run_id, source_hashes(specs[0])) == "training"
        folder = store.folder(specs[0].run_id)
        assert not (folder / "last.ckpt").exists()
        assert (folder / "superseded" / "1" / "last.ckpt").read_text() == "an epoch"
        assert len(store.attempts(specs[0].run_id)) == 1

    def test_the_same_source_is_gone_on_with(self, store, specs):
        self.interrupted(store, specs[0], source_hashes(specs[0]))
        assert supersede_stale_progress(store, specs[0].run_id, source_hashes(specs[0])) is None
        assert (store.folder(specs[0].run_id) / "last.ckpt").exists()

    def test_of_an_older_attempt_does_not_matter(self, store, specs):
        store.end(specs[0].run_id, store.begin(specs[0], "cpu", stale(specs[0])), "failed")
        self.interrupted(store, specs[0], source_hashes(specs[0]))
        assert supersede_stale_progress(store, specs[0].run_id, source_hashes(specs[0])) is None
        assert (store.folder(specs[0].run_id) / "last.ckpt").exists()

    def test_of_which_nothing_is_known_is_gone_on_with(self, store, specs):
        self.interrupted(store, specs[0], {})
        assert supersede_stale_progress(store, specs[0].run_id, source_hashes(specs[0])) is None

    def test_is_said_and_the_run_starts_again(self, store, specs, caplog):
        self.interrupted(store, specs[0], stale(specs[0]))
        seen = []

        def train(spec, job):
            seen.append((job.folder / "last.ckpt").exists())
            return RunOutcome({"top1": 1.0})

        assert Claim(train, store, 3, "cpu")(Task(specs[0])) == "done"
        assert seen == [False]
        assert "the source of training has changed: the run starts again" in caplog.text
        assert store.attempts(specs[0].run_id)[-1].source == source_hashes(specs[0])


def test_a_record_has_the_source_from_before_the_training(store, specs, monkeypatch):
    class Changing:
        count = 0

        def of(self, spec):
            self.count += 1
            return {"training": f"{self.count:016}"}

        def files(self, spec):
            return {}

    sources = Changing()
    monkeypatch.setattr(claim_module, "_LOADED", sources)

    def train(spec, job):
        sources.of(spec)
        return RunOutcome({"top1": 1.0})

    Claim(train, store, 3, "cpu")(Task(specs[0]))
    assert store.record(specs[0].run_id).source == {"training": f"{1:016}"}


class TestDamage:
    @pytest.mark.parametrize(
        "text", ["", '{"format": 1, "run_id": "ab', "\x00" * 100, "[]", "null"], ids=repr
    )
    @pytest.mark.parametrize("name", ["record.json", "attempts/1.json", "spec.json"])
    def test_is_named_renamed_and_the_run_is_pending_again(self, store, specs, name, text):
        finish(store, specs[0])
        path = store.folder(specs[0].run_id) / name
        path.write_text(text)
        assert store.state(specs[0].run_id) == ("pending" if name == "record.json" else "done")
        [line] = quarantine_damaged(store, specs[0].run_id)
        assert f"{path} cannot be read" in line
        assert not path.exists()
        aside = path.with_name(f"{path.name}.damaged-1")
        assert line.endswith(f"renamed {aside.name}")
        assert aside.read_text() == text
        assert quarantine_damaged(store, specs[0].run_id) == []

    def test_a_claim_says_it_and_trains_again(self, store, specs, caplog):
        finish(store, specs[0])
        folder = store.folder(specs[0].run_id)
        for name in ("record.json", "spec.json", "attempts/1.json"):
            (folder / name).write_text('{"cut')
        with caplog.at_level(logging.WARNING):
            assert (
                Claim(lambda spec, job: RunOutcome({"top1": 1.0}), store, 3, "cpu")(Task(specs[0])) == "done"
            )
        assert [record.message.count("\n") for record in caplog.records] == [0, 0, 0]
        assert store.spec(specs[0].run_id) == specs[0]
        assert store.record(specs[0].run_id).metrics == {"top1": 1.0}
        assert (folder / "record.json.damaged-1").read_text() == '{"cut'

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("spec.json", "{}"),
            ("record.json", '{"status": "done"}'),
            ("record.json", '{"format": 1, "status": "done"}'),  # this version's own format, not a later one
        ],
    )
    def test_json_that_is_no_document_of_ours_is_damaged_too(self, store, specs, name, text):
        finish(store, specs[0])
        path = store.folder(specs[0].run_id) / name
        path.write_text(text)
        [line] = quarantine_damaged(store, specs[0].run_id)
        assert f"renamed {name}.damaged-1" in line
        assert Claim(lambda spec, job: RunOutcome({"top1": 1.0}), store, 3, "cpu")(Task(specs[0]))
        if name == "record.json":
            assert store.spec(specs[0].run_id) == specs[0]
            assert store.record(specs[0].run_id).metrics == {"top1": 1.0}

    def test_a_done_attempt_whose_record_is_lost_does_not_count(self, store, specs):
        finish(store, specs[0])
        (store.folder(specs[0].run_id) / "record.json").write_text("")
        assert store.state(specs[0].run_id, max_attempts=1) == "pending"

    def test_the_damage_is_listed_and_the_rest_is_read(self, store, specs):
        for outcome in ("failed", "failed"):
            store.end(specs[0].run_id, store.begin(specs[0]), outcome)
        (store.folder(specs[0].run_id) / "attempts" / "1.json").write_text("{")
        facts = store.facts(specs[0].run_id)
        assert [attempt.number for attempt in facts.attempts] == [2]
        assert facts.tries == 2
        assert len(facts.damage) == 1

    def test_a_damaged_record_is_none_among_many(self, store, specs):
        for spec in specs[:2]:
            finish(store, spec)
        (store.folder(specs[0].run_id) / "record.json").write_text("{")
        assert list(store.records(spec.run_id for spec in specs)) == [specs[1].run_id]

    def test_a_record_of_another_version_is_left_alone(self, store, specs):
        run_id = specs[0].run_id
        finish(store, specs[0])
        path = store.folder(run_id) / "record.json"
        path.write_text('{"format": 2}')
        assert quarantine_damaged(store, run_id) == []
        facts = store.facts(run_id)
        assert (facts.done, facts.unreadable, store.state(run_id)) == (False, True, "failed")
        assert "not a record of this version" in facts.damage[0]
        assert Claim(lambda spec, job: RunOutcome({"top1": 1.0}), store, 3, "cpu")(Task(specs[0])) == "failed"
        assert path.read_text() == '{"format": 2}'
