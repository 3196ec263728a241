"""The command log, and lists of runs: what happened to a run, and what it is called."""

import csv
import io
import json
import runpy
from pathlib import Path

import pytest
from tiny import TINY, fake_outcome

from ema_lab.ablation.ablation import load_ablation
from ema_lab.store.store import RunStore

BOOM = """\
import statistics


def gate(values):
    return statistics.fmean(values)


def forward():
    return gate([])
"""


@pytest.fixture
def failed(folder, trained) -> list[str]:
    """Train `tiny`; its second run fails in the user's own boom.py."""
    Path("boom.py").write_text(BOOM)
    ids = [spec.run_id for spec in load_ablation("tiny").runs()]

    def train(spec, job):
        (job.folder / "log.txt").write_text("".join(f"line {number}\n" for number in range(30)))
        if spec.run_id == ids[1]:
            runpy.run_path("boom.py")["forward"]()
        return fake_outcome(spec)

    trained(train=train)
    return ids


def test_a_log_has_the_error_with_the_users_own_frames_first(command, failed):
    answer = command("log", failed[1][:6])
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == f"run {failed[1]}: none seed 1 of tiny: failed"
    assert lines[1].startswith("attempt 1: failed, from 20")
    assert lines[3] == "StatisticsError: fmean requires at least one data point (boom.py:5)"
    assert lines[4].startswith("remedy: ")
    places = [line.strip() for line in lines if line.startswith("  ") and ", in " in line]
    assert places[0] == "boom.py:5, in gate"
    assert places[1] == "boom.py:9, in forward"
    assert lines[lines.index("  boom.py:5, in gate") + 1] == "      return statistics.fmean(values)"
    assert not any("statistics.py" in line for line in lines)
    assert "log, without its first 10 lines (--full):" in lines
    assert lines[-1] == "  line 29"


def test_a_full_log_has_every_line_and_frame(command, failed):
    lines = command("log", failed[1], "--full").out.splitlines()
    assert "traceback:" in lines
    assert any("statistics.py" in line for line in lines)
    assert sum(line.startswith("  line ") for line in lines) == 30


def test_the_log_of_a_finished_run_has_no_error(command, failed):
    out = command("log", failed[0], "--lines", "2").out
    assert out.splitlines()[0] == f"run {failed[0]}: none seed 0 of tiny: done"
    assert "remedy" not in out
    assert out.endswith("log, without its first 28 lines (--full):\n  line 28\n  line 29\n")


def test_the_log_of_a_running_run_does_not_call_it_killed(command, failed):
    store = RunStore("runs")
    (spec,) = [spec for spec in load_ablation("tiny").runs() if spec.run_id == failed[1]]
    with store.claim(spec.run_id):
        store.begin(spec)
        out = command("log", failed[1]).out
        (row,) = [r for r in json.loads(command("list", "runs", "--json").out) if r["run_id"] == failed[1]]
    assert out.splitlines()[0].endswith(": running")
    assert row["status"] == "running"
    for text in (out, row["problem"]):
        assert "killed" not in text
        assert "fmean requires at least one data point" in text


def test_status_and_run_say_the_same_of_a_failed_run(command, failed, fake_training):
    sentence = "StatisticsError: fmean requires at least one data point (boom.py:5)"
    shown = command("status", "tiny")
    assert "tiny: 3 done, 1 failed" in shown.err
    assert sentence in shown.out
    assert f"first: none seed 1 ({failed[1]}): {sentence}" in shown.err
    assert "ema-lab run tiny tries 1 of the 1 failed again" in shown.err
    fake_training(lambda spec: runpy.run_path("boom.py")["forward"]())
    ran = command("run", "tiny", "--workers", "1", "--device", "cpu")
    assert ran.code == 1
    assert f"[1/1] FAILED: none seed 1 ({failed[1]}): {sentence}" in ran.err
    assert f"failed: none seed 1 ({failed[1]}): {sentence}; the next run tries it again" in ran.err
    (row,) = [row for row in json.loads(command("status", "tiny", "--json").out) if row["error"]]
    assert (row["ablation"], row["variant"], row["seed"], row["error"]) == ("tiny", "none", 1, sentence)


def test_runs_are_listed_with_their_names_and_results(command, failed):
    rows = {row["run_id"]: row for row in json.loads(command("list", "runs", "--json").out)}
    assert set(rows) == set(failed)
    done, bad = rows[failed[2]], rows[failed[1]]
    assert [done[key] for key in ("ablation", "row", "seed", "status", "metric", "value")] == [
        *("tiny", "se", 0, "done", "top1", 92.0)
    ]
    assert done["ended"].startswith("20")
    assert (bad["status"], bad["value"], bad["data"]) == ("failed", None, "synthetic")
    assert "boom.py:5" in bad["problem"]


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        (["status=failed"], [1]),
        (["row=se"], [2, 3]),
        (["row=se,none", "seed=0"], [0, 2]),
        (["ablation=tiny", "status=done", "attention=none"], [0]),
        (["ablation=other"], []),
    ],
)
def test_runs_are_chosen_by_what_they_are(command, failed, only, chosen):
    words = [word for item in only for word in ("--only", item)]
    answer = command("list", "runs", *words, "--csv")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert {row["run_id"] for row in rows} == {failed[number] for number in chosen}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("list runs --only statu=failed", "--only: no key is named 'statu'; did you mean 'status'?"),
        ("list runs --only failed", "--only takes KEY=VALUE, such as ablation=quickstart or status=failed"),
        ("list recipes --only status=done", "--only changes nothing without the kind runs"),
        ("list runs --csv --json", "--json and --csv are two forms of one output"),
        ("log abcd", "no run is named 'abcd'"),
    ],
)
def test_a_wrong_request_is_one_line(command, failed, words, message):
    answer = command(*words.split())
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err


def test_a_run_that_several_ablations_share_has_all_their_names(command, failed):
    Path("ablations/twin.yaml").write_text(
        TINY.replace("name: tiny", "name: twin").replace("  se:", "  squeeze:")
    )
    (row,) = [row for row in json.loads(command("list", "runs", "--json").out) if row["run_id"] == failed[2]]
    assert (row["ablation"], row["row"]) == ("tiny, twin", "se, squeeze")
    assert len(json.loads(command("list", "runs", "--only", "row=squeeze", "--json").out)) == 2
    assert RunStore("runs").state(failed[2]) == "done"


def test_status_prints_csv_with_the_ablation_and_the_row(command, failed):
    answer = command("status", "tiny", "--csv")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert [(row["ablation"], row["variant"], row["seed"]) for row in rows] == [
        *(("tiny", "none", "0"), ("tiny", "none", "1"), ("tiny", "se", "0"), ("tiny", "se", "1"))
    ]
