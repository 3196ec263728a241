"""plan, run and status: what would be done, doing it once, and where it stands."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import TINY, TINY_REPORT, fake_outcome

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import SpecError
from ema_lab.execution.executor import execute
from ema_lab.store.store import RunStore
from ema_lab.workflow.train.grid import Training

SKIP = "skip: [{when: {variant: se, seed: 1}, reason: a day per run}]\nseeds:"


def write_ablation(old: str = "", new: str = "") -> None:
    assert old in TINY
    Path("ablations/tiny.yaml").write_text(TINY.replace(old, new))


def rows_of(out: str) -> list[dict[str, str]]:
    """Read an aligned table: cells are two spaces or more apart."""
    header, *lines = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


class TestPlan:
    def test_counts_the_states_of_every_row(self, command, trained):
        write_ablation("seeds:", SKIP)
        trained(keep=lambda spec: spec.model.attention.name == "none" and spec.seed == 0)
        answer = command("plan", "tiny")
        assert answer.code == 0
        assert rows_of(answer.out) == [
            {
                "variant": "none",
                "cells": "2",
                "done": "1",
                "stale": "0",
                "running": "0",
                "failed": "0",
                "pending": "1",
                "skipped": "0",
                "time_left": "1 h 00 min",
            },
            {
                "variant": "se",
                "cells": "1",
                "done": "0",
                "stale": "0",
                "running": "0",
                "failed": "0",
                "pending": "1",
                "skipped": "1",
                "time_left": "?",
            },
        ]
        assert "1 skipped: a day per run" in answer.err
        assert "3 cells, 3 distinct runs: 1 done, 2 pending" in answer.err

    def test_estimates_the_time_from_finished_runs(self, command, trained):
        trained(keep=lambda spec: spec.seed == 0)  # an hour each
        answer = command("plan", "tiny", "--workers", "2")
        assert "2 done, 2 pending; about 1 h 00 min left with 2 workers" in answer.err
        assert [row["time_left"] for row in rows_of(answer.out)] == ["1 h 00 min"] * 2
        assert (
            "1 of 2 end within 1 h 00 min" in command("plan", "tiny", "--workers", "1", "--budget", "1h").err
        )

    def test_says_that_nothing_is_known_of_the_time(self, command):
        answer = command("plan", "tiny")
        assert "no time is known for some rows: --probe measures them" in answer.err
        assert "time_left" not in answer.out

    def test_measures_rows_of_which_nothing_is_known_and_keeps_that(self, command):
        answer = command("plan", "tiny", "--probe", "--device", "cpu", "--workers", "1")
        assert answer.err.startswith("[1/2] none in resnet20: ")
        assert "left with 1 worker" in answer.err
        again = command("plan", "tiny", "--probe", "--device", "cpu", "--workers", "1")
        assert "[1/" not in again.err
        assert again.out == answer.out

    @pytest.mark.parametrize("text", ["2", "h", "1h-5m", "0s", "two hours"])
    def test_a_budget_that_is_no_time_is_refused(self, command, text):
        answer = command("plan", "tiny", "--budget", text)
        assert (answer.code, answer.out) == (2, "")
        assert f"--budget takes a time such as 90s, 45m, 2h or 1h30m, got '{text}'" in answer.err

    def test_a_row_that_is_skipped_whole_is_still_there(self, command):
        write_ablation("seeds:", SKIP.replace(", seed: 1", ""))
        assert {row["variant"]: row["skipped"] for row in rows_of(command("plan", "tiny").out)} == {
            "none": "0",
            "se": "2",
        }

    def test_json_holds_every_cell(self, command, trained):
        write_ablation("seeds:", SKIP)
        run_ids = trained()
        cells = json.loads(command("plan", "tiny", "--json").out)
        assert [cell["run_id"] for cell in cells] == [*run_ids, None]
        assert [(c["variant"], c["seed"], c["status"]) for c in cells] == [
            ("none", 0, "done"),
            ("none", 1, "done"),
            ("se", 0, "done"),
            ("se", 1, "skipped"),
        ]
        assert cells[-1]["reason"] == "a day per run"

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ("--only variant=se", [("se", 0), ("se", 1)]),
            ("--only seed=1", [("none", 1), ("se", 1)]),
            ("--only seed=1 --only variant=se", [("se", 1)]),
            ("--only variant=se --only variant=none --seeds 1", [("none", 0), ("se", 0)]),
            ("--only model.attention.reduction=4", [("se", 0), ("se", 1)]),
        ],
    )
    def test_only_keeps_the_cells_that_meet_every_condition(self, command, words, expected):
        cells = json.loads(command("plan", "tiny", "--json", *words.split()).out)
        assert [(cell["variant"], cell["seed"]) for cell in cells] == expected

    def test_writes_nothing(self, command, tree):
        before = tree()
        command("plan", "tiny", "--check")
        assert tree() == before


class TestStatus:
    def test_says_what_became_of_every_cell(self, command, trained):
        def train(spec, job):
            if spec.seed:
                raise RuntimeError("out of memory\nmore")
            return fake_outcome(spec)

        run_ids = trained(train=train)
        answer = command("status", "tiny", "--json")
        cells = json.loads(answer.out)
        assert [cell["run_id"] for cell in cells] == run_ids
        assert cells[0] == {
            "run_id": run_ids[0],
            "ablation": "tiny",
            "variant": "none",
            "seed": 0,
            "status": "done",
            "stale": None,
            "attempts": 1,
            "top1": 90.0,
            "wall_seconds": 3600.0,
            "by": None,
            "cause": None,
            "signature": None,
            "error": None,
        }
        assert cells[1]["status"] == "pending"
        assert cells[1]["top1"] is None
        assert re.fullmatch(r"RuntimeError: out of memory \(test_grid_commands\.py:\d+\)", cells[1]["error"])
        assert answer.err.startswith("tiny: 2 done, 2 failed\n2 failed, out of memory  out-of-memory:Runtime")

    def test_prints_a_table_and_ends_a_watch_when_all_is_done(self, command, trained):
        trained()
        answer = command("status", "tiny", "--watch")
        assert answer.code == 0
        assert len(answer.out.splitlines()) == 5
        assert answer.err == "tiny: 4 done\n"

    def test_says_who_works_on_a_run(self, command, folder):
        seen = []

        def look(spec, job):
            seen.extend(json.loads(command("status", "tiny", "--json", "--only", "seed=0").out))
            return fake_outcome(spec)

        execute(load_ablation("tiny").runs()[:1], train=look, store=RunStore("runs"), device="cpu")
        assert [cell["status"] for cell in seen] == ["running", "pending"]
        assert re.fullmatch(r".+:\d+ on cpu since \d{4}-[^,]+", seen[0]["by"])
        assert (seen[0]["error"], seen[0]["cause"]) == (None, None)  # it is on, not killed

    @pytest.mark.parametrize(
        ("beat", "said"),
        [
            (
                '{"epoch": 7, "time": "2020-01-01T00:00:00+00:00"}',
                r", epoch 7, last sign of life \d{9} s ago: stalled",
            ),
            ("{half", ""),
        ],
    )
    def test_says_when_a_run_last_gave_a_sign_of_life(self, command, folder, beat, said):
        seen = []

        def look(spec, job):
            (job.folder / "heartbeat.json").write_text(beat)
            seen.extend(json.loads(command("status", "tiny", "--json", "--only", "seed=0").out))
            return fake_outcome(spec)

        execute(load_ablation("tiny").runs()[:1], train=look, store=RunStore("runs"), device="cpu")
        assert re.fullmatch(r".+ since [^,]+" + said, seen[0]["by"])


class TestRun:
    def test_trains_every_pending_run_once(self, command, fake_training):
        trained = fake_training()
        first = command("run", "tiny", "--workers", "1", "--json")
        assert first.code == 0
        assert "tiny: 4 runs to train with 1 worker" in first.err
        assert "tiny: 4 trained, 0 done before, 0 failed (store runs)" in first.err
        assert [cell["status"] for cell in json.loads(first.out)] == ["done"] * 4
        second = command("run", "tiny")
        assert second.code == 0
        assert second.err.splitlines() == [
            "tiny: 0 trained, 4 done before, 0 failed (store runs)",
            "next: ema-lab report tiny --out out/tiny  (page: out/tiny/index.html)",
        ]
        assert second.out.partition("\n")[2] == command("report", "tiny").out.partition("\n")[2]
        assert len(trained) == len(set(trained)) == 4

    def test_what_another_ablation_has_trained_is_not_trained_again(self, command, fake_training):
        trained = fake_training()
        command("run", "tiny", "--workers", "1")
        text = TINY.replace("name: tiny", "name: other").replace("reduction: 4", "reduction: 8")
        Path("ablations/other.yaml").write_text(text)
        answer = command("run", "other", "--workers", "1")
        assert "other: 2 trained, 2 done before, 0 failed" in answer.err
        assert len(trained) == 6

    def test_only_and_seeds_choose_what_is_trained(self, command, fake_training):
        trained = fake_training()
        answer = command("run", "tiny", "--only", "variant=se", "--seeds", "1")
        assert "tiny: 1 run to train with 1 worker, 1 thread each;" in answer.err
        assert "[1/1] done: se seed 0" in answer.err
        assert len(trained) == 1

    def test_a_failed_run_is_named_and_stops_no_other(self, command, fake_training):
        def outcome(spec):
            if spec.model.attention.name == "se" and spec.seed == 1:
                raise RuntimeError("CUDA out of memory\nand more words")
            return fake_outcome(spec)

        trained = fake_training(outcome)
        answer = command("run", "tiny", "--workers", "1")
        assert answer.code == 1
        assert "92.00 (n=1 of 2)" in answer.out
        assert "tiny: 3 trained, 0 done before, 1 failed (store runs)" in answer.err
        failed = trained[3]
        place = r"\(test_grid_commands\.py:\d+\)"
        words = f"RuntimeError: CUDA out of memory {place}; the next run tries it again"
        *_, told, after = answer.err.splitlines()
        assert re.fullmatch(rf"failed: se seed 1 \({failed}\): {words}", told)
        assert after.startswith("next: ema-lab report tiny --out out/tiny")
        assert "Traceback" not in answer.err
        assert "Traceback" in RunStore("runs").record(failed).error.traceback

    def test_a_failed_run_is_tried_again_up_to_its_limit(self, command, fake_training):
        def fail(spec):
            raise RuntimeError("no")

        trained = fake_training(fail)
        words = ("run", "tiny", "--only", "variant=se", "--seeds", "1", "--max-attempts", "2")
        assert "the next run tries it again" in command(*words).err
        command(*words)
        third = command(*words)
        assert len(trained) == 2
        assert third.code == 1
        assert "0 trained, 0 done before, 1 failed" in third.err
        assert re.search(r"RuntimeError: no \([\w.]+:\d+\); left alone after 2 attempts", third.err)
        fake_training()
        later = command(*words[:-1], "3")
        assert later.code == 0
        assert "1 trained" in later.err

    def test_a_metric_that_is_no_number_fails_that_run_alone(self, command, fake_training):
        def outcome(spec):
            found = fake_outcome(spec)
            return replace(found, metrics={"top1": 1.0, "loss": float("nan")}) if spec.seed else found

        fake_training(outcome)
        answer = command("run", "tiny", "--workers", "1")
        assert answer.code == 1
        assert "2 trained, 0 done before, 2 failed" in answer.err

    def test_an_interrupted_run_is_pending_again(self, command, fake_training):
        def interrupt(spec):
            if spec.seed:
                raise KeyboardInterrupt
            return fake_outcome(spec)

        fake_training(interrupt)
        answer = command("run", "tiny", "--workers", "1")
        assert answer.code == 130
        assert answer.err.endswith("ema-lab: interrupted; what was finished is kept, the rest is pending\n")
        assert {cell["status"] for cell in json.loads(command("plan", "tiny", "--json").out)} == {
            "done",
            "pending",
        }
        fake_training()
        assert "3 trained, 1 done before, 0 failed" in command("run", "tiny", "--workers", "1").err

    def test_a_model_that_diverges_fails_in_one_line(self, command):
        write_ablation("lr: 0.1", "lr: 1e30")
        answer = command("run", "tiny", "--only", "variant=none", "--seeds", "1", "--device", "cpu")
        assert answer.code == 1
        assert "[1/1] FAILED: none seed 0" in answer.err
        assert "DivergedError: the training loss is nan in epoch 1" in answer.err
        assert "Traceback" not in answer.err

    def test_smoke_trains_two_steps_and_leaves_no_store(self, command, tree):
        before = tree()
        answer = command("run", "quickstart", "--smoke", "--only", "variant=se", "--device", "cpu", "--json")
        assert answer.code == 0
        assert "1 trained, 0 done before, 0 failed" in answer.err
        [cell] = json.loads(answer.out)
        assert (cell["variant"], cell["status"]) == ("se", "done")
        assert tree() == before


def test_a_grid_is_trained_once_reported_the_same_and_evaluated_to_the_same_number(command):
    Path("reports/tiny.yaml").write_text(TINY_REPORT)
    assert command("run", "tiny", "--device", "cpu", "--workers", "1").code == 0
    first = command("report", "tiny", "--out", "first")
    again = command("run", "tiny", "--device", "cpu", "--workers", "1")
    assert "0 trained, 4 done before" in again.err
    second = command("report", "tiny", "--out", "second")
    assert first.code == second.code == 0
    assert first.out.replace("first/", "second/") == second.out
    for file in ("table.md", "table.tex", "table.csv", "table.html", "report.json"):
        assert Path("first", file).read_bytes() == Path("second", file).read_bytes()
    store = RunStore("runs")
    for run_id in store.run_ids():
        answer = command("eval", run_id[:10], "--device", "cpu", "--json")
        [row] = json.loads(answer.out)
        assert (answer.code, answer.err) == (0, "")
        assert row["top1"] == store.record(run_id).metrics["top1"]
        assert (row["run_id"], row["split"], row["images"]) == (run_id, "test", 16)


def test_two_workers_give_the_same_numbers_as_one(command):
    words = ("run", "tiny", "--only", "seed=0", "--device", "cpu")
    assert command(*words, "--workers", "1", "--store", "one").code == 0
    answer = command(*words, "--workers", "2", "--store", "two")
    assert answer.code == 0
    assert "2 runs to train with 2 workers" in answer.err
    one, two = RunStore("one"), RunStore("two")
    assert one.run_ids() == two.run_ids()
    for run_id in one.run_ids():
        assert one.record(run_id).data_sha256 == two.record(run_id).data_sha256
        assert one.record(run_id).cost == two.record(run_id).cost
        assert one.record(run_id).metrics["top1"] == two.record(run_id).metrics["top1"]


def test_loader_workers_are_handed_to_every_run(command, monkeypatch):
    machines = []

    def train_run(spec, job, *, machine, track):
        machines.append(machine)
        return fake_outcome(spec)

    monkeypatch.setattr("ema_lab.one_run.pipeline.train_run", train_run)
    words = ["run", "tiny", "--workers", "1", "--device", "cpu"]
    monkeypatch.setattr("ema_lab.workflow.train.grid.available_cores", lambda: 6)
    assert command(*words, "--seeds", "1").code == 0
    assert command(*words, "--loader-workers", "3").code == 0
    assert [machine.loader_workers for machine in machines] == [None, None, 3, 3]
    assert [machine.cores for machine in machines] == [6, 6, 6, 6]


@pytest.mark.parametrize(("words", "cores"), [((), 3), (("--devices", "2"), 1), (("--workers", "1"), 7)])
def test_runs_at_the_same_time_share_the_cores(command, monkeypatch, words, cores):
    known = []

    def train_function(_training, _device, cores):
        known.append(cores)
        raise SpecError("enough")

    monkeypatch.setattr(Training, "_train_function", train_function)
    monkeypatch.setattr("ema_lab.workflow.train.grid.available_cores", lambda: 7)
    assert command("run", "tiny", "--workers", "2", "--device", "cpu", *words).code == 2
    assert known == [cores]
