"""push: what it prints, and what it refuses; `tests/tracking` holds what the mirrors have."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore

WORDS = ("push", "study", "--to", "trackio", "--project", "printed")


pytestmark = pytest.mark.usefixtures("trackio_folder")


def test_what_was_sent_and_what_is_missing_is_printed(command, study):
    store = RunStore("runs")
    record = store.record(study[0])
    store.write(RunRecord.model_validate({**record.model_dump(), "source": {"training": "0" * 16}}))
    Path("runs", study[2], "curve.csv").write_text("x,y\n1,what\n")
    Path("runs", study[3], "record.json").unlink()
    answer = command(*WORDS)
    assert answer.code == 0
    for words in (
        "4 sent, 0 replaced, 0 unchanged, the results table included\n",
        "not mirrored, pending: se seed 1\n",
        "without a whole curve in the store: se-s0\n",
        "1 stale result: the source of training has changed",
        "hint: trackio show --project printed\n",
    ):
        assert words in answer.err
    path = Path("ablations/study.yaml")
    path.write_text(path.read_text().replace("  se: {model.attention: {name: se, reduction: 4}}\n", ""))
    gone = "no cell of study any more: se-s0 ("
    assert gone in command(*WORDS).err
    assert f"removed, {gone}" in command(*WORDS, "--prune").err


def test_nothing_but_json_is_on_standard_output(study):
    arguments = [*WORDS[:-1], "json", "--json"]
    command = [Path(sys.executable).with_name("ema-lab"), *arguments]
    done = subprocess.run(command, capture_output=True, check=True)
    assert len(json.loads(done.stdout)) == 4


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--to", "wanb"], {}, "no mirror is named 'wanb'; did you mean 'wandb'?"),
        (["--to", "wandb", "--project", "a/b"], {}, "--project takes letters, digits, - and _"),
        (["--to", "trackio", "--project", "registry-a"], {}, "not allowed"),
        (["--to", "trackio"], {"TRACKIO_SPACE_ID": "me/space"}, "TRACKIO_SPACE_ID is set: unset it"),
        (["--to", "wandb"], {"WANDB_MODE": "disabled"}, "needs WANDB_MODE=online or offline"),
        (["--to", "wandb"], {"WANDB_MODE": "online"}, "no API key here; run `wandb login`"),
        (["--to", "wandb"], {"WANDB_API_KEY": "short"}, "API key must have 40+ characters"),
    ],
)
def test_a_wrong_request_is_one_line(command, study, monkeypatch, arguments, environment, words):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    answer = command("push", "study", *arguments)
    assert (answer.code, answer.out) == (2, "")
    [line] = answer.err.splitlines()
    assert words in line


def test_a_store_without_a_finished_run_is_left_as_it_is(command, tree):
    before = tree()
    answer = command("push", "tiny", "--to", "trackio")
    assert (answer.code, answer.err) == (
        2,
        "ema-lab: no run of tiny is done in runs; ema-lab run tiny trains them\n",
    )
    assert tree() == before


def test_an_absent_tracker_is_named_with_its_extra(command, study, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    answer = command("push", "study", "--to", "trackio")
    assert (answer.code, answer.err) == (
        2,
        "ema-lab: trackio is not installed; pip install 'ema-lab[trackio]'\n",
    )


def test_two_pushes_at_once_are_one_too_many(command, study):
    with RunStore("runs").claim("mirror") as claimed:
        assert claimed
        answer = command(*WORDS)
    assert answer.code == 2
    assert "another push from runs is under way" in answer.err
