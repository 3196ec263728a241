"""The real client of W&B, its agents and its uploads, against a stand-in for the server on loopback."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny import TINY, rates
from wandb_stand_in import API_KEY, ENTITY, WandbStandIn

from ema_lab.search.external_trial import read_trial
from ema_lab.store.curve import read_curve
from ema_lab.store.store import RunStore

pytestmark = pytest.mark.system  # minutes: real agents, against a stand-in for their server
SHIPPED = Path(__file__).parents[2] / "sweeps"
ABLATION = (
    TINY.replace("name: tiny", "name: small")
    .replace("train_images: 32", "train_images: 256")
    .replace("image_size: 8", "image_size: 16")
    .replace("epochs: 1, batch_size: 16", "epochs: 3, batch_size: 32")
    .replace("lr: 0.1", "lr: 0.05")
)
SWEEP = rates(
    "{distribution: log_uniform_values, min: 0.001, max: 0.5}",
    base="small/se",
    seeds="[0, 1]",
    images=32,
    more="early_terminate: {type: hyperband, min_iter: 1}",
).replace("  seeds:", "  recipe.epochs: {value: EPOCHS}\n  seeds:")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A stand-in with an account there, and nothing else of W&B; the folder has an ablation and a sweep."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "EMA_LAB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("PYTHONPATH", str(SHIPPED.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "ablations").mkdir()
    (tmp_path / "ablations" / "small.yaml").write_text(ABLATION)
    with WandbStandIn() as stand_in:
        monkeypatch.setenv("WANDB_BASE_URL", stand_in.url)
        yield stand_in


def parameters(lr: float, **more) -> dict:
    """Return what the real server would choose of the sweep `rates`."""
    constants = {"base": "small/se", "seeds": [0, 1], "data.val_images": 32, "recipe.epochs": 3}
    return {"recipe.optimizer.lr": lr, **constants, **more}


def start(*options: str, epochs: int = 3) -> subprocess.Popen[str]:
    Path("sweeps").mkdir()
    Path("sweeps/rates.yaml").write_text(SWEEP.replace("EPOCHS", str(epochs)))
    program = [sys.executable, "-c", "from ema_lab.cli.main import main; main()"]
    engine = ["sweep", "rates", "--chooser", "wandb", "--device", "cpu"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*program, *engine, *options], **pipes)


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_wandb_sweep_takes_a_shipped_file_whole(server, name):
    path = SHIPPED / f"{name}.yaml"
    command = [sys.executable, "-m", "wandb", "sweep", "--project", "p", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    [sent] = server.sweeps.values()
    assert yaml.safe_load(sent) == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_agents_train_what_the_server_chooses_and_report_it(server):
    server.trials = [parameters(0.1), parameters(0.02), parameters(0.1)]
    process = start("--workers", "2", "--trials", "3", "--project", "p", "--json")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    [(sweep_id, sent)] = server.sweeps.items()
    assert yaml.safe_load(sent) == yaml.safe_load(Path("sweeps/rates.yaml").read_text())
    rows = json.loads(out)
    assert [(row["sweep"], row["status"]) for row in rows] == [(f"{ENTITY}/p/{sweep_id}", "done")] * 3
    store = RunStore("runs")
    for run in server.runs.values():
        expected = read_trial(json.dumps(run["parameters"]))
        assert run["config"]["run_ids"] == run["summary"]["run_ids"] == expected.run_ids
        assert [store.spec(one) for one in expected.run_ids] == list(expected.runs)
        assert [(row["_step"], row["epoch"]) for row in run["history"]] == [(1, 1), (2, 2), (3, 3)]
        assert run["bucket"]["sweep"] == sweep_id
        assert (run["exitcode"], run["summary"]["status"]) == (0, "done")
        means = [sum(_chosen(one, name) for one in expected.run_ids) / 2 for name in ("val_top1", "val_loss")]
        assert [run["summary"][name] for name in ("val_top1", "val_loss")] == pytest.approx(means)
    trained = {one for run in server.runs.values() for one in run["summary"]["run_ids"]}
    assert store.run_ids() == sorted(trained)
    assert [len(store.attempts(one)) for one in sorted(trained)] == [1] * 4


def _chosen(run_id: str, name: str) -> float:
    store = RunStore("runs")
    return read_curve(store.folder(run_id))[store.record(run_id).chosen_epoch - 1][name]


def test_a_trial_that_wandb_stops_is_pending_and_the_agent_goes_on(server):
    server.stop_after = 2
    long = parameters(0.1, **{"recipe.epochs": 400, "seeds": [0]})
    server.trials = [long, parameters(0.02, **{"recipe.epochs": 1, "seeds": [0]})]
    process = start("--workers", "1", "--trials", "2", "--json")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert [row["status"] for row in json.loads(out)] == ["stopped", "done"]
    store = RunStore("runs")
    [run_id] = read_trial(json.dumps(long)).run_ids
    assert store.state(run_id, 3) == "pending"
    assert (store.folder(run_id) / "last.ckpt").is_file()
    assert [run["exitcode"] for run in server.runs.values()] == [255, 0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_stops_agents_and_trials_and_leaves_pending_runs(server, number, code):
    long = parameters(0.1, **{"recipe.epochs": 400, "seeds": [0]})
    server.trials = [long, {**long, "seeds": [1]}]
    process = start("--workers", "2", "--trials", "2")
    wait_for(lambda: len(list(Path("runs").glob("*/last.ckpt"))) == 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, "the rest is pending" in err) == (code, True)
    store = RunStore("runs")
    assert [store.state(one, 3) for one in store.run_ids()] == ["pending"] * 2
    assert [store.attempts(one)[-1].outcome for one in store.run_ids()] == ["interrupted"] * 2


def test_a_search_that_is_killed_takes_its_agents_and_trials_with_it(server):
    long = parameters(0.1, **{"recipe.epochs": 400, "seeds": [0]})
    server.trials = [long, {**long, "seeds": [1]}]
    process = start("--workers", "2", "--trials", "2")
    wait_for(lambda: len(list(Path("runs").glob("*/last.ckpt"))) == 2)
    process.kill()
    process.communicate(timeout=120)  # its pipes are those of agents and trials, too: they are closed
    store = RunStore("runs")
    assert [store.is_locked(one) for one in store.run_ids()] == [False] * 2
    assert [store.attempts(one)[-1].outcome for one in store.run_ids()] == ["interrupted"] * 2


def test_a_trial_that_fails_is_code_1(server):
    server.trials = [parameters(0.1, **{"data.val_images": 0}), parameters(0.1)]
    process = start("--workers", "1", "--trials", "2", "--json")
    out, err = process.communicate(timeout=240)
    assert "which a search needs: add data.val_images" in err
    assert (process.returncode, [row["status"] for row in json.loads(out)]) == (1, ["failed", "done"])


def test_a_server_that_does_not_answer_is_code_2(server, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    process = start("--trials", "1")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert re.search(r"the W&B server http://127.0.0.1:9 does not answer: .*refused", err)
