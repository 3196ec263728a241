"""What `store check` finds wrong with runs that were really trained, and what it quarantines."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ema_lab.store.store import RunStore
from ema_lab.workflow.upkeep import check_runs


def found(**options):
    """Return 1 if a run is damaged, else 0, and the problems by run and file."""
    checked = check_runs(RunStore("runs"), **options)
    return int(bool(checked.damaged)), {(row["run_id"], row["file"]): row for row in checked.rows()}


@pytest.mark.parametrize(
    "file", ["record.json", "spec.json", "attempts/1.json", "predictions.npz", "last.ckpt", "curve.csv"]
)
@pytest.mark.parametrize("how", ["cut", "gone", "zeros"])
def test_names_a_file_that_is_damaged(runs, last, file, how):
    path = runs.folder(last) / file
    if how == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if how == "cut" else bytes(len(content)))
    code, rows = found()
    named = "attempts" if "attempts" in file else file
    if (file, how) == ("record.json", "gone"):  # a run without a record is one that is not done
        assert code == 0
        return
    assert code == 1
    assert [key for key, row in rows.items() if row["damaged"]] == [(last, named)]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("record.json", "is the record of"),
        ("spec.json", "was changed: its run id is"),
        ("attempts/1.json", "is attempt 1 at"),
        ("predictions.npz", "holds the predictions of"),
        ("curve.csv", "is the curve of"),
        ("last.ckpt", "is the checkpoint of"),
    ],
)
def test_names_a_file_of_another_run(runs, last, file, words):
    other = next(one for one in runs.run_ids() if one != last and runs.spec(one).recipe.protocol == "last")
    shutil.copy(runs.folder(other) / file, runs.folder(last) / file)
    code, rows = found()
    assert code == 1
    [((run_id, _), row)] = [item for item in rows.items() if item[1]["damaged"]]
    assert run_id == last
    assert words in row["problem"]
    assert other in row["problem"]


@pytest.mark.parametrize("file", ["predictions.npz", "curve.csv", "last.ckpt", "record.json", "spec.json"])
def test_sets_a_run_with_another_run_s_file_aside(runs, last, file):
    others = [one for one in runs.run_ids() if one != last]
    other = next(one for one in others if runs.spec(one).recipe.protocol == "last")
    shutil.copy(runs.folder(other) / file, runs.folder(last) / file)
    assert list(check_runs(runs, quarantine=True).quarantined) == [last]
    assert [runs.state(one) for one in (last, *others)] == ["pending", "done", "done"]
    stranger = runs.folder(last) / ("spec.json" if file == "spec.json" else f"superseded/1/{file}")
    assert stranger.read_bytes() == (runs.folder(other) / file).read_bytes()


@pytest.mark.parametrize("damage", ["another run's", "cut off"])
def test_keeps_a_result_beside_which_a_checkpoint_that_nobody_reads_is_damaged(runs, last, damage):
    other = next(one for one in runs.run_ids() if runs.spec(one).recipe.protocol != "last")
    content = (runs.folder(other) / "best.ckpt").read_bytes()
    stray = runs.folder(last) / "best.ckpt"
    stray.write_bytes(content if damage == "another run's" else content[:1000])
    checked = check_runs(runs, quarantine=True)
    assert [f"{stray.name}.damaged-1; the result stays" in line for line in checked.renamed] == [True]
    assert not checked.quarantined
    assert runs.state(last) == "done"
    assert not check_runs(runs).damaged


def test_sets_nothing_aside_that_a_later_version_can_read(runs, last):
    (runs.folder(last) / "record.json").write_text('{"format": 2}')
    assert not check_runs(runs, quarantine=True).quarantined
    assert (runs.folder(last) / "record.json").read_text() == '{"format": 2}'


def test_takes_files_of_an_older_version_which_name_no_run(runs, last):
    folder = runs.folder(last)
    rows = [line.rpartition(",")[0] for line in (folder / "curve.csv").read_text().splitlines()]
    (folder / "curve.csv").write_text("\n".join(rows) + "\n")
    with np.load(folder / "predictions.npz") as saved:
        values = {key: saved[key] for key in saved if key != "run_id"}
    np.savez_compressed(folder / "predictions.npz", **values)
    checkpoint = torch.load(folder / "last.ckpt", weights_only=True)
    del checkpoint["run_id"]
    torch.save(checkpoint, folder / "last.ckpt")
    attempt = json.loads((folder / "attempts" / "1.json").read_text())
    del attempt["run_id"], attempt["session"]
    (folder / "attempts" / "1.json").write_text(json.dumps(attempt))
    assert found() == (0, {})


def test_finds_a_bit_that_fell_over_in_a_checkpoint(runs, last):
    path = runs.folder(last) / "last.ckpt"
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda item: item.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + largest.file_size // 2 + 200] ^= 1
    path.write_bytes(bytes(content))
    torch.load(path, weights_only=True)  # which sees nothing
    code, rows = found()
    assert code == 1
    assert "checksum" in rows[last, "last.ckpt"]["problem"]
    assert found(checkpoints=False) == (0, {})


def test_holds_the_predictions_against_the_record(runs, last):
    path = runs.folder(last) / "predictions.npz"
    with np.load(path) as saved:
        values = dict(saved)
    record = runs.record(last)
    metrics = {**record.metrics, "top1": record.metrics["top1"] + 6.25}
    runs.write(record.model_copy(update={"metrics": metrics}))
    assert "and the record says" in found()[1][last, "predictions.npz"]["problem"]
    runs.write(record)
    np.savez_compressed(path, **{**values, "logits": values["logits"][1:], "labels": values["labels"][1:]})
    assert "not 16 images" in found()[1][last, "predictions.npz"]["problem"]


def test_takes_any_choice_among_equal_logits(runs, last):
    path = runs.folder(last) / "predictions.npz"
    with np.load(path) as saved:
        values = dict(saved)
    np.savez_compressed(path, **{**values, "logits": np.zeros_like(values["logits"])})
    assert "has contents of the hash" in found()[1][last, "predictions.npz"]["problem"]
    older = runs.record(last).model_copy(update={"predictions_sha256": ""})  # of a release before
    runs.write(older)
    assert found()[0] == 0


def test_finds_a_number_that_is_none_and_a_record_of_another_run(runs, last, best):
    path = runs.folder(last) / "record.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "metrics": {**value["metrics"], "loss": float("nan")}}))
    (runs.folder(best) / "record.json").write_text(json.dumps({**value, "attempt": 1}))
    _, rows = found(checkpoints=False)
    assert "NaN is no number" in rows[last, "record.json"]["problem"]
    assert f"is the record of {last!r}" in rows[best, "record.json"]["problem"]


def test_finds_a_spec_that_was_changed(runs, last):
    path = runs.folder(last) / "spec.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seed": 5}))
    assert "was changed" in found(checkpoints=False)[1][last, "spec.json"]["problem"]


def test_counts_the_epochs_of_the_curve(runs, last):
    with (runs.folder(last) / "curve.csv").open("a") as file:
        file.write("2,0.1,1,1,1\n")
    problem = found(checkpoints=False)[1][last, "curve.csv"]["problem"]
    assert problem == "has 2 rows, not one per epoch (1)"


def test_notes_what_lies_about_without_calling_it_damage(runs, last):
    folder = runs.folder(last)
    for name in (
        "last.ckpt.77.partial",
        "attempts/2.json.77.partial",
        "notes.txt",
        "record.json.damaged-1",
    ):
        (folder / name).write_text("x")
    Path("runs", "a-folder").mkdir()
    Path("runs", ".locks", f"{'0' * 16}.lock").touch()
    code, rows = found()
    assert code == 0
    assert {key: row["problem"] for key, row in rows.items()} == {
        (last, "last.ckpt.77.partial"): "was left half-written",
        (last, "attempts/2.json.77.partial"): "was left half-written",
        (last, "notes.txt"): "is not a file of the store",
        (last, "record.json.damaged-1"): "is quarantined",
        (None, "a-folder"): "is no run folder",
        ("0" * 16, f".locks/{'0' * 16}.lock"): "a lock without a run",
    }


def test_leaves_a_run_out_that_a_process_works_on(runs, last):
    (runs.folder(last) / "record.json").write_text("{")
    with runs.claim(last):
        code, rows = found()
    assert (code, rows[last, ""]["problem"]) == (0, "a process works on it: not checked")


def test_a_run_without_files_is_all_damage(trained):
    run_ids = trained()
    _, rows = found()
    expected = {
        (run_id, file) for run_id in run_ids for file in ("curve.csv", "predictions.npz", "last.ckpt")
    }
    assert {key for key, row in rows.items() if row["damaged"]} == expected
