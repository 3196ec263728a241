"""Push to W&B: read back with W&B's own reader, from the offline runs that need no account."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
from curved import STUDY
from pushes import counts
from wandb_server import serving

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import MirrorError
from ema_lab.store.store import RunStore
from ema_lab.tracking.mirror.wandb import WandbMirror
from ema_lab.workflow.publish.push import push

NAMES = ["none-s0", "none-s1", "se-s0", "se-s1", "study-results"]
MIRROR = Path("runs/.mirror/wandb-offline/ema-lab")


def records(folder: Path) -> list[dict[str, Any]]:
    """Return what W&B wrote in the one run below a folder."""
    [log] = folder.glob("wandb/offline-run-*/run-*.wandb")
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", str(log)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def content(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Return the run, its history rows and its summary, without times and W&B's own keys."""
    found = records(folder)
    [run] = [record["run"] for record in found if record["type"] == "run"]
    kept = ("run_id", "display_name", "run_group", "job_type", "project", "tags")
    history = [_own(record["history"]["item"]) for record in found if record["type"] == "history"]
    summary: dict[str, Any] = {}
    for record in found:
        if record["type"] == "summary":
            summary |= record["summary"].get("update", {})
    config = _own(run["config"]["update"])
    return {**{key: run.get(key) for key in kept}, "config": config}, history, _own(summary)


def _own(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.startswith("_") or key == "_step"}


def refused() -> str:
    """Return the error of a push to W&B: one line."""
    with pytest.raises(MirrorError) as raised:
        push("study", "wandb")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def logs() -> dict[str, bytes]:
    """Return every log of W&B below the store."""
    return {str(path): path.read_bytes() for path in sorted(Path("runs").rglob("*.wandb"))}


def test_an_offline_mirror_has_group_config_curve_summary_and_table(study):
    mirrored = push("study", "wandb").mirrored
    assert mirrored.next_step == f"wandb sync {MIRROR.resolve()}/study/*/wandb/offline-run-*"
    spec = load_ablation("study").cells[3].spec
    run, history, summary = content(MIRROR / "study" / spec.run_id)
    assert run == {
        "run_id": spec.run_id, "display_name": "se-s1", "run_group": "study", "job_type": "se",
        "project": "ema-lab", "tags": ["synthetic", "resnet20", "se"],
        "config": {"run_id": spec.run_id, **spec.resolved()},
    }  # fmt: skip
    assert history == [{"epoch": n, "train_loss": 2 / n + 1, "_step": n} for n in (1, 2, 3)]
    told = {"top1": 93, "loss": 0.5, "parameters": 1000, "macs": 2_000_000, "chosen_epoch": 3}
    assert summary == {"_step": 3, "epoch": 3, "train_loss": 2 / 3 + 1, **told}
    [table] = MIRROR.glob("study/results-*/wandb/offline-run-*/files/media/table/*.json")
    rows = json.loads(table.read_text())
    top1 = rows["columns"].index("top1")
    assert [row[top1] for row in rows["data"]] == [90, 91, 92, 93]


def test_a_second_push_writes_nothing_and_a_change_one_run_again(study):
    push("study", "wandb")
    before = logs()
    assert counts(push("study", "wandb")) == {"unchanged": 5}
    assert logs().keys() == before.keys()  # by name: the client may still be flushing the first one's bytes
    store = RunStore("runs")
    record = store.record(study[0])
    assert record is not None
    store.write(record.model_copy(update={"metrics": {"top1": 50.0, "loss": 0.5}}))
    assert counts(push("study", "wandb")) == {"replaced": 2, "unchanged": 3}
    after = logs()
    assert len(after) == len(before) == 5
    assert content(MIRROR / "study" / study[0])[2]["top1"] == 50


KILLED = """
import os, signal, sys
from wandb.sdk.wandb_run import Run
from ema_lab.cli.main import run
log, rows = Run.log, []
for fatal in map(int, sys.argv[1:]):
    def deadly(self, row, step=None):
        rows.append(row)
        if len(rows) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        log(self, row, step=step)
    if child := os.fork():  # of a process that has started nothing of W&B yet
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    else:
        Run.log = deadly
        run(["push", "study", "--to", "wandb", "--project", f"killed-{fatal}"])
        os._exit(1)
"""


@pytest.mark.slow
def test_a_push_killed_in_the_middle_is_made_good(study):
    rows = ("1", "3", "6", "12")
    command = [sys.executable, "-c", KILLED, *rows]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-9"] * len(rows)
    push("study", "wandb", project="whole")
    whole = {run_id: content(MIRROR.with_name("whole") / "study" / run_id) for run_id in study}
    for fatal in rows:
        project = f"killed-{fatal}"
        push("study", "wandb", project=project)
        for run_id in study:
            killed = content(MIRROR.with_name(project) / "study" / run_id)
            assert killed[0] == {**whole[run_id][0], "project": project}
            assert killed[1:] == whole[run_id][1:]


def test_a_run_of_two_ablations_is_a_run_in_each_group(study):
    Path("ablations/other.yaml").write_text(STUDY.replace("study", "other"))
    for name in ("study", "other", "study", "other"):
        outcome = push(name, "wandb", only={"seed": 0})
    assert counts(outcome) == {"unchanged": 3}
    run, _, _ = content(MIRROR / "other" / f"{study[0]}-other")
    assert (run["run_id"], run["run_group"]) == (f"{study[0]}-other", "other")
    assert (MIRROR / "study" / study[0]).is_dir()


def test_what_is_no_cell_any_more_is_removed_when_asked(study):
    push("study", "wandb")
    shorter = STUDY.replace("  se: {model.attention: {name: se, reduction: 4}}\n", "")
    Path("ablations/study.yaml").write_text(shorter)
    push("study", "wandb")
    assert (MIRROR / "study" / study[2]).is_dir()
    mirrored = push("study", "wandb", prune=True).mirrored
    assert (mirrored.pruned, mirrored.orphans[study[2]]) == (True, "se-s0")
    assert not (MIRROR / "study" / study[2]).exists()


def test_a_server_that_does_not_answer_is_one_line(study, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("ema_lab.tracking.mirror.wandb.INIT_SECONDS", 1)
    assert refused().startswith("127.0.0.1:9, project ema-lab: CommError: ")


def test_a_run_at_a_server_is_removed_there_before_it_is_forgotten(tmp_path, monkeypatch):
    class Server:
        """Stands for W&B's public API, of which a server is needed for the real one."""

        deleted: list[str] = []
        down = True

        def run(self, path: str) -> "Server":
            self.path = path
            return self

        def delete(self) -> None:
            if self.down:
                raise ConnectionError("no route")
            self.deleted.append(self.path)

    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_ENTITY", "lab")
    monkeypatch.setattr("wandb.Api", Server)
    mirror = WandbMirror(tmp_path, "p", "study")
    (mirror.folder / "abc").mkdir(parents=True)
    with pytest.raises(MirrorError, match=r"lab@api\.wandb\.ai, project p: ConnectionError: no route"):
        mirror.remove("abc")
    assert (mirror.folder / "abc").is_dir()
    Server.down = False
    mirror.remove("abc")
    assert Server.deleted == ["lab/p/abc"]
    assert not (mirror.folder / "abc").exists()


class TestOnline:
    """W&B's real client against a server that knows what the client asks for, on loopback."""

    @pytest.fixture
    def server(self, study, monkeypatch):
        with serving() as server:
            monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
            monkeypatch.setenv("WANDB_BASE_URL", server.url)
            yield server

    def test_runs_arrive_once_and_a_change_replaces_one(self, study, server):
        push("study", "wandb")
        assert len(server.runs) == 5
        assert all(run.complete for run in server.runs.values())
        run = server.runs[study[3]]
        assert (run.bucket["groupName"], run.bucket["jobType"]) == ("study", "se")
        assert (run.bucket["displayName"], run.bucket["project"]) == ("se-s1", "ema-lab")
        assert [run.history[n]["train_loss"] for n in range(3)] == [2 / n + 1 for n in (1, 2, 3)]
        assert json.loads(run.files["wandb-summary.json"])["top1"] == 93
        assert json.loads(run.bucket["config"])["run_id"]["value"] == study[3]
        server.runs.clear()
        assert counts(push("study", "wandb")) == {"unchanged": 5}
        assert server.runs == {}
        store = RunStore("runs")
        record = store.record(study[0])
        assert record is not None
        store.write(record.model_copy(update={"metrics": {"top1": 50.0, "loss": 0.5}}))
        push("study", "wandb")
        assert len(server.runs) == 2
        assert json.loads(server.runs[study[0]].files["wandb-summary.json"])["top1"] == 50

    def test_a_key_that_the_server_refuses_is_one_line(self, server):
        server.refuses = True
        assert refused().startswith(f"{server.url[7:]}, project ema-lab: ")

    @pytest.mark.slow
    def test_offline_runs_arrive_when_they_are_synced(self, study, server, monkeypatch):
        monkeypatch.setenv("WANDB_MODE", "offline")
        hint = push("study", "wandb").mirrored.next_step
        monkeypatch.delenv("WANDB_MODE")
        assert hint.startswith("wandb sync ")
        line = f"{Path(sys.executable).parent}/{hint}"
        subprocess.run(line, shell=True, check=True)
        assert sorted(run.bucket["displayName"] for run in server.runs.values()) == NAMES
        assert [len(server.runs[run_id].history) for run_id in study] == [3] * 4
        assert all(run.complete for run in server.runs.values())

    @pytest.mark.slow
    def test_what_does_not_arrive_in_time_is_sent_by_the_next_push(self, study, server, monkeypatch):
        server.stuck = True
        monkeypatch.setattr("ema_lab.tracking.mirror.wandb.FINISH_SECONDS", 1)
        assert refused().startswith(f"{server.url[7:]}, project ema-lab: TimeoutError: ")
        wandb.teardown()  # the next push is another process
        server.stuck = False
        monkeypatch.setattr("ema_lab.tracking.mirror.wandb.FINISH_SECONDS", 60)
        assert counts(push("study", "wandb")) == {"sent": 5}
        assert [len(server.runs[run_id].history) for run_id in study] == [3] * 4
