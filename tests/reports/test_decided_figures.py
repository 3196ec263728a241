"""Figures of reports whose seeds were added until a decision: no interval that is too narrow."""

import math

import pytest
from made_up import fill, report, report_spec
from pydantic import ValidationError

from ema_lab.errors import SpecError
from ema_lab.reports.figures.assemble import report_figures
from ema_lab.reports.figures.draw import draw_forest
from ema_lab.reports.figures.style import look
from ema_lab.reports.page.data import report_data
from ema_lab.specs.task import task_description
from ema_lab.statistics import PairedDifference

TOP1 = task_description("classification").metrics["top1"]
VARIANTS = """\
seeds: {seeds}
baseline: none
variants:
  none: {{model.attention: none}}
  se: {{model.attention: {{name: se, reduction: 4}}}}
  ema: {{model.attention: {{name: ema, groups: 4}}}}
"""
GAIN = {"none": 0.0, "se": 0.3, "ema": 2.0}
WHY = "seeds were added until each comparison with the baseline was decided, and a t interval would be "


@pytest.fixture
def store(tmp_path):
    """Store of a study with 3 seeds, plus 9 more of `se` and 3 more of `ema`."""

    def score(cell):
        if cell.seed > {"none": 11, "se": 11, "ema": 5}[cell.variant]:
            return None
        return 80 + cell.seed + GAIN[cell.variant] * (1 + 0.5 * math.sin(3 * cell.seed + len(cell.variant)))

    fill(tmp_path, "more", VARIANTS.format(seeds=list(range(12))), score)
    store = fill(tmp_path, "study", VARIANTS.format(seeds=[0, 1, 2]), score)
    for path in (tmp_path / "runs").glob("*/record.json"):
        path.with_name("curve.csv").write_text("epoch,train_loss\n1,2\n2,1\n")
    return store


@pytest.fixture
def decided(tmp_path, store):
    """Return a function that draws the study's figures and builds its table."""

    def draw(*figures, **keys):
        keys = {"ablation": "study", "columns": ["top1", "delta"], "seeds": "decided", **keys}
        named = [{"name": f"f{place}", **figure} for place, figure in enumerate(figures)]
        drawn = report_figures(report_spec(tmp_path, figures=named, **keys), store)
        return drawn, report(tmp_path, store, **keys).tables[0]

    return draw


def bars_of(axes):
    """Return the ends of the horizontal intervals, from bottom to top."""
    segments = [bar[2][0].get_segments()[0] for bar in axes.containers if bar.has_xerr]
    return [(start[0], end[0]) for start, end in segments]


def test_a_forest_has_the_intervals_of_the_table_and_says_what_they_are(decided):
    (forest,), table = decided({"kind": "forest"})
    cells = [row.cells[1] for row in table.rows[1:]]
    assert [cell.spread_kind for cell in cells] == ["always_valid"] * 2
    assert bars_of(forest.drawing.axes[0]) == [pytest.approx((cell.low, cell.high)) for cell in cells]
    assert "over n=6 to 12 seeds in common, which were added until it was decided" in forest.caption
    assert (
        "with its always-valid 95 % interval, which holds for all rows at once, for this test set."
        in forest.caption
    )
    assert "t interval" not in forest.caption


def test_a_plan_shows_no_more_seeds_than_it_has_and_names_its_assumptions(decided):
    (forest,), table = decided({"kind": "forest"}, seeds={"decided": 7})
    cells = [row.cells[1] for row in table.rows[1:]]
    assert [cell.n for cell in cells] == [7, 6]
    assert [cell.spread_kind for cell in cells] == ["repeated_interval"] * 2
    assert bars_of(forest.drawing.axes[0]) == [pytest.approx((cell.low, cell.high)) for cell in cells]
    limit = "added until it was decided (at most 7 seeds, fixed in advance; differences taken as normal)"
    assert limit in forest.caption
    assert "with its repeated 95 % interval, which holds for all rows at once" in forest.caption
    assert any(limit in note and "repeated 95 % interval holds for all rows" in note for note in table.notes)


def test_a_column_of_p_alone_names_the_assumptions_of_a_plan(decided):
    _, table = decided(seeds={"decided": 7}, columns=["top1", "p"])
    (note,) = [note for note in table.notes if note.startswith("p (")]
    assert "group-sequential paired t test against 'none', over seeds that were added" in note
    assert "at most 7 seeds, fixed in advance; differences taken as normal" in note


def test_while_nothing_is_known_a_difference_is_hollow(decided):
    (forest,), table = decided({"kind": "forest"}, only={"seed": [0, 1]})
    assert table.rows[1].cells[1].low is None
    assert bars_of(forest.drawing.axes[0]) == []
    assert "interval, which" not in forest.caption
    assert "Hollow: no interval (too few seeds, or equal values)." in forest.caption


def test_an_interval_that_no_longer_holds_the_mean_is_drawn_where_it_is():
    drawing = draw_forest(
        [("row", PairedDifference(1.0, 1.2, 2.0, 9))], {"row": look(0)}, {"row": "row"}, TOP1, "none"
    )
    assert bars_of(drawing.axes[0]) == [pytest.approx((1.2, 2.0))]
    (mark,) = [line for line in drawing.axes[0].lines if line.get_marker() == look(0).marker]
    assert mark.get_xdata().tolist() == [1.0]


def test_a_mean_over_seeds_that_were_added_has_no_interval_and_the_caption_says_why(decided):
    (tradeoff,), _ = decided({"kind": "tradeoff"})
    bars = tradeoff.drawing.axes[0].containers
    assert not any(bar.has_yerr for bar in bars)
    assert [bar[0].get_markerfacecolor() for bar in bars] == ["white"] * 3
    assert (
        f"Mean over n=6 to 12 seeds of each row, without intervals: {WHY}too narrow; dashed"
        in tradeoff.caption
    )
    assert "Hollow" not in tradeoff.caption


def test_curves_have_a_band_of_spread_but_no_interval(decided):
    (spread, interval), _ = decided(
        {"kind": "curves"}, {"kind": "curves", "name": "interval", "band": "interval"}
    )
    assert "band: ± sample standard deviation over seeds" in spread.caption
    assert f"Mean over n=6 to 12 seeds, without intervals: {WHY}too narrow." in interval.caption
    assert all(
        path.vertices.size == 0 for area in interval.drawing.axes[0].collections for path in area.get_paths()
    )


def test_the_page_has_no_interval_of_their_means(tmp_path, store):
    spec = report_spec(tmp_path, ablation="study", columns=["top1", "delta"], seeds="decided")
    means = [row["means"]["top1"] for row in report_data(spec, (), store)["rows"]]
    assert [(mean["low"], mean["high"]) for mean in means] == [(None, None)] * 3
    assert [mean["n"] for mean in means] == [12, 12, 6]


def test_the_table_has_no_interval_of_their_means(decided):
    _, table = decided(only={"seed": [0, 1]})
    assert [(cell.spread_kind, cell.low) for row in table.rows for cell in row.cells[:1]] == [
        ("std", None)
    ] * 3
    (note,) = [note for note in table.notes if note.startswith("Δ")]
    assert note.endswith("(at most a limit).")
    _, table = decided()
    assert [row.cells[0].low for row in table.rows] == [None] * 3
    assert any("always-valid 95 % interval holds for all rows" in note for note in table.notes)


@pytest.mark.parametrize("spread", ["interval", "bootstrap"])
def test_an_interval_of_their_means_is_refused_in_a_table(tmp_path, spread):
    with pytest.raises(ValidationError, match="an interval of a mean needs a fixed number of seeds"):
        report_spec(tmp_path, ablation="study", columns=["top1"], seeds="decided", spread=spread)


def test_ranks_are_refused_as_the_table_refuses_them(decided):
    rule = "figure f0: a rank needs a number of seeds that was fixed beforehand"
    with pytest.raises(SpecError, match=rule):
        decided({"kind": "critical_difference"})
