"""push: the mirror is the store's image, whatever came between, and holds nothing twice."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from curved import STUDY, train_curved

from ema_lab.ablation.ablation import load_ablation
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore

NAMES = ["none-s0", "none-s1", "se-s0", "se-s1", "study-results"]
_projects = count()


@pytest.fixture(autouse=True, scope="module")
def _trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trackio reads its folder when it is imported: the tests share one, and take a project each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
        import trackio.utils

        patch.setenv("TRACKIO_DIR", str(trackio.utils.TRACKIO_DIR))
        yield


@pytest.fixture
def project() -> str:
    return f"project-{next(_projects)}"


def mirrored(project: str, group: str = "study") -> dict[str, Any]:
    """Return what Trackio has of a group, by name: config and rows; a name that is there twice fails."""
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    found: dict[str, Any] = {}
    for run in trackio.Api().runs(project):
        if run.config.pop("_Group") == group:
            assert run.name not in found
            del run.config["_Created"]
            rows = SQLiteStorage.get_logs(project, run.name, run_id=run.id)
            found[run.name] = run.config, [{**row, "timestamp": None} for row in rows]
    return found


def ids(project: str) -> dict[str, str]:
    import trackio

    return {run.name: run.id for run in trackio.Api().runs(project)}


def change(run_id: str, **changes: Any) -> None:
    store = RunStore("runs")
    record = store.record(run_id)
    assert record is not None
    store.write(RunRecord.model_validate({**record.model_dump(), **changes}))


class TestTrackio:
    def test_holds_names_configs_curves_and_summaries(self, command, study, project):
        answer = command("push", "study", "--to", "trackio", "--project", project, "--json")
        assert answer.code == 0
        rows = json.loads(answer.out)
        assert [row["mirror"] for row in rows] == ["sent"] * 4
        assert [row["run_id"] for row in rows] == study
        found = mirrored(project)
        assert sorted(found) == NAMES
        config, logged = found["se-s1"]
        spec = load_ablation("study").cells[3].spec
        assert {"run_id": spec.run_id, **spec.resolved()}.items() <= config.items()
        assert config["variant"] == "se"
        assert config["tags"] == ["synthetic", "resnet20", "se"]
        curve = [{"step": n, "epoch": n, "train_loss": 2.0 / n + 1, "timestamp": None} for n in (1, 2, 3)]
        summary = {"top1": 93.0, "loss": 0.5, "parameters": 1000, "macs": 2_000_000, "chosen_epoch": 3}
        assert logged == [*curve, {**summary, "step": 3, "timestamp": None}]

    def test_nothing_but_json_is_on_standard_output(self, study, project):
        arguments = ["push", "study", "--to", "trackio", "--project", project, "--json"]
        command = [Path(sys.executable).with_name("ema-lab"), *arguments]
        done = subprocess.run(command, capture_output=True, check=True)
        assert len(json.loads(done.stdout)) == 4

    def test_has_a_table_of_every_cell_with_its_holes(self, command, folder, trained, project):
        Path("ablations/study.yaml").write_text(STUDY)
        trained("study", train=train_curved, keep=lambda spec: spec.seed == 0)
        answer = command("push", "study", "--to", "trackio", "--project", project)
        assert (answer.code, len(mirrored(project))) == (0, 3)
        assert "not mirrored, pending: none seed 1, se seed 1\n" in answer.err
        [row] = mirrored(project)["study-results"][1]
        table = row["results"]["_value"]
        assert [(line["variant"], line["seed"], line["top1"]) for line in table] == [
            ("none", 0, 90.0), ("none", 1, None), ("se", 0, 92.0), ("se", 1, None),
        ]  # fmt: skip

    def test_a_second_push_sends_nothing(self, command, study, project):
        command("push", "study", "--to", "trackio", "--project", project)
        before = mirrored(project), ids(project)
        answer = command("push", "study", "--to", "trackio", "--project", project)
        assert "0 sent, 0 replaced, 5 unchanged" in answer.err
        assert (mirrored(project), ids(project)) == before

    @pytest.mark.parametrize(
        "fatal",
        [
            pytest.param(1, marks=pytest.mark.slow),
            3,
            pytest.param(6, marks=pytest.mark.slow),
            pytest.param(9, marks=pytest.mark.slow),
        ],
    )
    def test_a_push_killed_in_the_middle_is_made_good(self, command, study, project, fatal):
        command("push", "study", "--to", "trackio", "--project", f"{project}-whole")
        assert killed_at(fatal, f"study --to trackio --project {project}") == -9
        assert len(mirrored(project)) == (fatal + 3) // 4
        answer = command("push", "study", "--to", "trackio", "--project", project)
        assert answer.code == 0
        assert mirrored(project) == mirrored(f"{project}-whole")

    def test_a_changed_record_is_replaced_and_no_other(self, command, study, project):
        command("push", "study", "--to", "trackio", "--project", project)
        before = ids(project)
        change(study[0], metrics={"top1": 50.0, "loss": 0.5})
        answer = command("push", "study", "--to", "trackio", "--project", project)
        assert "0 sent, 2 replaced, 3 unchanged" in answer.err
        assert mirrored(project)["none-s0"][1][-1]["top1"] == 50.0
        after = ids(project)
        assert {name for name in NAMES if before[name] != after[name]} == {"none-s0", "study-results"}

    def test_a_renamed_row_keeps_no_run_of_its_old_name(self, command, study, project):
        command("push", "study", "--to", "trackio", "--project", project)
        Path("ablations/study.yaml").write_text(STUDY.replace("  se: {", "  squeeze: {"))
        command("push", "study", "--to", "trackio", "--project", project)
        assert sorted(mirrored(project)) == sorted(name.replace("se-", "squeeze-") for name in NAMES)

    def test_a_stale_result_is_tagged(self, command, study, project):
        change(study[0], source={"training": "0" * 16})
        answer = command("push", "study", "--to", "trackio", "--project", project)
        assert mirrored(project)["none-s0"][0]["tags"] == ["synthetic", "resnet20", "none", "stale"]
        assert "1 stale result: the source of training has changed" in answer.err

    def test_what_is_no_cell_any_more_is_reported_and_removed_when_asked(self, command, study, project):
        command("push", "study", "--to", "trackio", "--project", project)
        shorter = STUDY.replace("  se: {model.attention: {name: se, reduction: 4}}\n", "")
        Path("ablations/study.yaml").write_text(shorter)
        told = command("push", "study", "--to", "trackio", "--project", project)
        assert f"no cell of study any more: se-s0 ({study[2]}); --prune removes it" in told.err
        assert sorted(mirrored(project)) == NAMES
        command("push", "study", "--to", "trackio", "--project", project, "--prune")
        assert sorted(mirrored(project)) == ["none-s0", "none-s1", "study-results"]

    def test_only_some_cells_are_sent_when_asked(self, command, study, project):
        command(
            "push", "study", "--to", "trackio", "--project", project, "--only", "variant=se", "--seeds", "1"
        )
        assert sorted(mirrored(project)) == ["se-s0", "study-results"]

    def test_ablations_that_share_runs_each_have_their_group(self, command, study, project):
        Path("ablations/other.yaml").write_text(STUDY.replace("study", "other"))
        for name in ("study", "other", "study"):
            command("push", name, "--to", "trackio", "--project", project)
        assert sorted(mirrored(project)) == NAMES
        assert sorted(mirrored(project, "other")) == sorted([*NAMES[:4], "other-results"])

    def test_a_run_without_its_curve_is_named(self, command, study, project):
        Path("runs", study[0], "curve.csv").write_text("x,y\n1,what\n")
        answer = command("push", "study", "--to", "trackio", "--project", project)
        assert "without a whole curve in the store: none-s0\n" in answer.err
        assert len(mirrored(project)["none-s0"][1]) == 1

    def test_a_database_that_is_none_is_one_line(self, command, study, project):
        folder = Path(os.environ["TRACKIO_DIR"])
        folder.mkdir(exist_ok=True)
        (folder / f"{project}.db").write_bytes(b"no database" * 1000)
        answer = command("push", "study", "--to", "trackio", "--project", project)
        assert answer.code == 2
        [line] = answer.err.splitlines()
        assert f"the Trackio project {project}" in line


def killed_at(number: int, arguments: str) -> int:
    """Push in another process, which kills itself when it is to log its nth row; return its exit code."""
    program = f"""
        import os, signal, time
        import trackio.run
        from trackio.sqlite_storage import SQLiteStorage
        from ema_lab.cli.main import run
        log = trackio.run.Run.log
        rows = []
        def fatal(self, row, step=None):
            log(self, row, step=step)
            rows.append(self.id)
            if len(rows) == {number}:
                written = lambda: SQLiteStorage.get_logs(self.project, self.name, run_id=self.id)
                while len(written()) < rows.count(self.id):  # Trackio writes what is waiting now and then
                    time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGKILL)
        trackio.run.Run.log = fatal
        run({["push", *arguments.split()]!r})
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=False
    ).returncode


class TestRefusals:
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
    def test_a_wrong_request_is_one_line(self, command, study, monkeypatch, arguments, environment, words):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        answer = command("push", "study", *arguments)
        assert (answer.code, answer.out) == (2, "")
        [line] = answer.err.splitlines()
        assert words in line

    def test_a_store_without_a_finished_run_is_left_as_it_is(self, command, tree):
        before = tree()
        answer = command("push", "tiny", "--to", "trackio")
        assert (answer.code, answer.err) == (
            2,
            "ema-lab: no run of tiny is done in runs; ema-lab run tiny trains them\n",
        )
        assert tree() == before

    def test_an_absent_tracker_is_named_with_its_extra(self, command, study, monkeypatch):
        monkeypatch.setitem(sys.modules, "trackio", None)
        answer = command("push", "study", "--to", "trackio")
        assert (answer.code, answer.err) == (
            2,
            "ema-lab: trackio is not installed; pip install 'ema-lab[trackio]'\n",
        )

    def test_two_pushes_at_once_are_one_too_many(self, command, study, project):
        with RunStore("runs").claim("mirror") as claimed:
            assert claimed
            answer = command("push", "study", "--to", "trackio", "--project", project)
        assert answer.code == 2
        assert "another push from runs is under way" in answer.err
