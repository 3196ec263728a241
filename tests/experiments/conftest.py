"""Ablations written for a test, and runs that a fake trains."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ema_lab.experiments.ablation import Ablation, load_ablation
from ema_lab.specs.run import RunSpec

HEAD = """\
name: grid
base:
  model: {backbone: resnet20}
  data: {name: digits}
  recipe: {use: digits-quick}
seeds: [0, 1]
"""


SLURM = Path(__file__).parents[1] / "system" / "slurm.sh"


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
def specs() -> list[RunSpec]:
    """Return four runs that differ in their seed."""
    recipe = {"epochs": 2, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.1}}
    tree = {"model": {"backbone": "resnet20"}, "data": {"name": "synthetic"}, "recipe": recipe}
    return [RunSpec.model_validate({**tree, "seed": seed}) for seed in range(4)]


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[None]:
    """Start Slurm on loopback; what runs already is used, and left running."""
    running = subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0
    subprocess.run([SLURM, "start"], check=True)
    yield
    if not running:
        subprocess.run([SLURM, "stop"], check=True)
