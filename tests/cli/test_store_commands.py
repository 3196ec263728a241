"""store check, gc, export, import and rm, on runs that were really trained."""

import io
import json
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY, fake_outcome

from ema_lab.cli.main import run
from ema_lab.one_run.model import load_model
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore

CHOSEN = (
    TINY.replace("name: tiny", "name: chosen")
    .replace("lr: 0.1", "lr: 0.1, momentum: 0.9")
    .replace("train_images: 32", "val_images: 10, train_images: 32")
    .replace("epochs: 1,", "epochs: 1, protocol: best-val,")
)


MOMENTUM = TINY.replace("lr: 0.1", "lr: 0.1, momentum: 0.9")


@pytest.fixture(scope="module")
def trained_store(tmp_path_factory):
    """Return a store of three runs: two with the last epoch's weights, one with the best epoch's."""
    here = tmp_path_factory.mktemp("trained")
    (here / "tiny.yaml").write_text(MOMENTUM)
    (here / "chosen.yaml").write_text(CHOSEN)
    words = ["--seeds", "1", "--device", "cpu", "--workers", "1", "--store", str(here / "runs")]
    assert run(["run", str(here / "tiny.yaml"), *words]) == 0
    assert run(["run", str(here / "chosen.yaml"), *words, "--only", "variant=none"]) == 0
    return here / "runs"


@pytest.fixture
def runs(folder, trained_store):
    """Return a copy of that store, as `runs` in the current folder, beside its ablation."""
    (folder / "ablations" / "tiny.yaml").write_text(MOMENTUM)
    shutil.copytree(trained_store, "runs")
    return RunStore("runs")


def protocol(store, run_id):
    return store.spec(run_id).recipe.protocol


@pytest.fixture
def last(runs):
    """Return the first run whose weights are those of the last epoch."""
    return next(run_id for run_id in runs.run_ids() if protocol(runs, run_id) == "last")


@pytest.fixture
def best(runs):
    return next(run_id for run_id in runs.run_ids() if protocol(runs, run_id) == "best-val")


def found(command, *words):
    answer = command("store", "check", "--json", *words)
    return answer.code, {(row["run_id"], row["file"]): row for row in json.loads(answer.out)}


class TestCheck:
    def test_finds_nothing_wrong_with_what_was_trained(self, command, runs, tree):
        before = tree()
        answer = command("store", "check")
        assert (answer.code, answer.out) == (0, "")
        assert answer.err.splitlines()[-1] == "3 runs checked: 0 damaged"  # a slow check has lines before it
        assert (
            "3 runs checked without their checkpoints: 0 damaged" in command("store", "check", "--quick").err
        )
        assert tree() == before

    @pytest.mark.parametrize(
        "file", ["record.json", "spec.json", "attempts/1.json", "predictions.npz", "last.ckpt", "curve.csv"]
    )
    @pytest.mark.parametrize("how", ["cut", "gone", "zeros"])
    def test_names_a_file_that_is_damaged(self, command, runs, last, file, how):
        path = runs.folder(last) / file
        if how == "gone":
            path.unlink()
        else:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2] if how == "cut" else bytes(len(content)))
        code, rows = found(command)
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
    def test_names_a_file_of_another_run(self, command, runs, last, file, words):
        other = next(one for one in runs.run_ids() if one != last and protocol(runs, one) == "last")
        shutil.copy(runs.folder(other) / file, runs.folder(last) / file)
        code, rows = found(command)
        assert code == 1
        [((run_id, _), row)] = [item for item in rows.items() if item[1]["damaged"]]
        assert run_id == last
        assert words in row["problem"]
        assert other in row["problem"]

    @pytest.mark.parametrize(
        "file", ["predictions.npz", "curve.csv", "last.ckpt", "record.json", "spec.json"]
    )
    def test_sets_a_run_with_another_run_s_file_aside(self, command, runs, last, file):
        others = [one for one in runs.run_ids() if one != last]
        other = next(one for one in others if protocol(runs, one) == "last")
        shutil.copy(runs.folder(other) / file, runs.folder(last) / file)
        answer = command("store", "check", "--set-aside")
        assert answer.code == 1
        assert answer.err.endswith("1 of them set aside: `ema-lab run` trains them again\n")
        assert [runs.state(one) for one in (last, *others)] == ["pending", "done", "done"]
        stranger = runs.folder(last) / ("spec.json" if file == "spec.json" else f"superseded/1/{file}")
        assert stranger.read_bytes() == (runs.folder(other) / file).read_bytes()

    @pytest.mark.parametrize("damage", ["another run's", "cut off"])
    def test_keeps_a_result_beside_which_a_checkpoint_that_nobody_reads_is_damaged(
        self, command, runs, last, damage
    ):
        other = next(one for one in runs.run_ids() if protocol(runs, one) != "last")
        content = (runs.folder(other) / "best.ckpt").read_bytes()
        stray = runs.folder(last) / "best.ckpt"
        stray.write_bytes(content if damage == "another run's" else content[:1000])
        answer = command("store", "check", "--set-aside")
        assert f"{stray.name}.damaged-1; the result stays" in answer.err
        assert answer.err.endswith("0 of them set aside: `ema-lab run` trains them again\n")
        assert runs.state(last) == "done"
        assert command("store", "check").code == 0

    def test_sets_nothing_aside_that_a_later_version_can_read(self, command, runs, last):
        (runs.folder(last) / "record.json").write_text('{"format": 2}')
        assert command("store", "check", "--set-aside").err.count("0 of them set aside") == 1
        assert (runs.folder(last) / "record.json").read_text() == '{"format": 2}'

    def test_takes_files_of_an_older_version_which_name_no_run(self, command, runs, last):
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
        assert found(command) == (0, {})

    def test_finds_a_bit_that_fell_over_in_a_checkpoint(self, command, runs, last):
        path = runs.folder(last) / "last.ckpt"
        with zipfile.ZipFile(path) as archive:
            largest = max(archive.infolist(), key=lambda item: item.file_size)
        content = bytearray(path.read_bytes())
        content[largest.header_offset + largest.file_size // 2 + 200] ^= 1
        path.write_bytes(bytes(content))
        torch.load(path, weights_only=True)  # which sees nothing
        code, rows = found(command)
        assert code == 1
        assert "checksum" in rows[last, "last.ckpt"]["problem"]
        assert found(command, "--quick") == (0, {})

    def test_holds_the_predictions_against_the_record(self, command, runs, last):
        path = runs.folder(last) / "predictions.npz"
        with np.load(path) as saved:
            values = dict(saved)
        record = runs.record(last)
        metrics = {**record.metrics, "top1": record.metrics["top1"] + 6.25}
        runs.write(record.model_copy(update={"metrics": metrics}))
        assert "and the record says" in found(command)[1][last, "predictions.npz"]["problem"]
        runs.write(record)
        np.savez_compressed(
            path, **{**values, "logits": values["logits"][1:], "labels": values["labels"][1:]}
        )
        assert "not 16 images" in found(command)[1][last, "predictions.npz"]["problem"]

    def test_takes_any_choice_among_equal_logits(self, command, runs, last):
        path = runs.folder(last) / "predictions.npz"
        with np.load(path) as saved:
            values = dict(saved)
        np.savez_compressed(path, **{**values, "logits": np.zeros_like(values["logits"])})
        assert "has contents of the hash" in found(command)[1][last, "predictions.npz"]["problem"]
        older = runs.record(last).model_copy(update={"predictions_sha256": ""})  # of a release before
        runs.write(older)
        assert found(command)[0] == 0

    def test_finds_a_number_that_is_none_and_a_record_of_another_run(self, command, runs, last, best):
        path = runs.folder(last) / "record.json"
        value = json.loads(path.read_text())
        path.write_text(json.dumps({**value, "metrics": {**value["metrics"], "loss": float("nan")}}))
        (runs.folder(best) / "record.json").write_text(json.dumps({**value, "attempt": 1}))
        _, rows = found(command, "--quick")
        assert "NaN is no number" in rows[last, "record.json"]["problem"]
        assert f"is the record of {last!r}" in rows[best, "record.json"]["problem"]

    def test_finds_a_spec_that_was_changed(self, command, runs, last):
        path = runs.folder(last) / "spec.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "seed": 5}))
        assert "was changed" in found(command, "--quick")[1][last, "spec.json"]["problem"]

    def test_counts_the_epochs_of_the_curve(self, command, runs, last):
        with (runs.folder(last) / "curve.csv").open("a") as file:
            file.write("2,0.1,1,1,1\n")
        problem = found(command, "--quick")[1][last, "curve.csv"]["problem"]
        assert problem == "has 2 rows, not one for each of 1 epochs"

    def test_notes_what_lies_about_without_calling_it_damage(self, command, runs, last):
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
        code, rows = found(command)
        assert code == 0
        assert {key: row["problem"] for key, row in rows.items()} == {
            (last, "last.ckpt.77.partial"): "was left half-written",
            (last, "attempts/2.json.77.partial"): "was left half-written",
            (last, "notes.txt"): "is not a file of the store",
            (last, "record.json.damaged-1"): "is quarantined",
            (None, "a-folder"): "is no run folder",
            ("0" * 16, f".locks/{'0' * 16}.lock"): "a lock without a run",
        }

    def test_leaves_a_run_out_that_a_process_works_on(self, command, runs, last):
        (runs.folder(last) / "record.json").write_text("{")
        with runs.claim(last):
            code, rows = found(command)
        assert (code, rows[last, ""]["problem"]) == (0, "a process works on it: not checked")

    def test_tells_how_far_it_is(self, command, runs, monkeypatch):
        monkeypatch.setattr("ema_lab.cli.store.PROGRESS_SECONDS", -1.0)
        lines = command("store", "check", "--quick").err.splitlines()
        assert lines[:3] == [f"{number} of 3 runs checked" for number in (1, 2, 3)]

    def test_a_store_that_is_not_there_is_an_error(self, command):
        answer = command("store", "check", "--store", "nowhere")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "there is no store nowhere" in answer.err


class TestGc:
    def freed(self, command, *words):
        return {row["kind"]: row for row in json.loads(command("store", "gc", "--json", *words).out)}

    def test_removes_nothing_unless_asked(self, command, runs, tree):
        before = tree()
        answer = command("store", "gc")
        assert answer.code == 0
        assert "nothing is removed without --apply" in answer.err
        assert tree() == before

    def test_takes_what_only_resuming_needs(self, command, runs, last, best):
        sizes = {run_id: (runs.folder(run_id) / "last.ckpt").stat().st_size for run_id in (last, best)}
        weights = {run_id: load_model(run_id, runs).state_dict() for run_id in (last, best)}
        said = self.freed(command)
        freed = self.freed(command, "--apply")
        assert {kind: row["count"] for kind, row in freed.items()} == {"checkpoint": 1, "optimizer state": 2}
        assert freed["checkpoint"] == said["checkpoint"]
        assert freed["checkpoint"]["bytes"] == sizes[best]
        assert 0.9 < said["optimizer state"]["bytes"] / freed["optimizer state"]["bytes"] < 1.1
        assert not (runs.folder(best) / "last.ckpt").exists()
        assert (runs.folder(last) / "last.ckpt").stat().st_size < 0.6 * sizes[last]
        for run_id, before in weights.items():
            after = load_model(run_id, runs).state_dict()
            assert all(torch.equal(after[name], value) for name, value in before.items())
        assert self.freed(command, "--apply") == {}
        assert found(command) == (0, {})
        [row] = json.loads(command("eval", last, "--device", "cpu", "--json").out)
        assert row["top1"] == runs.record(last).metrics["top1"]

    def test_a_run_whose_record_is_lost_afterwards_starts_again(self, command, runs, last):
        before = runs.record(last)
        command("store", "gc", "--apply")
        (runs.folder(last) / "record.json").write_text("{")
        assert command("run", "tiny", "--seeds", "1", "--device", "cpu", "--workers", "1").code == 0
        assert runs.record(last).metrics == before.metrics

    def test_drops_weights_when_asked_and_check_knows(self, command, runs, last):
        freed = self.freed(command, "--apply", "--drop-weights")
        assert (freed["weights"]["count"], freed["checkpoint"]["count"]) == (3, 1)
        assert list(Path("runs").rglob("*.ckpt")) == []
        assert found(command) == (0, {})
        answer = command("eval", last, "--device", "cpu")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert command("report", "tiny").code == 0

    def test_takes_half_written_files_and_orphans(self, command, runs, last):
        (runs.folder(last) / "last.ckpt.77.partial").write_bytes(b"x" * 100)
        for name in ("0123456789abcdef/attempts", ".removing-0123456789abcdef", ".importing-x.1"):
            Path("runs", name).mkdir(parents=True)
            Path("runs", name, "file").write_bytes(b"x" * 10)
        Path("runs", "a-folder-of-someone").mkdir()
        freed = self.freed(command, "--apply")
        assert freed["partial"] == {"kind": "partial", "count": 1, "bytes": 100}
        assert freed["orphan"] == {"kind": "orphan", "count": 3, "bytes": 30}
        left = {path.name for path in Path("runs").iterdir()}
        assert left == {*runs.run_ids(), ".locks", ".threads.json", ".threads.lock", "a-folder-of-someone"}

    def test_keeps_what_was_set_aside_unless_asked(self, command, runs, last):
        folder = runs.folder(last)
        (folder / "superseded" / "1").mkdir(parents=True)
        (folder / "superseded" / "1" / "record.json.damaged-1").write_bytes(b"x" * 10)
        (folder / "attempts" / "2.json.damaged-1").write_bytes(b"x")
        assert "superseded" not in self.freed(command, "--apply")
        freed = self.freed(command, "--apply", "--superseded")
        assert freed["superseded"] == {"kind": "superseded", "count": 1, "bytes": 10}
        assert freed["damaged"] == {"kind": "damaged", "count": 1, "bytes": 1}
        assert found(command) == (0, {})

    def test_touches_no_run_that_a_process_works_on_or_that_is_not_done(self, command, runs, last, best):
        (runs.folder(best) / "record.json").unlink()
        with runs.claim(last):
            freed = self.freed(command, "--apply", "--drop-weights")
        assert freed["weights"]["count"] == 1
        assert (runs.folder(last) / "last.ckpt").exists()
        assert (runs.folder(best) / "last.ckpt").exists()

    def test_keeps_a_checkpoint_that_it_cannot_read(self, command, runs, last):
        (runs.folder(last) / "last.ckpt").write_bytes(b"no checkpoint")
        answer = command("store", "gc", "--apply")
        assert answer.code == 0
        assert "cannot be read and is kept" in answer.err
        assert (runs.folder(last) / "last.ckpt").read_bytes() == b"no checkpoint"


class TestExport:
    def test_names_and_leaves_out_what_cannot_be_read(self, command, runs, last):
        (runs.folder(last) / "spec.json").write_text("{}")
        answer = command("store", "export", "all.jsonl")
        assert answer.code == 1
        assert f"{last}/spec.json is not a run spec of this version" in answer.err
        assert answer.err.endswith("2 records written to all.jsonl\n")
        assert last not in Path("all.jsonl").read_text()

    def test_writes_a_flat_object_per_record(self, command, runs, last):
        answer = command("store", "export", "all.jsonl")
        assert (answer.code, answer.err) == (0, "3 records written to all.jsonl\n")
        rows = {row["run_id"]: row for row in map(json.loads, Path("all.jsonl").read_text().splitlines())}
        row, record = rows[last], runs.record(last)
        assert not any(isinstance(value, dict | list) for value in row.values())
        assert row["metrics.top1"] == record.metrics["top1"]
        assert row["spec.model.backbone"] == "resnet20"
        assert row["environment.versions.torch"] == record.environment["versions"]["torch"]
        assert row["cost.parameters"] == record.cost["parameters"]
        assert row["source.training"] == record.source["training"]

    def test_writes_parquet_with_the_same_content(self, command, runs):
        import pyarrow.parquet

        assert command("store", "export", "all.parquet").code == 0
        command("store", "export", "all.jsonl")
        table = pyarrow.parquet.read_table("all.parquet").to_pylist()
        lines = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
        kept = [{key: value for key, value in row.items() if value is not None} for row in table]
        assert kept == [{key: value for key, value in row.items() if value is not None} for row in lines]

    def test_a_column_of_several_types_is_text(self, command, runs, last):
        import pyarrow.parquet

        for number, run_id in enumerate(runs.run_ids()):
            record = runs.record(run_id)
            cost = {"mixed": [1, "a", True][number], "number": [1, 2.5, None][number]}
            runs.write(RunRecord.model_validate({**record.model_dump(), "cost": cost}))
        command("store", "export", "all.parquet")
        columns = pyarrow.parquet.read_table("all.parquet").to_pydict()
        assert columns["cost.mixed"] == ["1", "a", "true"]
        assert columns["cost.number"] == [1.0, 2.5, None]

    def test_without_pyarrow_says_what_to_do(self, command, runs, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        answer = command("store", "export", "all.parquet")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "pip install 'ema-lab[parquet]'" in answer.err
        assert list(Path().glob("all.parquet*")) == []

    @pytest.mark.parametrize("name", ["all.csv", "nowhere/all.jsonl"])
    def test_a_file_that_cannot_be_is_an_error(self, command, runs, name):
        answer = command("store", "export", name)
        assert (answer.code, answer.err.count("\n")) == (2, 1)


class TestImport:
    @pytest.fixture
    def other(self, trained_store, folder):
        shutil.copytree(trained_store, "other")
        return RunStore("other")

    def change(self, store, run_id, top1):
        record = store.record(run_id)
        store.write(record.model_copy(update={"metrics": {**record.metrics, "top1": top1}}))

    def results(self, command, *words):
        answer = command("store", "import", "other", "--json", *words)
        return answer.code, {row["run_id"]: row["result"] for row in json.loads(answer.out)}

    def test_copies_whole_runs_and_nothing_twice(self, command, other):
        assert self.results(command) == (0, dict.fromkeys(other.run_ids(), "new"))
        mine = RunStore("runs")
        for run_id in other.run_ids():
            for path in other.folder(run_id).rglob("*"):
                if path.is_file():
                    copy = mine.folder(run_id) / path.relative_to(other.folder(run_id))
                    assert copy.read_bytes() == path.read_bytes()
        assert found(command) == (0, {})
        assert self.results(command) == (0, dict.fromkeys(other.run_ids(), "equal"))

    def test_may_write_to_what_it_copies_from_a_protected_store(self, command, other):
        for path in [Path("other"), *Path("other").rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        assert self.results(command) == (0, dict.fromkeys(other.run_ids(), "new"))
        for run_id in other.run_ids():
            folder = RunStore("runs").folder(run_id)
            assert all(path.stat().st_mode & stat.S_IWUSR for path in [folder, *folder.rglob("*")])

    @pytest.mark.parametrize("kind", ["zip", "gztar", "tar"])
    def test_takes_an_archive(self, command, other, kind):
        file = shutil.make_archive("packed", kind, ".", "other")
        assert command("store", "import", file).code == 0
        assert RunStore("runs").run_ids() == other.run_ids()
        assert sorted(p.name for p in Path("runs").iterdir()) == sorted([".locks", *other.run_ids()])

    def test_shows_a_conflict_and_takes_nothing_of_it(self, command, runs, other, last, tree):
        self.change(other, last, 1.5)
        before = tree()
        answer = command("store", "import", "other")
        assert answer.code == 1
        assert f"top1 {runs.record(last).metrics['top1']} here, 1.5 there" in answer.out
        assert "1 conflict, 2 equal" in answer.err
        after = tree()
        assert {k: v for k, v in after.items() if ".locks" not in k} == {
            k: v for k, v in before.items() if ".locks" not in k
        }

    def test_prefer_settles_conflicts_and_keeps_ours_aside(self, command, runs, other, last):
        ours = runs.record(last)
        self.change(other, last, 1.5)
        assert self.results(command, "--prefer", "ours")[1][last] == "kept"
        assert runs.record(last) == ours
        code, results = self.results(command, "--prefer", "theirs")
        assert (code, results[last]) == (0, "taken")
        assert runs.record(last).metrics["top1"] == 1.5
        kept = runs.folder(last) / "superseded" / "1"
        assert json.loads((kept / "record.json").read_text())["metrics"] == dict(ours.metrics)
        assert (kept / "last.ckpt").exists()
        assert (runs.folder(last) / "last.ckpt").exists()

    def test_takes_what_is_done_there_and_not_here(self, command, runs, other, last):
        (runs.folder(last) / "record.json").unlink()
        assert self.results(command)[1][last] == "taken"
        assert runs.state(last) == "done"

    def test_keeps_ours_where_theirs_is_not_done(self, command, runs, other, last):
        (other.folder(last) / "record.json").unlink()
        assert self.results(command)[1][last] == "kept"
        assert runs.state(last) == "done"

    def test_leaves_what_a_process_works_on_here_or_there(self, command, runs, other, last, best):
        (other.folder(best) / "record.json").unlink()
        other.begin(other.spec(best))
        with runs.claim(last), other.claim(best):
            results = self.results(command)[1]
        assert (results[last], results[best]) == ("busy", "busy")

    def test_names_what_it_cannot_read(self, command, other):
        broken = other.run_ids()[0]
        (other.folder(broken) / "spec.json").write_text("{")
        code, results = self.results(command)
        assert (code, results[broken]) == (1, "unreadable")
        assert not Path("runs", broken).exists()

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (["nowhere"], "does not exist"),
            (["file.tar"], "cannot be unpacked"),
            (["file.jsonl"], "takes a store's folder"),
            (["runs"], "is this store itself"),
            (["other", "--prefer", "mine"], "must be ours or theirs"),
        ],
    )
    def test_a_wrong_request_is_one_line(self, command, runs, words, reason):
        for name in ("file.tar", "file.jsonl"):
            Path(name).write_text("no archive\n")
        answer = command("store", "import", *words)
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert reason in answer.err


class TestRemove:
    def answer(self, monkeypatch, text):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    def test_asks_and_removes(self, command, runs, last, monkeypatch):
        self.answer(monkeypatch, "y\n")
        answer = command("store", "rm", last[:8])
        assert answer.code == 0
        assert f"{last}  done" in answer.err
        assert "remove 1 run from runs? [y/N]" in answer.err
        assert last not in runs.run_ids()
        assert len(runs.run_ids()) == 2
        assert [path for path in Path("runs").iterdir() if path.name.startswith(".removing")] == []

    def test_a_no_removes_nothing(self, command, runs, last, monkeypatch, tree):
        before = tree()
        self.answer(monkeypatch, "\n")
        answer = command("store", "rm", last)
        assert (answer.code, answer.err.splitlines()[-1].endswith("nothing was removed")) == (0, True)
        assert tree() == before

    def test_nobody_to_answer_is_an_error(self, command, runs, last, monkeypatch):
        self.answer(monkeypatch, "")
        answer = command("store", "rm", last)
        assert answer.code == 2
        assert "--yes removes without asking" in answer.err
        assert last in runs.run_ids()

    def test_takes_the_cells_of_an_ablation(self, command, runs, best):
        assert command("store", "rm", "--ablation", "tiny", "--only", "variant=se", "--yes").code == 0
        assert {cell["status"] for cell in json.loads(command("status", "tiny", "--json").out)} == {
            "done",
            "pending",
        }
        assert command("store", "rm", "--ablation", "tiny", "--yes").code == 0
        assert runs.run_ids() == [best]

    def test_refuses_all_if_a_process_works_on_one(self, command, runs, last):
        with runs.claim(last):
            answer = command("store", "rm", *runs.run_ids(), "--yes")
        assert answer.code == 2
        assert f"a process works on {last}" in answer.err
        assert len(runs.run_ids()) == 3

    def test_a_run_whose_spec_is_lost_goes_by_its_whole_id(self, command, runs, last):
        (runs.folder(last) / "spec.json").unlink()
        assert command("store", "rm", last, "--yes").code == 0
        assert not runs.folder(last).exists()

    @pytest.mark.parametrize(
        "words", [[], ["abc", "--ablation", "tiny"], ["abc", "--only", "seed=0"], ["zzz"]], ids=str
    )
    def test_a_wrong_request_is_one_line(self, command, runs, words):
        answer = command("store", "rm", *words, "--yes")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert len(runs.run_ids()) == 3


def test_check_quick_and_status_load_no_torch(folder, trained_store):
    program = (
        "import sys; from ema_lab.cli.main import run; "
        f"assert run(['store', 'check', '--quick', '--store', {str(trained_store)!r}]) == 0; "
        f"assert run(['status', 'tiny', '--store', {str(trained_store)!r}]) == 0; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_run_without_files_is_all_damage(command, trained):
    run_ids = trained(train=lambda spec, job: fake_outcome(spec))
    _, rows = found(command)
    expected = {
        (run_id, file) for run_id in run_ids for file in ("curve.csv", "predictions.npz", "last.ckpt")
    }
    assert {key for key, row in rows.items() if row["damaged"]} == expected
