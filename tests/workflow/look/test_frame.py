"""Results as a DataFrame: the cells of `status` with names, axes, numbers and curves."""

import sys
from pathlib import Path

import pytest

import ema_lab
from ema_lab.errors import EmaLabError

HERE = {"workers": 1, "device": "cpu"}
AXES = """
  se: {model.attention: se, axes: {model.attention.reduction: [2, 4]}}
axes:
  status: {plain: {}, slow: {recipe.optimizer.lr: 0.05}}
  recipe.schedule: [{name: constant}]
"""


def test_a_row_per_cell_with_its_numbers(trained):
    ema_lab.run("tiny", only=["seed=0"], **HERE)
    frame = ema_lab.results("tiny")
    assert list(frame.columns) == [
        *("ablation", "row", "seed", "status", "stale", "top1", "loss", "macs", "parameters"),
        *("wall_seconds", "run_id"),
    ]
    shown = ema_lab.status("tiny").rows()
    assert list(frame.run_id) == [row["run_id"] for row in shown]
    assert list(frame.status) == [row["status"] for row in shown] == ["done", "pending"] * 2
    assert list(frame.top1.dropna()) == [row["top1"] for row in shown if row["top1"]] == [90.0, 92.0]
    assert set(frame.ablation) == {"tiny"}
    assert list(frame.row) == ["none", "none", "se", "se"]
    assert frame.seed.tolist() == [0, 1, 0, 1]
    assert list(frame[frame.status == "pending"].parameters.isna()) == [True, True]


def test_axes_are_columns_and_never_hide_another(trained):
    path = Path("ablations/tiny.yaml")
    path.write_text(path.read_text().partition("\n  se:")[0] + AXES)
    frame = ema_lab.results("tiny", seeds=1)
    assert list(frame.columns[:6]) == [
        *("ablation", "row", "axes.status", "recipe.schedule", "model.attention.reduction", "seed"),
    ]
    assert list(frame["model.attention.reduction"].dropna()) == [2, 2, 4, 4]
    assert list(frame["axes.status"]) == ["plain", "slow"] * 3
    assert set(frame["recipe.schedule"]) == {"constant"}
    assert set(frame.status) == {"pending"}


def test_curves_have_a_row_per_epoch(trained):
    assert list(ema_lab.results("tiny", curves=True).columns)[-2:] == ["epoch", "run_id"]
    ema_lab.run("tiny", only={"variant": "se"}, **HERE)
    frame = ema_lab.results("tiny", curves=True)
    assert list(frame.columns) == [
        *("ablation", "row", "seed", "status", "stale", "epoch", "val_top1", "run_id"),
    ]
    assert frame[["row", "seed", "epoch", "val_top1"]].to_numpy().tolist() == [
        *(["se", 0, 1, 92.1], ["se", 1, 1, 93.1]),
    ]


def test_a_missing_package_is_named_with_its_extra(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(EmaLabError, match=r"needs the package pandas: pip install 'ema-lab\[notebook\]'"):
        ema_lab.results("tiny")


def test_a_notebook_shows_tables_and_figures(trained):
    import matplotlib.figure

    ema_lab.run("tiny", **HERE)
    built = ema_lab.report("tiny")
    assert built.table()._repr_html_().startswith('<table class="report"')
    assert built._repr_html_().count("<table") == len(built.tables)
    assert built.figure("tradeoff")._repr_png_().startswith(b"\x89PNG")
    axes = built.plot("tradeoff")
    assert axes.get_ylabel() == "Top-1 (%)"
    assert isinstance(axes.figure, matplotlib.figure.Figure)


def test_nothing_to_plot_is_an_error_that_says_why(trained):
    with pytest.raises(EmaLabError, match=r"figure tradeoff: .*no finished run has both top1 and macs"):
        ema_lab.report("tiny").plot("tradeoff")
