"""Rows of a report: the same rows under the same names in table, figures and page."""

import json

import pytest
from made_up import fill, report, report_spec

from ema_lab.reports.figures.assemble import report_figures
from ema_lab.reports.page.data import report_data
from ema_lab.reports.row_order import report_rows, row_labels

VARIANTS = """\
seeds: [0, 1]
baseline: none
variants:
  none: {model.attention: none}
  se: {model.attention: {name: se, reduction: 4}}
  ema: {model.attention: {name: ema}, axes: {model.attention.groups: [4, 8]}}
"""
SCORES = {"none": 70.0, "se": 75.0, "ema [groups=4]": 72.0, "ema [groups=8]": 73.0}
FIGURES = [{"kind": "tradeoff", "name": "pareto"}, {"kind": "forest", "name": "forest"}]
WORDS = {
    "se": "SE (theirs)",
    "ema [groups=4]": "EMA 4",
}


@pytest.fixture
def shown(tmp_path):
    """Return a function that lists the display names in a report's table, trade-off, forest and page."""
    store = fill(
        tmp_path, "study", VARIANTS, lambda cell: SCORES[cell.row] + cell.seed * (1 + len(cell.row) % 3)
    )

    def names(**keys):
        keys = {"ablation": "study", "figures": FIGURES, **keys}
        spec = report_spec(tmp_path, **keys)
        tables = report(tmp_path, store, **keys).tables
        table = [row.name for row in tables[0].rows]
        pareto, forest = report_figures(spec, store)
        page = report_data(spec, tables, store)
        points = [text.get_text().replace("\n", " ") for text in pareto.drawing.axes[0].texts]
        ticks = [label.get_text().replace("\n", " ") for label in forest.drawing.axes[0].get_yticklabels()]
        names.forest, names.page = forest, page
        return table, points, ticks, [row["label"] for row in page["rows"]]

    return names


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ["none", "se", "ema [groups=4]", "ema [groups=8]"]),
        ({"rows": ["se"]}, ["se"]),
        ({"rows": ["ema [groups=8]", "none", "se"]}, ["ema [groups=8]", "none", "se"]),
        ({"order": "metric"}, ["se", "ema [groups=8]", "ema [groups=4]", "none"]),
        ({"only": {"variant": ["none", "ema"]}}, ["none", "ema [groups=4]", "ema [groups=8]"]),
        ({"names": WORDS}, ["none", "SE (theirs)", "EMA 4", "ema [groups=8]"]),
        ({"rows": ["ema [groups=4]", "se"], "names": WORDS}, ["EMA 4", "SE (theirs)"]),
    ],
)
def test_table_figures_and_page_show_the_same_rows(shown, keys, expected):
    table, points, ticks, page = shown(**keys)
    assert table == points == page == expected
    assert ticks == [name for name in expected if name != "none"]
    runs = [name for run in shown.page["runs"].values() for name in run["variants"]]
    rows = [row["row"] for row in shown.page["rows"]]
    assert sorted(runs) == sorted([*{*rows, "none"}] * 2)  # differences have the baseline's runs too


def test_a_captions_names_are_those_of_the_table(shown):
    shown(rows=["se"], names={"none": "Plain"})
    assert "difference to 'Plain'" in shown.forest.caption
    assert shown.forest.drawing.axes[0].get_xlabel().replace("\n", " ") == "Δ Top-1 vs Plain (points)"


def test_grouped_rows_stand_together_and_equal_names_are_distinguished_by_their_group(tmp_path):
    text = VARIANTS.split("  ema:")[0] + "axes: {recipe.batch_size: [16, 32]}\n"
    store = fill(tmp_path, "study", text, lambda cell: 70.0 + cell.seed)
    names = {"se [batch_size=16]": "SE", "se [batch_size=32]": "SE", "none [batch_size=16]": "Plain, 16"}
    keys = {"ablation": "study", "group": "recipe.batch_size", "names": names}
    spec = report_spec(tmp_path, **keys)
    table = [row.key for row in report(tmp_path, store, **keys).tables[0].rows]
    [(_, rows)] = report_rows(spec, store)
    assert [row.name for row in rows] == table
    labels = ["Plain, 16", "SE [batch_size=16]", "none [batch_size=32]", "SE [batch_size=32]"]
    assert list(row_labels(spec, rows).values()) == labels


def test_a_grid_and_data_sets_choose_by_the_names_of_their_rows(tmp_path):
    text = (
        VARIANTS.split("  ema:")[0]
        + f"axes: {{data: {json.dumps([{'name': 'digits'}, {'name': 'synthetic'}])}}}\n"
    )
    store = fill(tmp_path, "study", text, lambda cell: 70.0 + cell.seed)
    grid = report_spec(tmp_path, ablation="study", kind="grid", factors=["variant", "data.name"], rows=["se"])
    [(_, rows)] = report_rows(grid, store)
    assert {row.cells[0].cell.variant for row in rows} == {"se"}
    sets = report_spec(tmp_path, ablation="study", kind="datasets", factors=["data"], rows=["se", "none"])
    [(_, rows)] = report_rows(sets, store)
    assert [row.cells[0].cell.variant for row in rows] == ["se", "se", "none", "none"]


def test_the_looks_of_rows_do_not_change_with_their_order(shown):
    shown()
    before = {row["row"]: (row["colour"], row["marker"], row["line"]) for row in shown.page["rows"]}
    shown(order="metric")
    assert {row["row"]: (row["colour"], row["marker"], row["line"]) for row in shown.page["rows"]} == before


def test_the_pages_means_and_intervals_are_those_of_the_figures(shown):
    shown()
    [none, *_] = shown.page["rows"]
    mean = none["means"]["top1"]
    assert mean == {
        "mean": 71.0,
        "low": pytest.approx(71 - 12.7062),
        "high": pytest.approx(71 + 12.7062),
        "n": 2,
        "text": "71.00",
    }
