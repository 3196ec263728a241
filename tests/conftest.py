"""Fixtures that several test files share."""

import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from predicted import write_predicted
from tiny import TINY, TINY_REPORT, fake_outcome

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.execution.executor import execute
from ema_lab.measured.selection import Row, select_rows
from ema_lab.reports.report import build_table
from ema_lab.specs.report import ReportSpec
from ema_lab.specs.run import RunSpec
from ema_lab.specs.strict import canonical_json
from ema_lab.specs.task import task_description
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.store.store import RunStore
from ema_lab.tables.render import flat_records
from ema_lab.tables.table import Table

TINY_DATA = {"name": "synthetic", "image_size": 16, "train_images": 40, "test_images": 20}
TINY_RECIPE = {
    "epochs": 2,
    "batch_size": 8,
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "augment": {"crop_padding": 2, "flip": True},
}
TINY_DETECTION = {
    "model": {"backbone": "yolov5n"},
    "data": {"name": "synthetic_scenes", "train_images": 40, "test_images": 4},
    "recipe": {
        "epochs": 2,
        "batch_size": 8,
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        "detection": {"augment": {"mosaic": 0.5, "close_mosaic": 1, "translate": 0.1, "flip": 0.5}},
    },
}
SLURM = Path(__file__).parent / "system" / "slurm.sh"
POSTGRESQL = Path(__file__).parent / "system" / "postgresql.sh"
SLOW_TO_LOAD = (
    *("attention/test_contract", "contract/", "models/test_build", "models/test_insertion"),
    *("training/test_compiled", "cli/test_check_command"),
    *("tracking/", "cli/test_push_command", "cli/test_sweep_results", "workflow/search/test_wandb_agents"),
)
LONGEST = "test_every_command_of_every_page_runs"  # of the slow ones: begun last, it would run alone
MARK = "<the modules that a test imports follow>"
HEAD = """\
name: grid
base:
  model: {backbone: resnet20}
  data: {name: digits}
  recipe: {use: digits-quick}
seeds: [0, 1]
"""


def pytest_configure(config: pytest.Config) -> None:
    """Give every test a store of its own, and torch one thread: small tests only wait for more.

    Property tests draw the same examples every time, so that no run of the suite has bad luck of its own.
    A shell that starts the suite in the background lets it ignore Ctrl-C, and with it every process that a
    test starts: here Ctrl-C counts again.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("suite", derandomize=True, deadline=None, max_examples=40)
    settings.load_profile("suite")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in ("EMA_LAB_STORE", "EMA_LAB_DATA"):
        os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes longest, and what loads torch's compiler or a tracker's client.

    Of two workers, one then loads all.
    """
    tests = Path(__file__).parent

    def rank(item: pytest.Item) -> tuple[bool, bool]:
        path = item.path.relative_to(tests).as_posix()
        return item.name != LONGEST, not path.startswith(SLOW_TO_LOAD)

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Leave the imported libraries out of garbage collection: it takes a tenth of the suite's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _own_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the folders and the modules that a test adds, so that the next finds its own of that name.

    What is imported comes after a mark in `sys.modules`, which keeps its order: comparing all of its
    thousands of names would take longer than most tests.
    """
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules[MARK] = sys
    yield
    for name in list(takewhile(lambda name: name != MARK, reversed(sys.modules))):
        if "/pytest-of-" in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]
    sys.modules.pop(MARK, None)


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., RunSpec]:
    """Return a function that builds a run spec; by default a ResNet-20 on tiny synthetic images.

    With `task="detection"`, a YOLOv5n on synthetic scenes.
    """

    def make(
        attention: Any = "none",
        *,
        task: str = "classification",
        model: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
        recipe: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> RunSpec:
        if task == "detection":
            parts = {"model": {"attention": attention, **(model or {})}, "data": data, "recipe": recipe}
            merged = {key: {**TINY_DETECTION[key], **(part or {})} for key, part in parts.items()}
            return RunSpec.model_validate({**merged, "seed": seed})
        tree = {
            "model": {"backbone": "resnet20", "attention": attention, **(model or {})},
            "data": {**TINY_DATA, **(data or {})}
            if (data or {}).get("name") in (None, "synthetic")
            else data,
            "recipe": {**TINY_RECIPE, **(recipe or {})},
            "seed": seed,
        }
        return RunSpec.model_validate(tree)

    return make


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Start PostgreSQL and return its URL without a database; one that runs already is left running."""
    with socket.socket() as probe:
        running = probe.connect_ex(("127.0.0.1", 54329)) == 0
    subprocess.run([POSTGRESQL, "start"], check=True)
    yield "postgresql+psycopg://ema_lab:secret@127.0.0.1:54329"
    if not running:
        subprocess.run([POSTGRESQL, "stop"], check=True)


class Predicted(NamedTuple):
    """A working folder with `ablations/predicted.yaml`, and its runs with predictions."""

    task: str
    folder: Path
    store: RunStore


@pytest.fixture(scope="session", params=["classification", "detection"])
def predicted_of_session(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """Make the runs of `predicted` once per task; no test writes there."""
    folder = tmp_path_factory.mktemp("predicted")
    write_predicted(folder, request.param)
    return request.param, folder


@pytest.fixture
def predicted(predicted_of_session: tuple[str, Path], tmp_path: Path) -> Predicted:
    """Return a copy of the runs of `predicted`, once for each task."""
    task, folder = predicted_of_session
    copied = tmp_path / "predicted"
    shutil.copytree(folder, copied)
    return Predicted(task, copied, RunStore(copied / "runs"))


class Loader:
    """Writes an ablation whose first lines are `HEAD` and loads it; line 7 is the first of the text."""

    head = HEAD
    first_line = HEAD.count("\n") + 1

    def __init__(self, folder: Path) -> None:
        self.path = folder / "grid.yaml"

    def __call__(self, text: str, *, head: str = HEAD) -> Ablation:
        self.path.write_text(head + text, encoding="utf-8")
        return load_ablation(self.path)


@pytest.fixture
def load(tmp_path: Path) -> Loader:
    return Loader(tmp_path)


@pytest.fixture
def specs(request: pytest.FixtureRequest) -> list[RunSpec]:
    """Return four runs that differ in their seed; of a classifier, unless a parameter names the task."""
    recipe = {"epochs": 2, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.1}}
    tree = {"model": {"backbone": "resnet20"}, "data": {"name": "synthetic"}, "recipe": recipe}
    if getattr(request, "param", "classification") == "detection":
        tree |= {key: TINY_DETECTION[key] for key in ("model", "data")}
    return [RunSpec.model_validate({**tree, "seed": seed}) for seed in range(4)]


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[None]:
    """Start Slurm on loopback; what runs already is used, and left running."""
    running = subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0
    subprocess.run([SLURM, "start"], check=True)
    yield
    if not running:
        subprocess.run([SLURM, "stop"], check=True)


STUDY = """\
name: study
base:
  model: {{backbone: resnet20}}
  data: {{name: synthetic, val_images: {val_images}}}
  recipe:
    {{epochs: 1, batch_size: 16, optimizer: {{name: sgd, lr: 0.1}}, protocol: {protocol}, watch: {watch}}}
seeds: [0, 1, 2]
{more}
variants:
  none: {{model.attention: none}}
  se: {{model.attention: {{name: se, reduction: 4}}}}
"""
STUDY_SCORES = {"none": [90.0, 91.0, 92.0], "se": [91.0, 93.0, 95.0]}
STUDY_OUTCOME = RunOutcome(
    metrics={},
    cost={"parameters": 12_345, "macs": 2_540_160},
    environment={"device": "cpu", "precision": "fp32", "num_threads": 1, "versions": {"torch": "2"}},
)


class Study(NamedTuple):
    """An ablation with the rows that its store gives."""

    ablation: Ablation
    rows: list[Row]

    def report(self, **keys: Any) -> ReportSpec:
        tree = {"name": "study", "title": "Study", "ablation": "study", **keys}
        return ReportSpec.model_validate(tree).for_task(task_description("classification"))

    def table(self, **keys: Any) -> Table:
        return build_table(self.report(**keys), self.ablation, self.rows)

    def records(self, **keys: Any) -> list[dict[str, Any]]:
        return flat_records(self.table(**keys))


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    """Return a function that trains a made-up study; a score of None is a run that is not there."""

    def build(
        scores: Mapping[str, list[float | None]] = STUDY_SCORES,
        *,
        environment: Callable[[RunSpec], dict[str, Any]] = lambda spec: {},
        cost: Callable[[RunSpec], dict[str, Any]] = lambda spec: {},
        protocol: str = "last",
        watch: str = "val",
        more: str = "baseline: none",
    ) -> Study:
        val_images = 50 if protocol == "best-val" else 0
        path = tmp_path / "study.yaml"
        path.write_text(STUDY.format(protocol=protocol, watch=watch, more=more, val_images=val_images))
        ablation = load_ablation(path)
        score = {cell.run_id: scores[cell.variant][cell.seed] for cell in ablation.cells}

        def train(spec: RunSpec, job: RunJob) -> RunOutcome:
            metrics = {"top1": score[spec.run_id], "loss": 0.25}
            own = {**STUDY_OUTCOME.environment, **environment(spec)}
            return replace(
                STUDY_OUTCOME, metrics=metrics, environment=own, cost=cost(spec) or STUDY_OUTCOME.cost
            )

        store = RunStore(tmp_path / "runs")
        there = [spec for spec in ablation.runs() if score[spec.run_id] is not None]
        execute(there, train=train, store=store)
        return Study(ablation, select_rows(ablation, store))

    return build


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: `ablations/tiny.yaml`, `reports/tiny.yaml` and nothing else."""
    here = tmp_path / "work"
    for kind, text in (("ablations", TINY), ("reports", TINY_REPORT)):
        (here / kind).mkdir(parents=True)
        (here / kind / "tiny.yaml").write_text(text)
    monkeypatch.chdir(here)
    for name in ("EMA_LAB_STORE", "EMA_LAB_DATA", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "path", [*sys.path])
    return here


@pytest.fixture
def tree(folder: Path) -> Callable[[], dict[str, bytes | None]]:
    """Return a function that reads all below the current folder but bytecode; folders are None."""

    def read() -> dict[str, bytes | None]:
        paths = sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)
        return {
            str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths
        }

    return read


@pytest.fixture
def trained(folder: Path) -> Callable[..., list[str]]:
    """Return a function that fills `runs` with outcomes of a made-up training; it returns the run ids."""

    def train_all(
        name: str = "tiny",
        *,
        train: Callable[[RunSpec, RunJob], RunOutcome] = lambda spec, job: fake_outcome(spec),
        keep: Callable[[RunSpec], bool] = lambda spec: True,
    ) -> list[str]:
        specs = [spec for spec in load_ablation(name).runs() if keep(spec)]
        execute(specs, train=train, store=RunStore("runs"))
        return [spec.run_id for spec in specs]

    return train_all


@pytest.fixture
def fake_training(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that puts a made-up training in the place of the real one.

    It returns a list that grows by the run id of each run that is trained.
    """

    def replace(outcome: Callable[[RunSpec], RunOutcome] = fake_outcome) -> list[str]:
        seen: list[str] = []

        def train_run(spec: RunSpec, job: RunJob, **_machine: Any) -> RunOutcome:
            seen.append(spec.run_id)
            return outcome(spec)

        monkeypatch.setattr("ema_lab.one_run.pipeline.train_run", train_run)
        return seen

    return replace


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay figures out without painting them, which takes long, for tests of what is written beside them."""
    monkeypatch.setattr("ema_lab.reports.figures.style.picture", lambda _figure, suffix: suffix.encode())


FITTING: set[str | None] = set()
SIZES: dict[str, int] = {}  # bytes of the checkpoints of models that were measured


@pytest.fixture(scope="session")
def own_names() -> set[str]:
    """Names of the attention modules, backbones and detectors of the package itself."""
    from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DETECTOR_HEADS

    tables = (ATTENTIONS, BACKBONES, DETECTOR_HEADS)
    return {name for table in tables for name, entry in table.items() if not entry.distribution}


@pytest.fixture
def checked_once(own_names: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check and measure each model of the package's own parts once in a process, and not in every test.

    Models with a part of a user or of another package, and those that start from a file, always are.
    """
    from ema_lab.tasks import task
    from ema_lab.training import disk

    check, measure = task.check_run, disk.checkpoint_bytes

    def key_of(spec: RunSpec, *without: str) -> str | None:
        tree = spec.resolved()
        tree["recipe"] = {key: value for key, value in tree["recipe"].items() if key not in without}
        key = canonical_json({**tree, "seed": 0})
        names = {spec.model.backbone, *(one.attention.name for one in spec.model.insertions)}
        own = spec.model.start is None and names <= own_names and not re.search(r'"[\w.]+:\w+"', key)
        return key if own else None

    def check_once(spec: RunSpec) -> None:
        key = key_of(spec, "optimizer")
        if key not in FITTING:
            check(spec)
            FITTING.update({key} - {None})

    def measure_once(spec: RunSpec) -> int:
        key = key_of(spec)
        if key is None:
            return measure(spec)
        if key not in SIZES:
            SIZES[key] = measure(spec)
        return SIZES[key]

    monkeypatch.setattr(task, "check_run", check_once)
    monkeypatch.setattr(disk, "checkpoint_bytes", measure_once)


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Hide whatever account at W&B this machine may have; end W&B's service, which keeps failed runs."""
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()
