"""A store of runs that were really trained, as `runs` in the current folder."""

import shutil
from pathlib import Path

import pytest
from tiny import TINY

import ema_lab
from ema_lab.store.store import RunStore

MOMENTUM = TINY.replace("lr: 0.1", "lr: 0.1, momentum: 0.9")
CHOSEN = (
    MOMENTUM.replace("name: tiny", "name: chosen")
    .replace("train_images: 32", "val_images: 10, train_images: 32")
    .replace("epochs: 1,", "epochs: 1, protocol: best-val,")
)


@pytest.fixture(scope="session")
def trained_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of three runs: two with the last epoch's weights, one with the best epoch's."""
    here = tmp_path_factory.mktemp("trained")
    (here / "tiny.yaml").write_text(MOMENTUM)
    (here / "chosen.yaml").write_text(CHOSEN)
    options = {"seeds": 1, "device": "cpu", "workers": 1, "store": here / "runs"}
    assert ema_lab.run(here / "tiny.yaml", **options).ok
    assert ema_lab.run(here / "chosen.yaml", only={"variant": "none"}, **options).ok
    return here / "runs"


@pytest.fixture
def runs(folder: Path, trained_store: Path) -> RunStore:
    """Return a copy of that store, as `runs` in the current folder, beside its ablation."""
    (folder / "ablations" / "tiny.yaml").write_text(MOMENTUM)
    shutil.copytree(trained_store, "runs")
    return RunStore("runs")


@pytest.fixture
def other(trained_store: Path, folder: Path) -> RunStore:
    """Return another copy of that store, as `other`."""
    shutil.copytree(trained_store, "other")
    return RunStore("other")


def run_of(store: RunStore, protocol: str) -> str:
    return next(one for one in store.run_ids() if store.spec(one).recipe.protocol == protocol)


@pytest.fixture
def last(runs: RunStore) -> str:
    """Return the first run whose weights are those of the last epoch."""
    return run_of(runs, "last")


@pytest.fixture
def best(runs: RunStore) -> str:
    """Return the run whose weights are those of the best epoch."""
    return run_of(runs, "best-val")
