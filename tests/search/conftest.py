"""Fixtures: sweep files written for a test, and fake trainers for their trials."""

from pathlib import Path

import pytest
from search_fakes import ABLATIONS, HEAD, METRICS, FakeTrain

from ema_lab.search.objective import read_objectives
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.study import Search
from ema_lab.search.sweep import Sweep, load_sweep
from ema_lab.search.trial import Trier


@pytest.fixture
def task() -> str:
    """Return what is learned; a test may be parametrized over several tasks."""
    return "classification"


@pytest.fixture
def write(tmp_path: Path, task: str):
    """Write a sweep file whose parameters end with the given text, at line `FIRST_LINE`, and load it."""
    (tmp_path / "base.yaml").write_text(ABLATIONS[task], encoding="utf-8")

    def writer(parameters: str, *, method: str = "random", seeds: str = "[0]", more: str = "") -> Sweep:
        head = HEAD.format(method=method, seeds=seeds).replace("BASE", f"{tmp_path}/base.yaml")
        head = head.replace("METRIC", METRICS[task])
        path = tmp_path / "sweep.yaml"
        path.write_text(head + parameters + more, encoding="utf-8")
        return load_sweep(path)

    return writer


@pytest.fixture
def make(tmp_path: Path):
    """Return a search of a sweep in its own store, and a trier for its trials."""

    def maker(sweep: Sweep, *, objective=(), limit=None, at_seed=None, **options) -> tuple[Search, Trier]:
        objectives = read_objectives(sweep, objective)
        strategy = choose_strategy(sweep, objectives, **options)
        search = Search(sweep, objectives, strategy, tmp_path / "runs")
        return search, Trier(search, FakeTrain(tmp_path / "log", at_seed or {}), limit, 3)

    return maker
