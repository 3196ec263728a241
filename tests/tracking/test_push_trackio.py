"""Push to Trackio: the mirror is the store's image, whatever came between, and holds nothing twice."""

import os
import subprocess
import sys
import textwrap
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from curved import STUDY, train_curved
from pushes import counts

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import MirrorError
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore
from ema_lab.workflow.publish.push import PushOutcome, push

NAMES = ["none-s0", "none-s1", "se-s0", "se-s1", "study-results"]
_projects = count()


pytestmark = pytest.mark.usefixtures("trackio_folder")


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


def send(project: str, **options: Any) -> PushOutcome:
    """Push the ablation `study` to a project."""
    return push("study", "trackio", project=project, **options)


def ids(project: str) -> dict[str, str]:
    import trackio

    return {run.name: run.id for run in trackio.Api().runs(project)}


def change(run_id: str, **changes: Any) -> None:
    store = RunStore("runs")
    record = store.record(run_id)
    assert record is not None
    store.write(RunRecord.model_validate({**record.model_dump(), **changes}))


class TestTrackio:
    def test_holds_names_configs_curves_and_summaries(self, study, project):
        rows = send(project).rows()
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

    def test_has_a_table_of_every_cell_with_its_holes(self, folder, trained, project):
        Path("ablations/study.yaml").write_text(STUDY)
        trained("study", train=train_curved, keep=lambda spec: spec.seed == 0)
        rows = send(project).rows()
        assert [row["mirror"] for row in rows] == ["sent", None, "sent", None]
        assert len(mirrored(project)) == 3
        [row] = mirrored(project)["study-results"][1]
        table = row["results"]["_value"]
        assert [(line["variant"], line["seed"], line["top1"]) for line in table] == [
            ("none", 0, 90.0), ("none", 1, None), ("se", 0, 92.0), ("se", 1, None),
        ]  # fmt: skip

    def test_a_second_push_sends_nothing(self, study, project):
        send(project)
        before = mirrored(project), ids(project)
        assert counts(send(project)) == {"unchanged": 5}
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
    def test_a_push_killed_in_the_middle_is_made_good(self, study, project, fatal):
        send(f"{project}-whole")
        assert killed_at(fatal, f"study --to trackio --project {project}") == -9
        assert len(mirrored(project)) == (fatal + 3) // 4
        send(project)
        assert mirrored(project) == mirrored(f"{project}-whole")

    def test_a_changed_record_is_replaced_and_no_other(self, study, project):
        send(project)
        before = ids(project)
        change(study[0], metrics={"top1": 50.0, "loss": 0.5})
        assert counts(send(project)) == {"replaced": 2, "unchanged": 3}
        assert mirrored(project)["none-s0"][1][-1]["top1"] == 50.0
        after = ids(project)
        assert {name for name in NAMES if before[name] != after[name]} == {"none-s0", "study-results"}

    def test_a_renamed_row_keeps_no_run_of_its_old_name(self, study, project):
        send(project)
        Path("ablations/study.yaml").write_text(STUDY.replace("  se: {", "  squeeze: {"))
        send(project)
        assert sorted(mirrored(project)) == sorted(name.replace("se-", "squeeze-") for name in NAMES)

    def test_a_stale_result_is_tagged(self, study, project):
        change(study[0], source={"training": "0" * 16})
        rows = send(project).rows()
        assert mirrored(project)["none-s0"][0]["tags"] == ["synthetic", "resnet20", "none", "stale"]
        assert [row["stale"] for row in rows] == ["training", None, None, None]

    def test_what_is_no_cell_any_more_is_reported_and_removed_when_asked(self, study, project):
        send(project)
        shorter = STUDY.replace("  se: {model.attention: {name: se, reduction: 4}}\n", "")
        Path("ablations/study.yaml").write_text(shorter)
        kept = send(project).mirrored
        assert (kept.pruned, "se-s0" in kept.orphans.values()) == (False, True)
        assert sorted(mirrored(project)) == NAMES
        send(project, prune=True)
        assert sorted(mirrored(project)) == ["none-s0", "none-s1", "study-results"]

    def test_only_some_cells_are_sent_when_asked(self, study, project):
        send(project, only={"variant": "se"}, seeds=1)
        assert sorted(mirrored(project)) == ["se-s0", "study-results"]

    def test_ablations_that_share_runs_each_have_their_group(self, study, project):
        Path("ablations/other.yaml").write_text(STUDY.replace("study", "other"))
        for name in ("study", "other", "study"):
            push(name, "trackio", project=project)
        assert sorted(mirrored(project)) == NAMES
        assert sorted(mirrored(project, "other")) == sorted([*NAMES[:4], "other-results"])

    def test_a_run_without_its_curve_is_named(self, study, project):
        Path("runs", study[0], "curve.csv").write_text("x,y\n1,what\n")
        assert list(send(project).cut_curves) == ["none-s0"]
        assert len(mirrored(project)["none-s0"][1]) == 1

    def test_a_database_that_is_none_is_one_line(self, study, project):
        folder = Path(os.environ["TRACKIO_DIR"])
        folder.mkdir(exist_ok=True)
        (folder / f"{project}.db").write_bytes(b"no database" * 1000)
        with pytest.raises(MirrorError, match=f"the Trackio project {project}"):
            send(project)


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
