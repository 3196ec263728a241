"""The family of a test is what the ablation compares, whatever a report shows of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from made_up import fill, report, report_spec
from scipy.stats import t

from ema_lab.ablation.ablation import load_ablation
from ema_lab.reports.figures.assemble import report_figures
from ema_lab.statistics import holm, paired_test
from ema_lab.statistics.power import detectable_difference
from ema_lab.tables.cell import Mark
from ema_lab.workflow.train.power import Power, power
from ema_lab.workflow.train.until import Until, compare

SEEDS = [0, 1, 2, 3, 4]
ROWS = [f"r{number}" for number in range(8)]
STUDY = f"seeds: {SEEDS}\nbaseline: r0\nvariants:\n" + "".join(
    f"  {name}: {{model.attention: {{name: se, reduction: {number + 1}}}}}\n"
    for number, name in enumerate(ROWS)
)
NOISE = np.random.default_rng(5).normal(0, 0.1, (len(ROWS), len(SEEDS)))
NOISE[3] += 0.25  # better than r0, as a test of this row alone finds, but not among seven rows
COLUMNS = ["top1", "delta", "p", "wilcoxon", "detectable"]


def score(cell):
    return 90 + cell.seed + float(NOISE[ROWS.index(cell.variant), cell.seed])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("family")


@pytest.fixture(scope="module")
def store(folder):
    return fill(folder, "s", STUDY, score)


@pytest.fixture
def table(folder, store):
    """Return a function that builds a report's first table, by each row's own variance unless it is told."""
    usual = {"columns": COLUMNS, "test": "paired"}
    return lambda **keys: report(folder, store, ablation="s", **{**usual, **keys}).tables[0]


def cells_of(table, name):
    """Return a row's cells by column, without the number of shown runs."""
    [row] = [row for row in table.rows if row.key == name]
    return dict(zip([column.key for column in table.columns], row.cells, strict=True))


@pytest.mark.parametrize(
    "keys",
    [
        {"rows": ["r0", "r3"]},
        {"rows": ["r3"]},
        {"only": {"variant": ["r0", "r3"]}},
        {"only": {"variant": ["r0", "r3", "r5"]}, "rows": ["r3", "r0"]},
    ],
)
def test_a_cell_does_not_depend_on_what_else_is_shown(table, keys):
    for test in ("paired", "pooled"):
        whole, part = table(test=test), table(test=test, **keys)
        assert len(part.rows) < len(whole.rows)
        assert cells_of(part, "r3") == cells_of(whole, "r3")
        assert cells_of(part, "r3")["top1"].mark is not Mark.BEST
    alone = paired_test(cells_of(table(), "r3")["delta"].values).p
    assert alone < 0.05 < cells_of(table(**keys), "r3")["p"].p <= 7 * alone


def test_intervals_may_hold_for_all_comparisons_together(folder, store, table):
    figures = [{"kind": "forest", "name": "f"}]
    keys = {"columns": ["top1", "delta"], "intervals": "simultaneous", "test": "paired"}
    whole, part, each = table(**keys), table(rows=["r0", "r3"], **keys), table(columns=["top1", "delta"])
    cell, alone = cells_of(part, "r3")["delta"], cells_of(each, "r3")["delta"]
    assert cell == cells_of(whole, "r3")["delta"]
    assert cell.spread / alone.spread == pytest.approx(t.ppf(1 - 0.025 / 7, 4) / t.ppf(0.975, 4))
    words = "simultaneous 95 % t interval (Bonferroni over 7 comparisons)"
    assert words in " ".join(part.notes)
    assert "with its 95 % t interval (each by itself)" in " ".join(each.notes)
    for shown, name, low in ((keys, words, cell.low), ({}, "95 % t interval (each by itself)", alone.low)):
        spec = report_spec(folder, ablation="s", figures=figures, **{**shown, "rows": ["r0", "r3"]})
        [forest] = report_figures(spec, store)
        [bar] = [bar for bar in forest.drawing.axes[0].containers if bar.has_xerr]
        assert bar[2][0].get_segments()[0][0, 0] == pytest.approx(low)
        assert name in forest.caption


@pytest.mark.parametrize(
    "keys",
    [
        {"columns": ["top1"]},
        {"columns": ["delta"], "seeds": "decided"},
        {"kind": "grid", "factors": ["variant", "seed"]},
    ],
)
def test_simultaneous_intervals_need_intervals_of_a_fixed_number_of_seeds(folder, keys):
    with pytest.raises(ValueError, match=r"intervals\n  changes nothing"):
        report_spec(folder, ablation="s", intervals="simultaneous", **keys)


def test_the_caption_says_how_many_rows_it_is_corrected_for(table):
    notes = " ".join(table(rows=["r0", "r3", "r5"]).notes)
    assert notes.count("2 of 7 compared rows shown, corrected for 7") == 2  # both kinds of p
    assert "at 5 % / 7 (Holm's first step)" in notes
    assert "over all pairs of rows of the ablation, of which 3 of 8 are shown, 5 %" in notes
    assert "shown" not in " ".join(table().notes)


def test_the_caption_says_that_only_leaves_out_seeds(folder, store, table):
    words = "`only` keeps 2 of 5 seeds: intervals and tests hold if no result has chosen them."
    figures = [{"kind": "forest", "name": "f"}]
    for only in ({"seed": [0, 1]}, {"seed": [0, 1], "variant": ["r0", "r3"]}):
        assert words in table(only=only).notes
        [forest] = report_figures(report_spec(folder, ablation="s", only=only, figures=figures), store)
        assert words in forest.caption
    for keys in ({}, {"only": {"variant": ["r0", "r3"]}}, {"rows": ["r0", "r3"]}):
        assert "`only`" not in " ".join(table(**keys).notes)


def test_differences_in_a_figure_have_the_reports_level(folder, store):
    figures = [{"kind": "tradeoff", "name": "t", "difference": True}]
    keys = {"columns": ["top1", "p"], "intervals": "simultaneous", "figures": figures}
    for test, how in (("paired", ""), ("pooled", "pooled variance, ")):
        [drawn] = report_figures(report_spec(folder, ablation="s", test=test, **keys), store)
        assert f"simultaneous 95 % t interval ({how}Bonferroni over 7 comparisons)" in drawn.caption


def test_seeds_that_were_added_until_a_decision_are_corrected_for_all_rows(table):
    keys = {"seeds": "decided", "columns": ["top1", "delta", "p"]}
    whole, part = table(**keys), table(rows=["r0", "r3"], **keys)
    assert cells_of(part, "r3") == cells_of(whole, "r3")
    notes = " ".join(part.notes)
    assert "holds for all 7 compared rows at once, of which 1 is shown" in notes
    assert "1 of 7 compared rows shown, corrected for 7" in notes


def test_seeds_that_were_added_show_equivalence_by_their_interval(table):
    wide = table(seeds="decided", columns=["top1", "delta"], margin=2.0)
    assert {cells_of(wide, name)["delta"].mark for name in ROWS[1:]} == {Mark.EQUIVALENT}
    assert "≈: equivalent to 'r0' within ±2 points (its always-valid interval" in " ".join(wide.notes)
    narrow = table(seeds="decided", columns=["top1", "delta"], margin=0.1)
    assert {cells_of(narrow, name)["delta"].mark for name in ROWS[1:]} == {None}


def test_a_forests_intervals_are_those_of_the_table(folder, store, table):
    keys = {"ablation": "s", "seeds": "decided", "columns": ["top1", "delta"], "rows": ["r0", "r3"]}
    spec = report_spec(folder, figures=[{"kind": "forest", "name": "f"}], **keys)
    [forest] = report_figures(spec, store)
    [bar] = [bar for bar in forest.drawing.axes[0].containers if bar.has_xerr]
    ends = bar[2][0].get_segments()[0][:, 0]
    cell = cells_of(table(**{key: keys[key] for key in ("seeds", "rows")}, columns=["delta"]), "r3")["delta"]
    assert ends == pytest.approx([cell.low, cell.high])


def test_groups_are_ranked_alone_and_corrected_together(tmp_path):
    """Showing one group neither adds a mark nor removes one."""
    text = STUDY.split("variants:")[0] + (
        "variants: {r0: {model.attention: none}, r3: {model.attention: se}}\n"
        "axes: {recipe.epochs: [1, 2, 3, 4, 5, 6]}\n"
    )

    def gain(cell):
        return 90 + cell.seed + float(NOISE[ROWS.index(cell.variant), cell.seed])

    store = fill(tmp_path, "g", text, gain)
    keys = {"ablation": "g", "group": "recipe.epochs", "columns": ["top1", "p"]}
    whole = report(tmp_path, store, **keys).tables[0]
    part = report(tmp_path, store, only={"recipe.epochs": 1}, **keys).tables[0]
    assert [row.cells for row in part.rows] == [row.cells for row in whole.rows[:2]]
    assert "1 of 6 compared rows shown, corrected for 6" in " ".join(part.notes)


def test_a_grid_and_its_effects_are_corrected_for_the_whole_ablation(tmp_path):
    text = (
        f"seeds: {SEEDS}\nvariants: {{ema: {{model.attention: ema}}}}\n"
        "axes: {model.attention.groups: [2, 4, 8], recipe.batch_size: [8, 16]}\n"
    )
    store = fill(tmp_path, "g", text, lambda cell: 90 + cell.seed + NOISE.flat[int(cell.run_id, 16) % 40])
    keys = {"kind": "grid", "ablation": "g", "factors": ["model.attention.groups", "recipe.batch_size"]}
    whole, *_ = report(tmp_path, store, **keys).tables
    for more in ({"rows": ["2", "4"]}, {"only": {"model.attention.groups": [2, 4]}}):
        part, effects, _ = report(tmp_path, store, **keys, **more).tables
        assert [row.cells for row in part.rows] == [row.cells for row in whole.rows[:2]]
        raw = [paired_test(row.cells[0].values).p for row in effects.rows]
        families = [*holm([*raw[:2], math.nan])[:2], *holm([raw[2], math.nan])[:1]]
        assert [row.cells[1].p for row in effects.rows] == pytest.approx(families)
        words = "over 3 main effects (2 of them shown) and, apart from them, 2 interactions (1 of them shown)"
        assert words in " ".join(effects.notes)
        assert "95 % t interval (each by itself)" in " ".join(effects.notes)


def test_data_sets_are_corrected_for_the_rows_that_are_hidden(tmp_path):
    text = STUDY + "axes: {data.train_images: [40, 80]}\n"
    store = fill(tmp_path, "d", text, score)
    keys = {"kind": "datasets", "ablation": "d", "factors": ["data.train_images"]}
    whole = report(tmp_path, store, **keys).tables[0]
    part = report(tmp_path, store, rows=["r0", "r3"], **keys).tables[0]
    assert [row.cells for row in part.rows] == [whole.rows[0].cells, whole.rows[3].cells]
    assert "2 of 14 comparisons shown, corrected for 14" in " ".join(part.notes)


def test_power_and_decisions_count_the_rows_that_only_leaves_out(folder, store):
    whole = load_ablation(folder / "s.yaml")
    part = whole.only({"variant": ["r0", "r3"]})
    assert (whole.num_compared, part.num_compared) == (7, 7)
    assert replace(part, baseline=None).num_compared == 8
    found = power(part, store, Power(std=1.0))
    assert found.compared == 7
    assert found.by_seeds[0]["detectable_holm"] == pytest.approx(
        detectable_difference(found.by_seeds[0]["seeds"], 1.0, significance=0.05 / 7)
    )
    [one] = compare(part, store, Until())
    [same] = [each for each in compare(whole, store, Until()) if each.row == "r3"]
    assert (one.followed, one.decision) == (same.followed, same.decision)


class TestShowingTheBestLookingRow:
    """20 rows without any effect, of which a report shows the one that looks best."""

    @staticmethod
    def false_positives(num_tables, seeds):
        """Return the share of tables whose best-looking row is significant: among 20, and by itself."""
        tables = np.random.default_rng(seeds).normal(90, 0.5, (num_tables, 21, seeds))
        corrected = alone = 0
        for table in tables:
            raw = [paired_test(list(row - table[0])).p for row in table[1:]]
            corrected += min(holm(raw)) < 0.05
            alone += min(raw) < 0.05
        return corrected / num_tables, alone / num_tables

    @pytest.mark.parametrize("seeds", [3, 5])
    def test_is_no_discovery(self, seeds):
        corrected, alone = self.false_positives(300, seeds)
        assert corrected <= 0.085  # 5 %, and three standard errors of 300 tables
        assert alone > 0.4  # if the family were what is shown

    @pytest.mark.slow
    def test_is_no_discovery_in_many_tables(self):
        assert self.false_positives(4000, 3)[0] <= 0.06
