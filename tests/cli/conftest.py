"""A working folder with one small ablation, and the command line called as a user would."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from curved import STUDY, train_curved
from tiny import TINY, TINY_REPORT, fake_outcome

from ema_lab.ablation.ablation import load_ablation
from ema_lab.cli.main import run
from ema_lab.execution.executor import execute
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome
from ema_lab.store.store import RunStore


class Answer(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


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
def command(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that calls `ema-lab` with its arguments, in this process and that folder."""

    def call(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(list(arguments))
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return call


@pytest.fixture
def tree(folder: Path) -> Callable[[], dict[str, bytes | None]]:
    """Return a function that reads all below the current folder but bytecode; folders are None."""

    def read() -> dict[str, bytes | None]:
        paths = sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)
        return {
            str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths
        }

    return read


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Put back torch's number of threads, which a run sets for its process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `cost --latency` make each call once and find that it takes half a second."""
    made: list[object] = []

    def timer(work: Callable[[], object]) -> float:
        if work not in made:
            made.append(work)
            work()
        return 0.5

    monkeypatch.setattr("ema_lab.one_run.measurement.timer_of", lambda device: timer)


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


@pytest.fixture
def study(folder: Path, no_account: None, trained: Callable[..., list[str]]) -> list[str]:
    """The finished runs of an ablation of two rows and two seeds, with curves."""
    Path("ablations/study.yaml").write_text(STUDY)
    return trained("study", train=train_curved)
