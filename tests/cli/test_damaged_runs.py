"""One damaged run is one named hole, in every command: the other runs are read, shown and trained."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from damages import DAMAGES, LEFT_ALONE
from tiny import fake_outcome

from ema_lab.store.curve import render_curve
from ema_lab.store.store import RunStore

SHOWN = [
    "NaN as top1",
    "null as macs",
    "a folder",
    "another run's",
    "empty",
    "a later format",
    "a link to itself",
]
COMMANDS = {
    "status": ["status", "tiny"],
    "plan": ["plan", "tiny"],
    "report": ["report", "tiny", "--out", "out"],
    "list": ["list", "runs"],
    "check": ["store", "check", "--quick"],
    "export": ["store", "export", "--out", "all.jsonl"],
    "bundle": ["bundle", "tiny", "--out", "b.zip"],
    "import": ["store", "import", "runs", "--store", "other"],
}


@pytest.fixture
def runs(folder, trained):
    """Return a store of four finished runs, and the first of them, which is damaged by the tests."""
    run_ids = trained(train=lambda spec, job: fake_outcome(spec))
    return RunStore("runs"), run_ids[0]


def assert_one_named_hole(answer, run_id):
    assert answer.code in {0, 1}, answer
    assert run_id in answer.out + answer.err
    assert "Traceback" not in answer.err


class TestRecord:
    @pytest.mark.parametrize("damage", ["a pipe", "a later format", "NaN as top1", "deeply nested"])
    def test_that_cannot_be_used_is_named_by_every_command(self, command, runs, damage):
        store, run_id = runs
        DAMAGES[damage](store.folder(run_id) / "record.json")
        for words in COMMANDS.values():
            assert_one_named_hole(command(*words), run_id)

    @pytest.mark.parametrize("damage", SHOWN)
    def test_that_is_damaged_is_one_hole_in_a_report_is_set_aside_and_the_run_trained_again(
        self, command, runs, fake_training, damage
    ):
        store, run_id = runs
        DAMAGES[damage](store.folder(run_id) / "record.json")
        answer = command("report", "tiny")
        assert_one_named_hole(answer, run_id)
        assert "91" in answer.out  # the other seed of the same row
        assert "nan" not in answer.out
        seen = fake_training()
        answer = command("run", "tiny", "--device", "cpu", "--workers", "1")
        aside = os.path.lexists(store.folder(run_id) / "record.json.damaged-1")
        if damage in LEFT_ALONE:
            assert (answer.code, seen, aside) == (1, [], False)
            assert f"failed: none seed 0 ({run_id})" in answer.err
            assert "left alone until that is settled" in answer.err
        else:
            assert (answer.code, seen, aside) == (0, [run_id], True)
            assert store.state(run_id) == "done"

    def test_that_may_not_be_read_is_left_alone(self, command, runs, fake_training, monkeypatch):
        _, run_id = runs
        open_file = os.open

        def refuse(path, *arguments, **options):
            if str(path).endswith(f"{run_id}/record.json"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return open_file(path, *arguments, **options)

        monkeypatch.setattr(os, "open", refuse)
        seen = fake_training()
        for name in COMMANDS:
            assert_one_named_hole(command(*COMMANDS[name]), run_id)
        answer = command("run", "tiny", "--device", "cpu", "--workers", "1")
        assert (answer.code, seen) == (1, [])
        assert "Permission denied; left alone" in answer.err

    def test_of_another_run_is_not_counted_twice(self, command, runs):
        store, run_id = runs
        other = next(one for one in store.run_ids() if store.spec(one).seed == 1 and one != run_id)
        shutil.copy(store.folder(other) / "record.json", store.folder(run_id) / "record.json")
        answer = command("report", "tiny")
        assert f"is the record of {other!r}" in answer.err
        assert (store.state(run_id), store.state(other)) == ("pending", "done")


class TestStranger:
    """Another run's curve makes a result worthless; another run's checkpoint does not."""

    @pytest.fixture
    def mixed(self, runs):
        """Return the store, the run with another run's curve, and the run with another run's checkpoint."""
        store, run_id = runs
        other, third = [one for one in store.run_ids() if one != run_id][:2]
        for one in store.run_ids():
            text = render_curve([{"epoch": 1, "lr": 0.1}], one)
            (store.folder(one) / "curve.csv").write_text(text)
            torch.save({"state_dict": {}, "run_id": one}, store.folder(one) / "last.ckpt")
        shutil.copy(store.folder(other) / "curve.csv", store.folder(run_id) / "curve.csv")
        shutil.copy(store.folder(other) / "last.ckpt", store.folder(third) / "last.ckpt")
        return store, run_id, third

    @pytest.mark.parametrize("name", COMMANDS)
    def test_is_named_by_every_command(self, command, mixed, name):
        _, run_id, _ = mixed
        answer = command(*COMMANDS[name])
        assert_one_named_hole(answer, run_id)
        if name != "check":
            lines = [line for line in (answer.out + answer.err).splitlines() if "is the curve of" in line]
            assert len(lines) == 1

    def test_is_not_counted(self, command, mixed):
        answer = command("report", "tiny")
        assert "91.00 (n=1 of 2)" in answer.out
        assert "1 of 4 runs is not there" in answer.out

    def test_is_set_aside_by_run_and_only_a_worthless_result_trained_again(
        self, command, mixed, fake_training, caplog
    ):
        store, run_id, third = mixed
        seen = fake_training()
        answer = command("run", "tiny", "--device", "cpu", "--workers", "1")
        assert (answer.code, seen) == (0, [run_id])
        assert "the result was moved to superseded/1" in caplog.text
        assert "the file was renamed last.ckpt.damaged-1; the result stays" in answer.err
        assert (store.folder(run_id) / "superseded" / "1" / "curve.csv").exists()
        assert (store.folder(third) / "last.ckpt.damaged-1").exists()
        assert [store.state(one) for one in store.run_ids()] == ["done"] * 4


class TestAttempt:
    @pytest.fixture
    def failed(self, folder, trained):
        """Return a store whose first run has failed once."""

        def train(spec, job):
            if spec.seed == 0 and spec.model.attention.name == "none":
                raise ValueError("no")
            return fake_outcome(spec)

        return RunStore("runs"), trained(train=train)[0]

    @pytest.mark.parametrize("damage", ["a pipe", "a folder", "deeply nested", "another run's", "empty"])
    def test_that_cannot_be_used_is_named_by_every_command(self, command, failed, damage):
        store, run_id = failed
        DAMAGES[damage](store.folder(run_id) / "attempts" / "1.json")
        for name, words in COMMANDS.items():
            answer = command(*words)
            assert answer.code in {0, 1}, answer
            if name not in {"import", "bundle"}:
                assert run_id in answer.out + answer.err

    @pytest.mark.parametrize("name", ["attempts/1.json", "attempts/2.json", "spec.json"])
    @pytest.mark.parametrize("damage", ["empty", "a pipe", "a folder", "a later format"])
    def test_of_a_finished_run_that_is_damaged_is_named_beside_the_run(self, command, runs, name, damage):
        store, run_id = runs
        path = store.folder(run_id) / name
        if name == "attempts/2.json":
            shutil.copy(path.with_name("1.json"), path)
        DAMAGES[damage](path)
        shown = command("show", "run", run_id)
        assert shown.code == 0, shown.err
        content = json.loads(shown.out)
        assert content["record"]["metrics"]["top1"] > 0
        [problem] = content["damage"]
        assert name in problem

    def test_has_a_plain_number_for_a_name(self, command, failed):
        store, run_id = failed
        names = {"\u0663.json", "01.json", "0.json", "1e3.json", "-1.json", "9" * 30 + ".json"}
        for name in names:
            path = store.folder(run_id) / "attempts" / name
            shutil.copy(store.folder(run_id) / "attempts" / "1.json", path)
        assert store.attempt_numbers(run_id) == [1]
        assert command("status", "tiny").code == 0
        rows = json.loads(command("store", "check", "--quick", "--json").out)
        strangers = {row["file"] for row in rows if row["problem"] == "is not a file of the store"}
        assert strangers == {f"attempts/{name}" for name in names}

    @pytest.mark.parametrize("make", [os.mkfifo, Path.touch], ids=["a pipe", "a file"])
    def test_folder_that_is_none_costs_no_other_run(self, command, failed, fake_training, make):
        store, run_id = failed
        shutil.rmtree(store.folder(run_id) / "attempts")
        make(store.folder(run_id) / "attempts")
        seen = fake_training()
        assert command("run", "tiny", "--device", "cpu", "--workers", "1").code == 0
        assert seen == [run_id]

    def test_that_cannot_be_begun_costs_no_other_run(self, command, runs, fake_training):
        store, run_id = runs
        shutil.rmtree(store.folder(run_id))
        store.folder(run_id).write_text("a file where a folder should be")
        seen = fake_training()
        answer = command("run", "tiny", "--device", "cpu", "--workers", "1")
        assert (answer.code, seen) == (1, [])
        assert run_id in answer.err
