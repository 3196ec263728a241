"""store check, gc, export, import and rm: their output, their options, and what they refuse.

`tests/store` holds what they find, free and take.
"""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY

from ema_lab.cli.main import run
from ema_lab.store.store import RunStore

WORDS = ["--seeds", "1", "--device", "cpu", "--workers", "1"]


@pytest.fixture(scope="module")
def trained_store(tmp_path_factory):
    """Return a store of two trained runs."""
    here = tmp_path_factory.mktemp("trained")
    (here / "tiny.yaml").write_text(TINY)
    assert run(["run", str(here / "tiny.yaml"), *WORDS, "--store", str(here / "runs")]) == 0
    return here / "runs"


@pytest.fixture
def runs(folder, trained_store):
    """Return a copy of that store, as `runs` in the current folder."""
    shutil.copytree(trained_store, "runs")
    return RunStore("runs")


@pytest.fixture
def last(runs):
    """Return a run."""
    return runs.run_ids()[0]


class TestCheck:
    def test_finds_nothing_wrong_with_what_was_trained(self, command, runs, tree):
        before = tree()
        answer = command("store", "check")
        assert (answer.code, answer.out) == (0, "")
        assert answer.err.splitlines()[-1] == "2 runs checked: 0 damaged"  # a slow check has lines before it
        assert (
            "2 runs checked without their checkpoints: 0 damaged" in command("store", "check", "--quick").err
        )
        assert tree() == before

    def test_prints_a_row_for_each_problem_and_sets_a_run_aside_when_asked(self, command, runs, last):
        (runs.folder(last) / "predictions.npz").write_bytes(b"")
        answer = command("store", "check", "--json")
        rows = {(row["run_id"], row["file"]): row["damaged"] for row in json.loads(answer.out)}
        assert (answer.code, rows) == (1, {(last, "predictions.npz"): True})
        assert "hint: --set-aside moves their files aside" in answer.err
        answer = command("store", "check", "--set-aside")
        assert answer.code == 1
        assert last in answer.out
        assert answer.err.endswith("1 of them set aside: `ema-lab run` trains them again\n")
        assert runs.state(last) == "pending"

    def test_says_which_file_beside_a_result_it_renamed(self, command, runs, last):
        (runs.folder(last) / "best.ckpt").write_bytes(b"no checkpoint")
        answer = command("store", "check", "--set-aside")
        assert "best.ckpt.damaged-1; the result stays" in answer.err
        assert answer.err.endswith("0 of them set aside: `ema-lab run` trains them again\n")

    def test_tells_how_far_it_is(self, command, runs, monkeypatch):
        monkeypatch.setattr("ema_lab.cli.store.PROGRESS_SECONDS", -1.0)
        lines = command("store", "check", "--quick").err.splitlines()
        assert lines[:2] == [f"{number} of 2 runs checked" for number in (1, 2)]

    def test_a_store_that_is_not_there_is_an_error(self, command):
        answer = command("store", "check", "--store", "nowhere")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "there is no store nowhere" in answer.err


class TestGc:
    def test_removes_nothing_unless_asked(self, command, runs, tree):
        before = tree()
        answer = command("store", "gc")
        assert answer.code == 0
        assert "nothing is removed without --apply" in answer.err
        assert tree() == before

    def test_prints_what_it_freed_and_drops_weights_when_asked(self, command, runs, last):
        assert command("store", "gc", "--apply").err.endswith(" MiB freed\n")
        answer = command("store", "gc", "--apply", "--drop-weights", "--superseded", "--json")
        [row] = json.loads(answer.out)
        assert (answer.code, row["kind"], row["count"]) == (0, "weights", 2)
        answer = command("eval", last, "--device", "cpu")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert command("report", "tiny").code == 0

    def test_keeps_a_checkpoint_that_it_cannot_read(self, command, runs, last):
        (runs.folder(last) / "last.ckpt").write_bytes(b"no checkpoint")
        answer = command("store", "gc", "--apply")
        assert answer.code == 0
        assert "cannot be read and is kept" in answer.err
        assert (runs.folder(last) / "last.ckpt").read_bytes() == b"no checkpoint"


class TestExport:
    def test_names_and_leaves_out_what_cannot_be_read(self, command, runs, last):
        (runs.folder(last) / "spec.json").write_text("{}")
        answer = command("store", "export", "--out", "all.jsonl")
        assert answer.code == 1
        assert f"{last}/spec.json is not a run spec of this version" in answer.err
        assert answer.err.endswith("1 record written to all.jsonl\n")
        assert last not in Path("all.jsonl").read_text()

    @pytest.mark.parametrize("name", ["all.jsonl", "all.parquet"])
    def test_says_how_many_records_it_wrote(self, command, runs, name):
        answer = command("store", "export", "--out", name)
        assert (answer.code, answer.err) == (0, f"2 records written to {name}\n")
        assert Path(name).stat().st_size

    def test_without_pyarrow_says_what_to_do(self, command, runs, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        answer = command("store", "export", "--out", "all.parquet")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "pip install 'ema-lab[parquet]'" in answer.err
        assert list(Path().glob("all.parquet*")) == []

    @pytest.mark.parametrize("name", ["all.xlsx", "nowhere/all.jsonl"])
    def test_a_file_that_cannot_be_is_an_error(self, command, runs, name):
        answer = command("store", "export", "--out", name)
        assert (answer.code, answer.err.count("\n")) == (2, 1)


class TestImport:
    @pytest.fixture
    def other(self, trained_store, folder):
        shutil.copytree(trained_store, "other")
        return RunStore("other")

    def change(self, store, run_id, top1):
        record = store.record(run_id)
        store.write(record.model_copy(update={"metrics": {**record.metrics, "top1": top1}}))

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
        assert "1 conflict, 1 equal" in answer.err
        after = tree()
        assert {k: v for k, v in after.items() if ".locks" not in k} == {
            k: v for k, v in before.items() if ".locks" not in k
        }

    def test_prefer_settles_conflicts(self, command, runs, other, last):
        self.change(other, last, 1.5)
        answer = command("store", "import", "other", "--prefer", "theirs", "--json")
        results = {row["run_id"]: row["result"] for row in json.loads(answer.out)}
        assert (answer.code, results.pop(last), set(results.values())) == (0, "taken", {"equal"})

    def test_says_what_it_left_out_of_an_archive(self, command, other):
        link = Path("other", other.run_ids()[0], "link")
        link.symlink_to("/etc/passwd")
        shutil.make_archive("packed", "tar", ".", "other")
        answer = command("store", "import", "packed.tar")
        lines = [line for line in answer.err.splitlines() if line.startswith("left out of packed.tar: ")]
        assert (answer.code, len(lines)) == (1, 1)
        assert "link" in lines[0]

    def test_of_an_archive_that_is_cut_off_is_one_line(self, command, other):
        path = Path(shutil.make_archive("packed", "zip", ".", "other"))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        answer = command("store", "import", path.name)
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "cannot be unpacked" in answer.err

    def test_a_full_disk_is_one_line(self, command, other, monkeypatch):
        def full(*_args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        shutil.make_archive("packed", "tar", ".", "other")
        monkeypatch.setattr(shutil, "copyfileobj", full)
        answer = command("store", "import", "packed.tar")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "No space left on device" in answer.err

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
        assert "remove 1 run from runs? [y/N] \n1 run removed from runs\n" in answer.err
        assert last not in runs.run_ids()
        assert len(runs.run_ids()) == 1
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
        question, line = answer.err.splitlines()[-2:]
        assert question.endswith("[y/N] ")
        assert line.startswith("ema-lab: rm asks for confirmation")
        assert "--yes removes without asking" in line
        assert last in runs.run_ids()

    def test_takes_the_cells_of_an_ablation(self, command, runs):
        assert command("store", "rm", "--ablation", "tiny", "--only", "variant=se", "--yes").code == 0
        assert {cell["status"] for cell in json.loads(command("status", "tiny", "--json").out)} == {
            "done",
            "pending",
        }
        assert command("store", "rm", "--ablation", "tiny", "--yes").code == 0
        assert runs.run_ids() == []

    def test_refuses_all_if_a_process_works_on_one(self, command, runs, last):
        with runs.claim(last):
            answer = command("store", "rm", *runs.run_ids(), "--yes")
        assert answer.code == 2
        assert f"a process works on {last}" in answer.err
        assert len(runs.run_ids()) == 2

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
        assert len(runs.run_ids()) == 2

    def test_takes_nothing_that_is_no_run(self, command, runs):
        Path("runs", "my-notes").mkdir()
        answer = command("store", "rm", "my-notes", "--yes")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert Path("runs", "my-notes").exists()

    def test_of_a_link_takes_the_link(self, command, runs, last):
        shutil.move(runs.folder(last), "elsewhere")
        runs.folder(last).symlink_to(Path("elsewhere").absolute())
        assert command("store", "rm", last, "--yes").code == 0
        assert last not in {path.name for path in Path("runs").iterdir()}
        assert Path("elsewhere", "record.json").exists()


def test_check_quick_and_status_load_no_torch(folder, trained_store):
    program = (
        "import sys; from ema_lab.cli.main import run; "
        f"assert run(['store', 'check', '--quick', '--store', {str(trained_store)!r}]) == 0; "
        f"assert run(['status', 'tiny', '--store', {str(trained_store)!r}]) == 0; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
