"""What `store gc` frees, and what it never takes."""

from pathlib import Path

import pytest
import torch
from contents import content
from tiny import fake_outcome

import ema_lab
from ema_lab.errors import EmaLabError, StoreError
from ema_lab.one_run.model import load_model
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.garbage import Policy, Slimming, find_litter, remove, remove_runs
from ema_lab.workflow.look.results import evaluate
from ema_lab.workflow.upkeep import check_runs, collect_garbage

RESULTS = ["record.json", "last.ckpt", "best.ckpt", "predictions.npz", "curve.csv", "attempts/1.json"]
UNKNOWN = "0123456789abcdef"


def collected(**options):
    """Return the items that are or would be freed, by kind."""
    return {row["kind"]: row for row in collect_garbage(RunStore("runs"), **options).rows()}


@pytest.fixture
def made_up(trained):
    """Return a store of four finished runs without weights, and their ids."""
    run_ids = trained(train=lambda spec, job: fake_outcome(spec))
    return RunStore("runs"), run_ids


def test_takes_what_only_resuming_needs(runs, last, best):
    sizes = {run_id: (runs.folder(run_id) / "last.ckpt").stat().st_size for run_id in (last, best)}
    weights = {run_id: load_model(run_id, runs).state_dict() for run_id in (last, best)}
    said = collected()
    freed = collected(apply=True)
    assert {kind: row["count"] for kind, row in freed.items()} == {"checkpoint": 1, "optimizer state": 2}
    assert freed["checkpoint"] == said["checkpoint"]
    assert freed["checkpoint"]["bytes"] == sizes[best]
    assert 0.9 < said["optimizer state"]["bytes"] / freed["optimizer state"]["bytes"] < 1.1
    assert not (runs.folder(best) / "last.ckpt").exists()
    assert (runs.folder(last) / "last.ckpt").stat().st_size < 0.6 * sizes[last]
    for run_id, before in weights.items():
        after = load_model(run_id, runs).state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())
    assert collected(apply=True) == {}
    assert not check_runs(runs).rows()
    assert evaluate(last, device="cpu").metrics["top1"] == runs.record(last).metrics["top1"]


def test_a_run_whose_record_is_lost_afterwards_starts_again(runs, last):
    before = runs.record(last)
    collect_garbage(RunStore("runs"), apply=True)
    (runs.folder(last) / "record.json").write_text("{")
    assert ema_lab.run("tiny", seeds=1, device="cpu", workers=1).ok
    assert runs.record(last).metrics == before.metrics


def test_drops_weights_when_asked_and_check_knows(runs, last):
    freed = collected(apply=True, drop_weights=True)
    assert (freed["weights"]["count"], freed["checkpoint"]["count"]) == (3, 1)
    assert list(Path("runs").rglob("*.ckpt")) == []
    assert not check_runs(runs).rows()
    with pytest.raises(EmaLabError):
        evaluate(last, device="cpu")
    assert ema_lab.report("tiny").records()


def test_takes_half_written_files_and_orphans(runs, last):
    (runs.folder(last) / "last.ckpt.77.partial").write_bytes(b"x" * 100)
    for name in ("0123456789abcdef/attempts", ".removing-0123456789abcdef", ".importing-x.1"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "file").write_bytes(b"x" * 10)
    Path("runs", "a-folder-of-someone").mkdir()
    freed = collected(apply=True)
    assert freed["partial"] == {"kind": "partial", "count": 1, "bytes": 100}
    assert freed["orphan"] == {"kind": "orphan", "count": 3, "bytes": 30}
    left = {path.name for path in Path("runs").iterdir()}
    assert left == {*runs.run_ids(), ".locks", ".threads.json", ".threads.lock", "a-folder-of-someone"}


def test_keeps_what_was_set_aside_unless_asked(runs, last):
    folder = runs.folder(last)
    (folder / "superseded" / "1").mkdir(parents=True)
    (folder / "superseded" / "1" / "record.json.damaged-1").write_bytes(b"x" * 10)
    (folder / "attempts" / "2.json.damaged-1").write_bytes(b"x")
    assert "superseded" not in collected(apply=True)
    freed = collected(apply=True, superseded=True)
    assert freed["superseded"] == {"kind": "superseded", "count": 1, "bytes": 10}
    assert freed["damaged"] == {"kind": "damaged", "count": 1, "bytes": 1}
    assert not check_runs(runs).rows()


def test_touches_no_run_that_a_process_works_on_or_that_is_not_done(runs, last, best):
    (runs.folder(best) / "record.json").unlink()
    with runs.claim(last):
        freed = collected(apply=True, drop_weights=True)
    assert freed["weights"]["count"] == 1
    assert (runs.folder(last) / "last.ckpt").exists()
    assert (runs.folder(best) / "last.ckpt").exists()


def test_keeps_a_finished_run_whose_spec_is_lost(made_up):
    store, run_ids = made_up
    (store.folder(run_ids[0]) / "spec.json").unlink()
    before = content("runs")
    collect_garbage(RunStore("runs"), apply=True, drop_weights=True, superseded=True)
    assert content("runs") == before


@pytest.mark.parametrize("name", [*RESULTS, "record.json.damaged-1", "superseded/1/record.json"])
def test_keeps_a_folder_with_any_result(folder, name):
    path = Path("runs", UNKNOWN, name)
    path.parent.mkdir(parents=True)
    path.write_text("x")
    collect_garbage(RunStore("runs"), apply=True)
    assert path.read_text() == "x"


@pytest.mark.parametrize(
    "name", ["log.txt", "heartbeat.json", "spec.json.7.partial", "attempts/1.json.7.partial"]
)
def test_takes_a_folder_without_one(folder, name):
    path = Path("runs", UNKNOWN, name)
    path.parent.mkdir(parents=True)
    path.write_text("x")
    collect_garbage(RunStore("runs"))
    assert path.exists()
    collect_garbage(RunStore("runs"), apply=True)
    assert not Path("runs", UNKNOWN).exists()


def test_judges_again_under_the_lock_what_was_an_orphan(specs, tmp_path):
    store = RunStore(tmp_path)
    store.folder(specs[0].run_id).mkdir()
    [litter] = find_litter(store, Policy())
    store.end(specs[0].run_id, store.begin(specs[0]), "done")
    store.write(RunRecord(run_id=specs[0].run_id, status="done", attempt=1))
    before = content(tmp_path)
    assert remove(store, litter, Policy()) is None
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    "policy", [Policy(), Policy(drop_weights=True), Policy(Slimming(lambda p: 1, Path.unlink))]
)
def test_judges_again_under_the_lock_what_only_resuming_needs(specs, tmp_path, policy):
    store, run_id = RunStore(tmp_path), specs[0].run_id
    store.begin(specs[0])
    for name in ("last.ckpt", "best.ckpt"):
        (store.folder(run_id) / name).write_text("weights")
    store.write(RunRecord(run_id=run_id, status="done", attempt=1))
    found = list(find_litter(store, policy))
    assert found
    (store.folder(run_id) / "record.json").unlink()  # `run --refresh`, say: it is trained again
    assert [remove(store, litter, policy) for litter in found] == [None] * len(found)
    assert (store.folder(run_id) / "last.ckpt").exists()
    assert (store.folder(run_id) / "best.ckpt").exists()


def test_leaves_what_another_process_imports_or_removes(folder):
    store = RunStore("runs")
    for name in (".importing-x", f".removing-{UNKNOWN}"):
        Path("runs", name).mkdir(parents=True)
    with store.claim("import"), store.claim(UNKNOWN):
        assert list(find_litter(store, Policy())) == []
    found = list(find_litter(store, Policy()))
    assert len(found) == 2
    with store.claim("import"), store.claim(UNKNOWN):
        assert [remove(store, litter, Policy()) for litter in found] == [None, None]


def test_takes_a_link_and_not_what_it_leads_to(folder):
    Path("outside").mkdir()
    Path("outside", "kept").write_text("x")
    Path("runs").mkdir()
    for name in (f".removing-{UNKNOWN}", ".importing-x"):
        Path("runs", name).symlink_to(Path("outside").absolute())
    collect_garbage(RunStore("runs"), apply=True)
    assert [path.name for path in Path("runs").iterdir()] == [".locks"]
    assert Path("outside", "kept").read_text() == "x"


def test_keeps_a_run_that_was_finished_after_the_question(made_up):
    store, run_ids = made_up
    with pytest.raises(StoreError, match="is done now: this run and the later ones are kept"):
        remove_runs(store, {run_ids[0]: "pending", run_ids[1]: "done"})
    assert store.run_ids() == sorted(run_ids)
