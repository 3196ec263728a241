"""Sweeps written for a test, and what tries their trials."""

from pathlib import Path

import pytest
from search_fakes import ABLATION, HEAD, FakeTrain

from ema_lab.search.objective import read_objectives
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.study import Search
from ema_lab.search.sweep import Sweep, load_sweep
from ema_lab.search.trial import Trier


@pytest.fixture
def write(tmp_path: Path):
    """Write a sweep whose parameters go on with a text, at line `FIRST_LINE`, and load it."""
    (tmp_path / "base.yaml").write_text(ABLATION, encoding="utf-8")

    def writer(parameters: str, *, method: str = "random", seeds: str = "[0]", more: str = "") -> Sweep:
        head = HEAD.format(method=method, seeds=seeds).replace("BASE", f"{tmp_path}/base.yaml")
        path = tmp_path / "sweep.yaml"
        path.write_text(head + parameters + more, encoding="utf-8")
        return load_sweep(path)

    return writer


@pytest.fixture
def make(tmp_path: Path):
    """Return a search of a sweep in a store of its own, and what tries its trials."""

    def maker(sweep: Sweep, *, objective=(), limit=None, at_seed=None, **options) -> tuple[Search, Trier]:
        objectives = read_objectives(sweep, objective)
        strategy = choose_strategy(sweep, objectives, **options)
        search = Search(sweep, objectives, strategy, tmp_path / "runs")
        return search, Trier(search, FakeTrain(tmp_path / "log", at_seed or {}), limit, 3)

    return maker
