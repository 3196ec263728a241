"""The index of a store notices every change, and reads only what has changed."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import fake_outcome

from ema_lab.ablation.ablation import load_ablation
from ema_lab.store import index as index_module
from ema_lab.store.index import StoreIndex
from ema_lab.store.store import RunStore


@pytest.fixture
def store(folder) -> RunStore:
    return RunStore("runs")


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Ids of the runs that were read, in order."""
    read: list[str] = []
    whole = RunStore.facts

    def facts(self, run_id):
        read.append(run_id)
        return whole(self, run_id)

    monkeypatch.setattr(RunStore, "facts", facts)
    return read


def settle(run_ids: list[str], seconds: float = 10.0) -> None:
    """Make folders look as if they had been quiet for a while."""
    for run_id in run_ids:
        for path in (Path("runs", run_id), Path("runs", run_id, "attempts")):
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))


def test_a_store_that_does_not_exist_yet_has_no_runs(store):
    index = StoreIndex(store)
    assert (index.refresh(), index.runs) == (0, {})


def test_summaries_have_state_metrics_and_failures(store, trained):
    def train(spec, job):
        if spec.seed == 1:
            raise MemoryError("no room")
        return fake_outcome(spec)

    run_ids = trained(train=train)
    index = StoreIndex(store)
    index.refresh()
    assert sorted(index.runs) == sorted(run_ids)
    done, failed = index.runs[run_ids[0]], index.runs[run_ids[1]]
    assert (done.state, done.metrics, done.wall_seconds) == ("done", {"top1": 90.0, "loss": 0.5}, 3600.0)
    assert (failed.state, failed.shown_state, failed.tries) == ("pending", "failed", 1)
    assert failed.failure is not None
    assert failed.failure.message == "MemoryError: no room"
    assert index.ended(run_ids[0]) is not None
    assert index.ended("0" * 16) is None


def test_only_folders_that_changed_are_read_again(store, trained, reads):
    run_ids = trained(keep=lambda spec: spec.seed == 0)
    settle(run_ids)
    index = StoreIndex(store)
    first = index.refresh()
    reads.clear()
    assert (index.refresh(), index.glance(), reads) == (first, first, [])
    more = trained(keep=lambda spec: spec.seed == 1)
    reads.clear()
    assert index.glance() > first
    assert set(reads) == set(more)


def test_a_young_folder_is_read_again_since_its_time_is_coarse(store, trained, reads):
    [run_id, *_] = trained()
    index = StoreIndex(store)
    before = index.refresh()
    path = Path("runs", run_id)
    stamp = path.stat()
    record = (path / "record.json").read_text()
    (path / "record.json").write_text(record.replace("90.0", "91.5"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as in one tick of the file system's clock
    assert index.refresh() > before
    assert index.runs[run_id].metrics["top1"] == 91.5


def test_a_removed_run_is_forgotten(store, trained):
    run_ids = trained()
    settle(run_ids)
    index = StoreIndex(store)
    before = index.refresh()
    shutil.rmtree(Path("runs", run_ids[2]))
    assert index.glance() > before
    assert run_ids[2] not in index.runs


def test_a_quick_look_leaves_quiet_folders_to_the_next_whole_one(store, trained, monkeypatch):
    run_ids = trained()
    settle(run_ids, 7200.0)
    index = StoreIndex(store)
    before = index.refresh()
    (Path("runs", run_ids[0]) / "record.json").unlink()
    settle(run_ids[:1], 3600.0)
    assert index.glance() == before
    assert index.refresh() > before
    assert index.runs[run_ids[0]].state == "pending"
    monkeypatch.setattr(index_module, "WHOLE_SECONDS", 0.0)
    index._next_whole = 0.0
    (Path("runs", run_ids[1]) / "record.json").unlink()
    settle(run_ids[1:2], 3600.0)
    assert index.glance() > before + 1


def test_a_killed_run_is_no_longer_running_although_no_file_has_changed(store, folder):
    [spec, *_] = load_ablation("tiny").runs()
    index = StoreIndex(store)
    with store.claim(spec.run_id) as claimed:
        assert claimed
        store.begin(spec, source={}, session="")
        settle([spec.run_id])
        index.refresh()
        assert index.runs[spec.run_id].state == "running"
        before = index.glance()
    assert index.glance() > before
    assert index.runs[spec.run_id].shown_state == "failed"


def test_calls_at_one_time_share_a_look(store, trained, monkeypatch):
    trained()
    index = StoreIndex(store)
    looks = []
    whole = StoreIndex._look

    def look(self, *, is_whole):
        if not looks:  # another call waits for this look to end, but began before
            monkeypatch.setattr(index_module.time, "monotonic", lambda: 5.0)
        looks.append(is_whole)
        whole(self, is_whole=is_whole)
        self._began = 10.0

    monkeypatch.setattr(StoreIndex, "_look", look)
    index.refresh()
    index.refresh()
    assert looks == [True]


def test_summaries_compare_by_value(store, trained):
    [run_id, *_] = trained()
    index = StoreIndex(store)
    index.refresh()
    run = index.runs[run_id]
    assert replace(run) == run
    assert replace(run, tries=2) != run
