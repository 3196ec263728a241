"""`ema-lab trial`, alone and inside an agent of W&B; `sweep --chooser wandb` without a server."""

import json
import os
from pathlib import Path

import pytest
from tiny import RATES

from ema_lab.store.job import RunOutcome
from ema_lab.store.store import RunStore
from ema_lab.tracking import live as trackers
from ema_lab.tracking import wandb_trial

TRIAL = {"base": "tiny/se", "seeds": [0, 1], "data.val_images": 8, "recipe.epochs": 3}
SWEEP = RATES.replace("method: grid", "method: random")


@pytest.fixture
def train(monkeypatch):
    """Put a training of no time in the place of the real one; return what it trained and how it is to end."""
    seen: dict = {"trained": [], "raise": None}

    def train_run(spec, job, *, machine, report):
        rows = []
        for epoch in range(1, spec.recipe.epochs + 1):
            rows.append(f"{epoch},{60.0 + epoch + spec.seed}\n")
            (job.folder / "curve.csv").write_text("epoch,val_top1\n" + "".join(rows))
            report({"epoch": epoch, "val_top1": 60.0 + epoch + spec.seed})
            if seen["raise"] is not None and epoch == 2:
                raise seen["raise"]
        seen["trained"].append(spec.seed)
        return RunOutcome({"top1": 50.0}, spec.recipe.epochs)

    monkeypatch.setattr("ema_lab.one_run.pipeline.train_run", train_run)
    return seen


@pytest.fixture
def wandb_run(monkeypatch):
    """Stand inside an agent, with a run of W&B that only records its calls."""
    notes: dict = {"steps": [], "end": "never"}

    class Run:
        def __init__(self, base, run_ids):
            notes["start"] = (base, list(run_ids))

        def log_epoch(self, row):
            notes["steps"].append((row["epoch"], row["val_top1"]))

        def finish(self, outcome):
            notes["end"] = outcome

    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    monkeypatch.setattr(wandb_trial, "WandbTrial", Run)
    return notes


def test_a_trial_prints_one_object_and_is_trained_once(command, train):
    first = command("trial", json.dumps(TRIAL), "--device", "cpu")
    row = json.loads(first.out)
    assert (first.code, row["status"], row["val_top1"]) == (0, "done", 63.5)
    assert [RunStore("runs").spec(run_id).seed for run_id in row["run_ids"]] == [0, 1]
    assert command("trial", json.dumps(TRIAL), "--device", "cpu").out == first.out
    assert train["trained"] == [0, 1]


def test_an_agents_trial_reports_epochs_and_means(command, train, wandb_run):
    row = json.loads(command("trial", json.dumps(TRIAL), "--device", "cpu").out)
    assert wandb_run["start"] == ("tiny/se", row["run_ids"])
    assert wandb_run["steps"] == [(1, 61.0), (2, 62.0), (3, 63.0)]
    assert wandb_run["end"] == {"val_top1": 63.5, "status": "done", "run_ids": row["run_ids"]}


def test_no_wandb_reports_nothing(command, train, wandb_run):
    assert command("trial", json.dumps(TRIAL), "--device", "cpu", "--no-wandb").code == 0
    assert wandb_run["end"] == "never"


def test_a_trial_stopped_by_wandb_is_pending_and_no_failure_of_the_agent(command, train, wandb_run):
    train["raise"] = KeyboardInterrupt()
    answer = command("trial", json.dumps(TRIAL), "--device", "cpu")
    row = json.loads(answer.out)
    assert (answer.code, row["status"], wandb_run["end"]) == (0, "stopped", None)
    assert RunStore("runs").state(row["run_ids"][0], 3) == "pending"


def test_a_trial_that_is_interrupted_elsewhere_says_so(command, train):
    train["raise"] = KeyboardInterrupt()
    answer = command("trial", json.dumps(TRIAL), "--device", "cpu")
    assert (answer.code, answer.out) == (130, "")


def test_a_run_that_fails_is_code_1_with_its_reason(command, train, wandb_run):
    train["raise"] = RuntimeError("no luck")
    answer = command("trial", json.dumps(TRIAL), "--device", "cpu")
    assert answer.code == 1
    assert "no luck" in answer.err
    assert json.loads(answer.out)["status"] == wandb_run["end"]["status"] == "failed"


def test_a_tracker_that_breaks_does_not_fail_the_trial(command, train, monkeypatch, caplog):
    def broken(*_arguments):
        raise ConnectionError("no server")

    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    monkeypatch.setattr(wandb_trial, "WandbTrial", broken)
    assert command("trial", json.dumps(TRIAL), "--device", "cpu").code == 0
    assert "tracking stopped: ConnectionError: no server" in caplog.text


def test_what_is_no_trial_is_code_2_and_writes_nothing(command, tree):
    before = tree()
    wrong = {**TRIAL, "recipe.optimizer.lr": "fast"}
    answers = [command("trial", text) for text in ("{", json.dumps({"seeds": [0]}), json.dumps(wrong))]
    assert [(answer.code, answer.out, answer.err.count("\n")) for answer in answers] == [(2, "", 1)] * 3
    assert tree() == before


def test_what_is_no_trial_counts_as_one_that_failed_inside_an_agent(command, wandb_run):
    answer = command("trial", "{")
    assert (answer.code, json.loads(answer.out)["status"], wandb_run["end"]) == (2, "failed", "never")


@pytest.fixture
def no_account(folder, monkeypatch, tmp_path):
    """Take away whatever account of W&B this machine has; write the sweep `rates`."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "none"))
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "rates.yaml").write_text(SWEEP)


@pytest.mark.usefixtures("no_account")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--chooser", "wandb"], "ema-lab sweep rates runs the same file offline"),
        (["--chooser", "wandb", "--sampler", "tpe"], "--sampler is for --chooser optuna"),
        (["--chooser", "wandb", "--sampler-seed", "0"], "--sampler-seed is for --chooser optuna"),
        (["--chooser", "wandb", "--no-warm-start"], "--warm-start is for --chooser optuna"),
        (["--chooser", "wandb", "--storage", "grpc://a:1"], "--storage is for --chooser optuna"),
        (["--project", "p"], "--project is for --chooser wandb"),
        (["--chooser", "optuna", "--entity", "e"], "--entity is for --chooser wandb"),
        (["--chooser", "wandbx"], "no chooser is named 'wandbx'"),
    ],
)
def test_an_engine_says_what_it_needs_and_what_is_not_its_own(command, tree, options, words):
    before = tree()
    answer = command("sweep", "rates", *options)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert words in answer.err
    assert tree() == before


@pytest.mark.usefixtures("no_account")
@pytest.mark.parametrize(
    ("mode", "more", "options", "words"),
    [
        ("offline", "", [], "WANDB_MODE is offline"),
        ("online", "", [], "has no run_cap: say --trials N"),
        (
            "online",
            "controller: {type: local}\n",
            ["--trials", "2"],
            f"rates.yaml:{SWEEP.count(chr(10)) + 1}: controller.type: local waits for `wandb controller`",
        ),
        (
            "online",
            "early_terminate: {type: hyperband, min_iter: 500}\n",
            ["--trials", "2"],
            "early_terminate: would first compare trials after epoch 500, and the runs have",
        ),
    ],
    ids=["offline", "endless", "local controller", "early stopping after the last epoch"],
)
def test_a_sweep_that_wandb_cannot_run_is_refused(command, monkeypatch, mode, more, options, words):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_MODE", mode)
    Path("sweeps/rates.yaml").write_text(SWEEP + more)
    answer = command("sweep", "rates", "--chooser", "wandb", *options)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert words in answer.err


@pytest.mark.usefixtures("no_account")
@pytest.mark.parametrize(
    ("settings", "machine"),
    [
        ("", "api.wandb.ai"),
        ("", "api.forge.coreweave.com"),
        ("[default]\nbase_url = http://own:8080\n", "own:8080"),
    ],
)
def test_a_key_is_found_where_wandb_login_puts_it(monkeypatch, tmp_path, settings, machine):
    assert not trackers.wandb_has_key()
    (tmp_path / "settings").write_text(settings)
    (tmp_path / "netrc").write_text(f"machine {machine}\n  login user\n  password {'a' * 40}\n")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert trackers.wandb_has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "http://another:8080")
    assert not trackers.wandb_has_key()
