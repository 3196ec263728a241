"""status groups failures and tells of damage, retry forgives them, refresh redoes what is stale."""

import json
import re
import sys
from pathlib import Path

import pytest
from tiny import TINY, fake_outcome

from ema_lab.execution import claim
from ema_lab.store.record import RunRecord
from ema_lab.store.source import Sources
from ema_lab.store.store import RunStore

GATE = '''\
from torch import nn


class Gate(nn.Module):
    """Scales."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = 0.5  # half

    def forward(self, x):
        return x * self.scale
'''


def fail_some(spec):
    if spec.model.attention.name == "se":
        raise MemoryError("no room")
    if spec.seed == 1:
        raise ValueError("shapes differ")
    return fake_outcome(spec)


def statuses(command, *words):
    return {
        (cell["variant"], cell["seed"]): cell
        for cell in json.loads(command("status", "tiny", "--json", *words).out)
    }


class TestHints:
    def test_work_as_they_are_printed(self, command, fake_training):
        fake_training(fail_some)
        words = ("ablations/tiny.yaml", "--store", "elsewhere")
        for _ in range(3):
            command("run", *words, "--workers", "1")
        [hint] = [line for line in command("status", *words).err.splitlines() if line.startswith("hint: ")]
        assert hint == "hint: ema-lab retry ablations/tiny.yaml --store elsewhere makes them pending again"
        answer = command(
            *hint.removeprefix("hint: ema-lab ").removesuffix(" makes them pending again").split()
        )
        assert answer.err.startswith(
            "tiny: 3 runs are pending again; ema-lab run ablations/tiny.yaml --store"
        )

    def test_a_failure_may_be_named_by_its_beginning(self, command, fake_training):
        fake_training(fail_some)
        for _ in range(3):
            command("run", "tiny", "--workers", "1")
        assert len(command("retry", "tiny", "--signature", "out-of-memory").out.splitlines()) == 2
        answer = command("retry", "tiny", "--signature", "out-of")
        assert (answer.code, "no failure is named 'out-of'" in answer.err) == (2, True)


class TestFailures:
    def test_are_grouped_with_count_first_run_message_and_remedy(self, command, fake_training):
        run_ids = fake_training(fail_some)
        command("run", "tiny", "--workers", "1")
        lines = command("status", "tiny").err.splitlines()
        assert lines[:2] == [
            "tiny: 1 done, 3 failed",
            "2 failed, out of memory  " + signature(command, "se", 0),
        ]
        first = rf"  first: se seed 0 \({run_ids[2]}\): MemoryError: no room \(test_status_retry\.py:\d+\)"
        assert re.fullmatch(first, lines[2])
        assert lines[3].startswith("  remedy: run fewer workers")
        assert lines[4].startswith("1 failed, error  error:ValueError:test_status_retry.py:")
        assert not any("left alone" in line for line in lines)

    def test_at_the_limit_are_listed(self, command, fake_training):
        run_ids = fake_training(fail_some)
        for _ in range(2):
            command("run", "tiny", "--workers", "1", "--max-attempts", "2")
        lines = command("status", "tiny", "--max-attempts", "2").err.splitlines()
        start = lines.index("left alone after 2 attempts: 3 runs")
        assert lines[start + 1] == f"  none seed 1 ({run_ids[1]})"
        assert lines[-1] == "hint: ema-lab retry tiny makes them pending again"

    def test_have_a_cause_and_a_signature_in_json(self, command, fake_training):
        fake_training(fail_some)
        command("run", "tiny", "--workers", "1")
        cells = statuses(command)
        assert (cells["none", 0]["cause"], cells["none", 0]["signature"]) == (None, None)
        assert cells["none", 1]["cause"] == "error"
        assert cells["se", 0]["cause"] == "out of memory"
        assert cells["se", 0]["signature"] == cells["se", 1]["signature"]

    def test_of_a_killed_worker_are_reported(self, command):
        command("run", "tiny", "--seeds", "1", "--only", "variant=none", "--smoke", "--device", "cpu")
        from ema_lab.ablation.ablation import load_ablation

        RunStore("runs").begin(load_ablation("tiny").runs()[0], "cpu")
        cell = statuses(command)["none", 0]
        assert (cell["status"], cell["cause"], cell["signature"]) == ("pending", "killed", "killed")
        assert cell["error"] == "its process was killed"


def signature(command, variant, seed):
    return statuses(command)[variant, seed]["signature"]


class TestRetry:
    @pytest.fixture
    def failed(self, trained):
        """Return the runs: the first is done, the others have failed three times."""
        for _ in range(3):
            run_ids = trained(train=lambda spec, job: fail_some(spec))
        return run_ids

    def test_makes_runs_at_the_limit_pending_and_says_which(self, command, failed):
        answer = command("retry", "tiny")
        assert answer.code == 0
        assert [line.split()[0] for line in answer.out.splitlines()] == failed[1:]
        assert answer.err == "tiny: 3 runs are pending again; ema-lab run tiny\n"
        assert {cell["status"] for cell in statuses(command).values()} == {"done", "pending"}
        assert "remedy" not in command("status", "tiny").err

    def test_writes_attempts_only_and_keeps_them(self, command, failed, tree):
        before = tree()
        command("retry", "tiny")
        after = tree()
        changed = {name for name in after if after[name] != before.get(name)}
        assert before.keys() == after.keys()
        assert {Path(name).parent.name for name in changed} == {"attempts"}
        assert len(changed) == 9
        assert statuses(command)["se", 0]["attempts"] == 3

    def test_then_run_trains_them_and_counts_from_new(self, command, failed, fake_training):
        command("retry", "tiny")
        again = fake_training(fail_some)
        assert "the next run tries it again" in command("run", "tiny", "--workers", "1").err
        assert sorted(again) == sorted(failed[1:])  # rows of which no time is known go first
        fake_training()
        assert command("run", "tiny", "--workers", "1").code == 0

    def test_takes_one_signature_or_some_cells_only(self, command, failed):
        command("retry", "tiny", "--signature", signature(command, "se", 0), "--only", "seed=0")
        states = {key: cell["status"] for key, cell in statuses(command).items()}
        assert states == {
            ("none", 0): "done",
            ("none", 1): "failed",
            ("se", 0): "pending",
            ("se", 1): "failed",
        }

    def test_an_unknown_signature_is_answered_with_those_that_exist(self, command, failed, tree):
        before = tree()
        answer = command("retry", "tiny", "--signature", "out-of-memry")
        assert (answer.code, answer.out) == (2, "")
        assert "no failure is named 'out-of-memry'" in answer.err
        assert "error:ValueError:test_status_retry.py" in answer.err
        assert tree() == before

    def test_without_failures_does_nothing(self, command, trained, tree):
        trained()
        before = tree()
        answer = command("retry", "tiny")
        assert (answer.code, answer.out, answer.err) == (0, "", "tiny: 0 runs are pending again\n")
        assert tree() == before

    def test_leaves_a_run_that_a_process_holds(self, command, failed):
        with RunStore("runs").claim(failed[2]):
            answer = command("retry", "tiny")
        assert len(answer.out.splitlines()) == 2
        assert "1 left alone, because a process works on" in answer.err


class TestDamage:
    @pytest.mark.parametrize("name", ["record.json", "attempts/1.json"])
    def test_stops_neither_status_nor_run(self, command, trained, fake_training, name):
        run_ids = trained()
        record = Path("runs", run_ids[0], "record.json")
        if name != "record.json":
            record.unlink()
        Path("runs", run_ids[0], name).write_text('{"format": 1, "run')
        cell = statuses(command)["none", 0]
        assert cell["status"] == "pending"
        assert f"{name} cannot be read" in cell["error"]
        assert command("plan", "tiny").code == 0
        answer = command("report", "tiny")
        assert "1 of 4 runs is not there" in answer.out
        assert f"{name} cannot be read" in answer.err
        assert fake_training() == []
        answer = command("run", "tiny", "--workers", "1")
        assert "1 trained, 3 done before, 0 failed" in answer.err
        assert Path("runs", run_ids[0], f"{name}.damaged-1").exists()
        assert statuses(command)["none", 0]["error"] is None


class TestStale:
    """A user's own module in the current folder, as a study has it."""

    @pytest.fixture
    def gate(self, command, fake_training, monkeypatch):
        Path("gate_of_mine.py").write_text(GATE)
        text = TINY.replace("{name: se, reduction: 4}", "'gate_of_mine:Gate'").replace("  se:", "  mine:")
        Path("ablations/tiny.yaml").write_text(text)
        monkeypatch.setattr(claim, "_LOADED", Sources())
        fake_training()
        assert command("run", "tiny", "--workers", "1").code == 0

        def edit(old, new):
            assert old in GATE
            Path("gate_of_mine.py").write_text(GATE.replace(old, new))
            monkeypatch.setattr(claim, "_LOADED", Sources())  # a new process reads it again

        yield edit
        sys.modules.pop("gate_of_mine", None)  # imported where every distinct model is checked

    @pytest.mark.parametrize(
        ("old", "new"), [("  # half", "  # one half"), ('    """Scales."""\n', ""), ("* self", "*  self")]
    )
    def test_a_comment_makes_nothing_stale(self, command, gate, old, new):
        gate(old, new)
        Path("unrelated.py").write_text("x = 1\n")
        assert {cell["stale"] for cell in statuses(command).values()} == {None}
        assert "stale" not in command("plan", "tiny").err + command("run", "tiny").err
        assert "‡" not in command("report", "tiny").out

    def test_code_makes_the_variant_stale_that_uses_it(self, command, gate):
        gate("0.5", "0.25")
        cells = statuses(command)
        assert {key: cell["stale"] for key, cell in cells.items()} == {
            ("none", 0): None,
            ("none", 1): None,
            ("mine", 0): "module",
            ("mine", 1): "module",
        }
        assert {cell["status"] for cell in cells.values()} == {"done"}
        words = (
            "2 stale results: the source of module has changed; ema-lab run tiny --refresh trains them again"
        )
        for name in ("status", "plan", "run"):
            assert words in command(name, "tiny").err
        assert [cell["stale"] for cell in json.loads(command("plan", "tiny", "--json").out)] == [
            None,
            None,
            "module",
            "module",
        ]

    def test_a_table_marks_it(self, command, gate):
        gate("0.5", "0.25")
        none, mine = command("report", "tiny").out.splitlines()[4:6]
        assert ("‡" in none, mine.count("‡")) == (False, 4)
        assert "‡: 2 runs are stale: the source of module has changed since" in command("report", "tiny").out
        rows = json.loads(command("report", "tiny", "--json").out)
        assert [row["stale"] for row in rows] == [None, "module"]

    def test_refresh_trains_that_variant_again_and_keeps_the_old(self, command, gate, fake_training):
        old = {key: cell["run_id"] for key, cell in statuses(command).items()}
        before = {run_id: Path("runs", run_id, "record.json").read_bytes() for run_id in old.values()}
        gate("0.5", "0.25")
        trained = fake_training()
        answer = command("run", "tiny", "--workers", "1", "--refresh")
        assert answer.code == 0
        assert trained == [old["mine", 0], old["mine", 1]]
        assert "2 stale results moved to superseded/" in answer.err
        assert "2 trained, 2 done before, 0 failed" in answer.err
        for run_id in trained:
            kept = Path("runs", run_id, "superseded", "1")
            assert (kept / "record.json").read_bytes() == before[run_id]
            assert (kept / "attempts" / "1.json").exists()
        assert {cell["stale"] for cell in statuses(command).values()} == {None}
        assert command("run", "tiny", "--refresh").err.splitlines() == [
            "tiny: 0 trained, 4 done before, 0 failed (store runs)",
            "next: ema-lab report tiny --out out/tiny  (page: out/tiny/index.html)",
        ]

    def test_refresh_takes_the_cells_that_are_chosen(self, command, gate, fake_training):
        gate("0.5", "0.25")
        trained = fake_training()
        command("run", "tiny", "--workers", "1", "--refresh", "--only", "seed=1")
        assert len(trained) == 1
        assert [cell["stale"] for cell in statuses(command).values()] == [None, None, "module", None]

    def test_a_refresh_that_cannot_train_changes_nothing(self, command, gate, tree):
        gate("0.5", "0.25")
        before = tree()
        answer = command("run", "tiny", "--workers", "1", "--refresh", "--track", "nowhere")
        assert answer.code == 2
        assert tree() == before

    def test_smoke_has_nothing_to_refresh(self, command):
        answer = command("run", "tiny", "--smoke", "--refresh")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "--refresh changes nothing with --smoke" in answer.err


def test_a_refreshed_run_does_not_go_on_from_the_old_checkpoint(command):
    """With real training: the curve is as long as the recipe says, and the numbers are the same again."""
    words = ("run", "tiny", "--only", "variant=none", "--seeds", "1", "--device", "cpu")
    assert command(*words).code == 0
    store = RunStore("runs")
    [run_id] = store.run_ids()
    old = store.record(run_id)
    store.write(
        RunRecord.model_validate({**old.model_dump(), "source": {**old.source, "training": "0" * 16}})
    )
    assert command(*words, "--refresh").code == 0
    new = store.record(run_id)
    folder = store.folder(run_id)
    assert new.metrics == old.metrics
    assert new.source == old.source
    assert len((folder / "curve.csv").read_text().splitlines()) == 2
    names = {"record.json", "curve.csv", "predictions.npz", "last.ckpt", "attempts"}
    assert names <= {path.name for path in (folder / "superseded" / "1").iterdir()}
    assert (folder / "log.txt").exists() == (folder / "superseded" / "1" / "log.txt").exists()
    assert [attempt.number for attempt in store.attempts(run_id)] == [1]
