"""The command line, called as a user would in the folder of the fixture `folder`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from curved import study, trackio_folder

from ema_lab.cli.main import run

__all__ = ["study", "trackio_folder"]


class Answer(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def command(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that calls `ema-lab` with its arguments, in this process and that folder."""

    def call(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(list(arguments))
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return call


@pytest.fixture(autouse=True)
def _checks(checked_once: None) -> None:
    """Spare most tests the check of the small models that all of them train."""


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Put back torch's number of threads, which a run sets for its process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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
