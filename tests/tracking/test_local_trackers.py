"""TensorBoard and MLflow, read back with their own clients: the store's image, without account or network."""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from curved import STUDY, train_curved
from pushes import counts

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import MirrorError, SpecError
from ema_lab.one_run.pipeline import train_run
from ema_lab.store.job import RunJob
from ema_lab.store.store import RunStore
from ema_lab.tracking import live
from ema_lab.tracking.mlflow_runs import URI, MlflowRuns
from ema_lab.tracking.tensorboard_files import folder_name
from ema_lab.training.machine import Machine
from ema_lab.workflow.publish.push import push

NAMES = ["none-s0", "none-s1", "se-s0", "se-s1", "study-results"]


@dataclass
class Held:
    """What a tracker has of a run: numbers by name and step, config as text, status."""

    numbers: dict[str, list[tuple[int, float]]]
    config: str
    table: str
    complete: bool


def of_tensorboard(root: Path) -> dict[str, Held]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in sorted({path.parent for path in root.rglob("events.out.*")}):
        events = EventAccumulator(str(folder))
        events.Reload()
        tags = events.Tags()
        numbers = {
            tag.removeprefix("final/"): [(each.step, each.value) for each in events.Scalars(tag)]
            for tag in tags["scalars"]
        }

        def text(name: str, events: Any = events) -> str:
            tag = f"{name}/text_summary"
            known = tag in events.Tags()["tensors"]
            return events.Tensors(tag)[0].tensor_proto.string_val[0].decode() if known else ""

        name = folder.name.rpartition("-")[0]
        assert name not in found
        found[name] = Held(numbers, text("config"), text("results"), (folder / "sent.json").is_file())
    return found


def of_mlflow(store: Path, experiment: str = "ema-lab/study") -> dict[str, Held]:
    from mlflow import MlflowClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = MlflowClient(tracking_uri=f"sqlite:///{store.resolve()}/.mlflow/mlflow.db")
        [named] = client.search_experiments(filter_string=f"name = '{experiment}'")
        found: dict[str, Held] = {}
        for run in client.search_runs([named.experiment_id]):
            assert run.info.run_name not in found
            numbers = {
                key: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            }
            path = Path(run.info.artifact_uri.removeprefix("file://"), "results.json")
            table = path.read_text() if path.is_file() else ""
            config = json.dumps(run.data.params)
            found[run.info.run_name] = Held(numbers, config, table, run.info.status == "FINISHED")
    return found


READERS: dict[str, Callable[[], dict[str, Held]]] = {
    "tensorboard": lambda: of_tensorboard(Path("runs/.mirror/tensorboard/ema-lab/study")),
    "mlflow": lambda: of_mlflow(Path("runs")),
}
TO = pytest.mark.parametrize("to", READERS)
MLFLOW_SLOW = pytest.mark.parametrize("to", ["tensorboard", pytest.param("mlflow", marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of MLflow, whose tables take seconds to make."""
    store = tmp_path_factory.mktemp("mlflow")
    MlflowRuns(store, "ema-lab", "other")
    return store / ".mlflow" / "mlflow.db"


@pytest.fixture(autouse=True)
def _database(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if "mlflow" in request.node.name:
        for store in ("runs", "work/runs"):
            folder = tmp_path / store / ".mlflow"
            folder.mkdir(parents=True)
            shutil.copy(request.getfixturevalue("database"), folder)


@TO
def test_a_mirror_has_names_configs_curves_summaries_and_the_table(study, to):
    outcome = push("study", to)
    assert counts(outcome) == {"sent": 5}
    found = READERS[to]()
    assert sorted(found) == NAMES
    held = found["se-s1"]
    assert held.numbers["train_loss"] == [(n, pytest.approx(2 / n + 1)) for n in (1, 2, 3)]
    assert [held.numbers[key][-1][1] for key in ("top1", "macs", "chosen_epoch")] == [93.0, 2_000_000, 3]
    spec = load_ablation("study").cells[3].spec
    assert spec.run_id in held.config
    assert "resnet20" in held.config
    assert all(f"{value}" in found["study-results"].table for value in (90.0, 91.0, 92.0, 93.0))
    assert all(each.complete for each in found.values())
    hint = outcome.mirrored.next_step
    assert hint.startswith({"tensorboard": "tensorboard --logdir ", "mlflow": "mlflow ui --backend"}[to])
    assert str(Path("runs").resolve()) in hint


@MLFLOW_SLOW
def test_only_what_has_changed_is_sent_again(study, to):
    push("study", to)
    assert counts(push("study", to)) == {"unchanged": 5}
    store = RunStore("runs")
    record = store.record(study[0])
    assert record is not None
    store.write(record.model_copy(update={"metrics": {"top1": 50.0, "loss": 0.5}}))
    assert counts(push("study", to)) == {"replaced": 2, "unchanged": 3}
    assert READERS[to]()["none-s0"].numbers["top1"][-1][1] == 50.0


@MLFLOW_SLOW
def test_rows_that_are_renamed_or_gone_leave_nothing_behind(study, to):
    push("study", to)
    Path("ablations/study.yaml").write_text(STUDY.replace("  se: {", "  squeeze: {"))
    assert counts(push("study", to))["replaced"] == 3
    assert sorted(READERS[to]()) == sorted(name.replace("se-", "squeeze-") for name in NAMES)
    shorter = STUDY.replace("  se: {model.attention: {name: se, reduction: 4}}\n", "")
    Path("ablations/study.yaml").write_text(shorter)
    kept = push("study", to).mirrored
    assert sorted(kept.orphans.values()) == ["squeeze-s0", "squeeze-s1"]
    push("study", to, prune=True)
    assert sorted(READERS[to]()) == ["none-s0", "none-s1", "study-results"]


@MLFLOW_SLOW
def test_a_push_that_is_interrupted_is_made_good(study, to, monkeypatch):
    place = {
        "tensorboard": "ema_lab.tracking.mirror.tensorboard.EventFiles.close",
        "mlflow": "ema_lab.tracking.mlflow_runs.MlflowRuns.finish",
    }[to]
    with monkeypatch.context() as patch:
        patch.setattr(place, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            push("study", to)
    push("study", to)
    found = READERS[to]()
    assert sorted(found) == NAMES
    assert all(each.complete for each in found.values())


def test_a_server_that_does_not_answer_is_one_line(study, monkeypatch):
    monkeypatch.setenv(URI, "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MirrorError, match=r"ema-lab/study in http://127.0.0.1:9: \w+: .*") as raised:
        push("study", "mlflow")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_live_tracker_has_each_epoch_and_goes_on_in_the_same_run(make_spec, tmp_path, monkeypatch, name):
    spec = make_spec("se")
    outcome = train_curved(spec, RunJob(tmp_path))
    job = RunJob(tmp_path / "runs" / spec.run_id, "study", "se [x]")
    job.folder.mkdir(parents=True)
    rows = [{"epoch": epoch, "train_loss": 1 / epoch} for epoch in (1, 2, 3)]
    for part, end in ((rows[:2], None), (rows[1:], outcome)):  # the second epoch is trained again
        tracker = live.start_tracker(name, spec, job)
        for row in part:
            tracker.log_epoch(row)
        tracker.finish(end)
    root = tmp_path / "runs"
    found = of_tensorboard(root / ".tensorboard/study") if name == "tensorboard" else of_mlflow(root)
    [(run, held)] = found.items()
    assert run == {"tensorboard": "se_x_-s0", "mlflow": "se [x]-s0"}[name]
    assert dict(held.numbers["train_loss"]) == {n: pytest.approx(1 / n) for n in (1, 2, 3)}
    assert held.numbers["top1"][-1][1] == outcome.metrics["top1"]
    assert spec.run_id in held.config


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_run_is_tracked_while_it_trains(make_spec, tmp_path, name):
    spec, job = make_spec("se"), RunJob(tmp_path / "runs" / "a", "study", "se")
    job.folder.mkdir(parents=True)
    machine = Machine(data_root=tmp_path / "data", device="cpu", num_threads=1)
    outcome = train_run(spec, job, machine=machine, track=name)
    root = tmp_path / "runs"
    [held] = (of_tensorboard(root / ".tensorboard") if name == "tensorboard" else of_mlflow(root)).values()
    assert held.numbers["top1"][-1][1] == pytest.approx(outcome.metrics["top1"])
    assert len(held.numbers["train_loss"]) == spec.recipe.epochs


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_tracker_whose_package_is_absent_is_named_with_its_extra(monkeypatch, name):
    live.check_tracker(name)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SpecError, match=rf"{name} is not installed; pip install 'ema-lab\[{name}\]'"):
        live.check_tracker(name)


def test_a_folder_is_named_after_its_run():
    assert folder_name("ema [groups=8, a/b]-s0", "0123456789abcdef") == "ema_groups=8,_a_b_-s0-01234567"


def test_mlflow_reports_nothing_about_its_use(tmp_path):
    MlflowRuns(tmp_path / "runs", "ema-lab", "study")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
