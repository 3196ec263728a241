"""Every kind of figure from synthetic records: numbers, reproducible bytes, captions."""

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import BASE, fill
from pydantic import ValidationError
from scipy.stats import friedmanchisquare

from ema_lab.errors import SpecError
from ema_lab.measured.selection import Row
from ema_lab.reports.figures.assemble import draw_figures, report_figures
from ema_lab.reports.figures.draw import draw_forest, draw_ranks
from ema_lab.reports.figures.draw_tradeoff import draw_tradeoff
from ema_lab.reports.figures.drawer import form_of
from ema_lab.reports.figures.numbers import Point, pareto_front, shown_rows
from ema_lab.reports.figures.ranks import (
    Ranks,
    friedman_p,
    holm_rejected,
    needed_datasets,
    nemenyi_difference,
)
from ema_lab.reports.figures.style import MODULES, look, looks_of
from ema_lab.reports.row_order import modules_of
from ema_lab.specs.figure import CriticalDifferenceFigure
from ema_lab.specs.metric import Metric
from ema_lab.specs.report import ReportSpec
from ema_lab.statistics import PairedDifference
from ema_lab.store.store import RunStore

COST = {"none": 2_000_000, "se": 3_000_000}


@pytest.fixture
def drawn(study, tmp_path):
    def build(figure, keep=None, short=(), equal=False, **keys):
        """Draw a figure. `short`: epochs with a value by row and seed; `equal`: all seeds have one curve."""
        short = dict(short)
        keys.setdefault("cost", lambda s: {"parameters": 1000, "macs": COST[s.model.attention.name]})
        made = study(**keys)
        store = RunStore(tmp_path / "runs")
        for row in made.rows:
            for item in row.cells:
                if item.record is not None:
                    path = store.folder(item.cell.run_id) / "curve.csv"
                    first, epochs = (
                        1 if equal else item.cell.seed + 1,
                        short.get((row.name, item.cell.seed), 2),
                    )
                    values = [f"1,{first}", "2,0.5"][:epochs] + ["1,", "2,"][epochs:]
                    path.write_text("\n".join(["epoch,train_loss", *values]))
        report = made.report(figures=[{"name": "figure", **figure}])
        rows = [row for row in made.rows if keep in {None, row.name}]
        return draw_figures(report, [(made.ablation, rows)], store)[0]

    return build


def front_line(figure):
    """Return the corners of the Pareto front, the one dashed line."""
    [front] = [line for line in figure.drawing.axes[0].lines if line.get_linestyle() == "--"]
    return front.get_xydata().tolist()


def test_a_tradeoff_shows_each_row_at_its_cost_and_mean(drawn):
    figure = drawn({"kind": "tradeoff"})
    bars = figure.drawing.axes[0].containers
    assert [tuple(bar[0].get_xydata()[0]) for bar in bars] == [(2, 91), (3, 93)]
    front = front_line(figure)
    assert front[:-1] == [[2, 91], [3, 93]]
    assert front[-1] == [figure.drawing.axes[0].get_xlim()[1], 93]
    assert [text.get_text() for text in figure.drawing.axes[0].texts] == ["none", "se"]
    assert "95 % within-seed interval (Cousineau and Morey) over n=3 seeds" in figure.caption
    assert "Bars leave out what differs between seeds in all rows alike." in figure.caption


def test_a_cost_that_was_not_measured_is_no_figure_but_a_sentence(drawn, tmp_path):
    figure = drawn({"kind": "tradeoff", "cost": "latency"})
    words = "Not drawn: no finished run has both top1 and latency; `ema-lab cost --latency` measures it."
    assert figure.drawing is None
    assert words in figure.caption
    (tmp_path / "figure.png").write_text("of an earlier time")
    assert [path.name for path in figure.write(tmp_path)] == ["figure.txt"]
    assert not (tmp_path / "figure.png").exists()


@pytest.mark.parametrize("kind", ["tradeoff", "curves", "forest"])
def test_before_any_run_nothing_is_drawn_and_that_is_said(drawn, kind):
    figure = drawn({"kind": kind}, scores=dict.fromkeys(("none", "se"), [None] * 3))
    assert figure.drawing is None
    assert "Not drawn: no r" in figure.caption or "Not drawn: no finished run" in figure.caption


def test_curves_show_the_mean_and_say_what_the_band_is(drawn):
    figure = drawn({"kind": "curves", "band": "range"})
    assert figure.drawing.axes[0].lines[0].get_xydata().tolist() == [[1, 2], [2, 0.5]]
    assert "band: from least to most over seeds" in figure.caption


def test_a_figure_of_rows_that_are_all_the_baseline_says_so(drawn):
    figure = drawn({"kind": "forest"}, keep="none")
    assert figure.drawing is None
    assert "Not drawn: every row is the baseline 'none', so there is no difference." in figure.caption


def test_a_point_without_an_interval_is_hollow_and_that_is_said(drawn):
    figure = drawn({"kind": "tradeoff"}, scores={"none": [90.0, 91.0, 92.0], "se": [91.0, None, None]})
    full, hollow = (bar[0] for bar in figure.drawing.axes[0].containers)
    assert full.get_markerfacecolor() == full.get_color()
    assert hollow.get_markerfacecolor() == "white"
    assert "Hollow: no interval (one seed, or equal values)." in figure.caption
    assert "Hollow" not in drawn({"kind": "tradeoff"}).caption


@pytest.mark.parametrize("kind", ["tradeoff", "forest"])
def test_equal_values_have_no_interval_and_are_drawn_hollow(kind):
    value = PairedDifference(1.0, math.nan, math.nan, 3)
    words = {"row": look(0)}, {"row": "row"}, Metric("Top-1", "%", +1)
    drawing = (
        draw_tradeoff([Point("row", 1e6, value)], *words, "macs")
        if kind == "tradeoff"
        else draw_forest([("row", value)], *words, "none")
    )
    points = [line for line in drawing.axes[0].lines if line.get_marker() == look(0).marker]
    assert [point.get_markerfacecolor() for point in points] == ["white"]
    assert not any(bar.has_xerr or bar.has_yerr for bar in drawing.axes[0].containers)


SINGLE = {"none": [90.0, None, None], "se": [91.0, None, None]}


@pytest.mark.parametrize("kind", ["tradeoff", "curves", "forest", "heatmap"])
def test_a_caption_speaks_of_no_interval_or_band_where_every_row_has_one_seed(drawn, kind):
    factors = {"factors": ["variant", "recipe.batch_size"]} if kind == "heatmap" else {}
    more = "baseline: none\naxes: {recipe.batch_size: [16]}"
    figure = drawn({"kind": kind, **factors}, scores=SINGLE, more=more)
    assert "over n=1 seed" in figure.caption
    assert "95 %" not in figure.caption
    assert "band" not in figure.caption


def test_a_caption_of_curves_counts_values_at_an_epoch_not_runs(drawn, tmp_path):
    figure = drawn({"kind": "curves"}, short={("se", 1): 1, ("se", 2): 0, ("none", 2): 1})
    words = (
        "Mean over n=1 to 3 seeds; band: ± sample standard deviation over seeds, none where one seed alone"
    )
    assert words in figure.caption
    even = drawn({"kind": "curves", "band": "interval"}, equal=True)
    assert "Mean over n=3 seeds." in even.caption


def test_an_unknown_column_is_answered_with_those_there_are(drawn):
    with pytest.raises(SpecError, match=r"column 'val_top1' is not in .*; it has train_loss"):
        drawn({"kind": "curves", "column": "val_top1"})


def test_a_forest_shows_paired_differences_and_names_holes(drawn):
    figure = drawn({"kind": "forest"}, scores={"none": [90.0, 91.0, 92.0], "se": [91.0, 93.0, None]})
    assert [1.5] in [list(line.get_xdata()) for line in figure.drawing.axes[0].lines]
    assert "1 of 6 runs is not there: se (1)." in figure.caption
    assert "n=2 seeds" in figure.caption


def test_a_heat_map_without_such_a_factor_is_refused(drawn):
    with pytest.raises(SpecError, match=r"no row has a value of variant and model\.attention.groups"):
        drawn({"kind": "heatmap", "factors": ["variant", "model.attention.groups"]})


def test_a_heat_map_has_the_means(drawn):
    more = "baseline: none\naxes: {recipe.batch_size: [16]}"
    figure = drawn({"kind": "heatmap", "factors": ["variant", "recipe.batch_size"]}, more=more)
    assert figure.drawing.axes[0].images[0].get_array().tolist() == [[91], [93]]
    assert [text.get_text() for text in figure.drawing.axes[0].texts] == ["91.00", "93.00"]


def test_too_few_methods_or_data_sets_for_ranks_are_a_sentence(drawn, tmp_path):
    figure = drawn({"kind": "critical_difference"})
    assert figure.drawing is None
    assert (
        "Not drawn: a critical-difference diagram (nemenyi) needs 3 methods or more, got 2." in figure.caption
    )
    few = ranks(tmp_path, "data.name", SIX[:2], lambda cell: POINTS[cell.variant], **CRITICAL)
    words = "(nemenyi) of 3 methods needs 3 data sets that all of them have, got 2."
    assert few.drawing is None
    assert words in few.caption


@pytest.mark.parametrize("methods", [3, 4, 5, 10, 20])
def test_the_fewest_data_sets_are_those_on_which_the_diagram_can_show_a_difference(methods):
    nemenyi, wilcoxon = (
        CriticalDifferenceFigure(name="r", kind="critical_difference", test=test)
        for test in ("nemenyi", "wilcoxon")
    )
    needed = needed_datasets(methods, nemenyi)
    assert nemenyi_difference(methods, needed, 0.05) < methods - 1
    alike = [list(range(1, methods + 1))]
    assert friedman_p(np.array(alike * needed)) < 0.05
    fewer = needed - 1
    assert (
        nemenyi_difference(methods, fewer, 0.05) >= methods - 1 or friedman_p(np.array(alike * fewer)) >= 0.05
    )
    pairs, most = math.comb(methods, 2), needed_datasets(methods, wilcoxon)
    assert 2.0 ** (1 - most) * pairs <= 0.05 < 2.0 ** (2 - most) * pairs


def test_on_few_data_sets_friedmans_p_value_is_that_of_all_permutations():
    table = np.array([[1, 2, 3], [1, 2, 3], [1.5, 1.5, 3]])
    spread = ((table.sum(axis=0) - 6) ** 2).sum()
    rows = (list(itertools.permutations(row)) for row in table)
    every = [((np.sum(found, axis=0) - 6) ** 2).sum() >= spread for found in itertools.product(*rows)]
    assert friedman_p(table) == pytest.approx(np.mean(every), abs=0.002)
    assert friedman_p(np.full((4, 3), 2.0)) == 1


def test_on_many_data_sets_friedmans_p_value_is_that_of_the_chi_square(monkeypatch):
    table = np.array([np.random.default_rng(seed).permutation(6) + 1 for seed in range(11)])
    assert friedman_p(table) == friedmanchisquare(*table.T).pvalue


SIX = ["digits", "fashion_mnist", "cifar10", "cifar100", "imagenet", "synthetic"]
MANY = [{"name": "synthetic", "train_images": 8 * n} for n in range(1, 9)]
METHODS = """
baseline: none
seeds: [0, 1]
variants:
  none: {model.attention: none}
  se: {model.attention: {name: se, reduction: 4}}
  ema: {model.attention: {name: ema, groups: 4}}
"""
POINTS = {"none": 70.0, "se": 72.0, "ema": 75.0}


def ranks(folder, axis, values, score, *, names=None, **keys):
    store = fill(folder, "many", f"{METHODS}axes: {{{axis}: {json.dumps(values)}}}\n", score)
    keys = {"name": "many", "ablation": str(folder / "many.yaml"), "names": names or {}, "figures": [keys]}
    (figure,) = report_figures(ReportSpec.model_validate(keys), store)
    return figure


def words_of(figure):
    return [text.get_text().strip() for text in figure.drawing.axes[0].texts]


CRITICAL = {"kind": "critical_difference", "name": "ranks"}


def test_ranks_come_from_the_records_of_many_data_sets(tmp_path):
    figure = ranks(
        tmp_path, "data.name", SIX, lambda cell: POINTS[cell.variant], names={"ema": "EMA"}, **CRITICAL
    )
    assert {"EMA (1.00)", "se (2.00)", "none (3.00)"} <= set(words_of(figure))
    assert "on 6 data sets" in figure.caption
    assert "Left out" not in figure.caption


def test_a_data_set_that_lacks_a_row_is_left_out_and_named(tmp_path):
    def score(cell):
        lost = cell.variant == "se" and cell.spec.data.options["train_images"] == 16
        return None if lost else POINTS[cell.variant]

    figure = ranks(tmp_path, "data", MANY, score, **CRITICAL)
    assert "on 7 data sets" in figure.caption
    assert (
        "Left out, since a method has no run there: synthetic (train_images=16) (no run of se)."
        in figure.caption
    )


def test_wilcoxon_with_holm_joins_what_does_not_differ(tmp_path):
    def score(cell):  # ema is better everywhere; se and none take turns
        turn = cell.spec.data.options["train_images"] // 8 % 2
        return {"none": 70.0 + turn, "se": 71.0 - turn, "ema": 80.0}[cell.variant] + cell.seed

    figure = ranks(tmp_path, "data", MANY, score, test="wilcoxon", **CRITICAL)
    bars = [line for line in figure.drawing.axes[0].collections if line.get_linewidth()[0] == 2.5]
    assert len(bars) == 1
    (start, _), (end, _) = bars[0].get_segments()[0]
    assert (start, end) == (pytest.approx(2.46), pytest.approx(2.54))
    assert "Wilcoxon's signed-rank test with Holm's correction" in figure.caption


def test_two_rows_of_a_method_on_one_data_set_are_refused(tmp_path):
    twice = [{"name": "digits"}, {"name": "digits", "val_images": 0}]
    with pytest.raises(SpecError, match=r"figures\.0: figure ranks: none has two rows on digits"):
        ranks(tmp_path, "data", twice, lambda cell: 70.0, **CRITICAL)


def test_data_are_what_the_table_and_what_a_linked_axis_say(tmp_path):
    linked = {f"D{size}": {"data.train_images": size} for size in (8, 16, 24, 32)}
    figure = ranks(tmp_path, "dataset", linked, lambda cell: POINTS[cell.variant], **CRITICAL)
    assert "on 4 data sets" in figure.caption
    both = f"{METHODS}axes: {{data.name: [synthetic, digits], data.val_images: [10, 20]}}\n"
    store = fill(tmp_path, "two", both, lambda cell: POINTS[cell.variant])
    keys = {"kind": "datasets", "name": "r", "ablation": str(tmp_path / "two.yaml"), "figures": [CRITICAL]}
    captions = []
    for factors in ([], ["data.name"]):
        (drawn,) = report_figures(ReportSpec.model_validate({**keys, "factors": factors}), store)
        captions.append(drawn.caption)
    assert captions[0] == captions[1]
    assert "6 methods" in captions[0]


def test_ablations_on_the_same_images_are_data_sets_of_their_own_as_in_the_table(tmp_path):
    paths = {}
    for epochs in (1, 2, 3):
        base = BASE.replace("epochs: 1", f"epochs: {epochs}")
        store = fill(tmp_path, f"e{epochs}", base + METHODS, lambda cell: POINTS[cell.variant])
        paths[f"{epochs} epochs"] = str(tmp_path / f"e{epochs}.yaml")
    keys = {"kind": "datasets", "name": "many", "ablations": paths, "figures": [CRITICAL]}
    (figure,) = report_figures(ReportSpec.model_validate(keys), store)
    assert "on 3 data sets" in figure.caption


def test_nemenyi_is_that_of_demsars_example():
    assert nemenyi_difference(4, 14, 0.05) == pytest.approx(1.25, abs=0.01)  # JMLR 7, section 3.2.4


def test_holm_stops_at_the_first_that_is_not_rejected():
    p = {(0, 1): 0.01, (0, 2): 0.04, (1, 2): 0.03}
    assert holm_rejected(p, 0.05) == {(0, 1)}


def test_ranks_stand_at_their_averages():
    found = Ranks(("a", "b", "c"), (1.25, 1.75, 3.0), 3, 10, 0.01, 1.05, ((0, 1),))
    drawing = draw_ranks(found, found.methods)
    assert [line.get_xdata()[0] for line in drawing.axes[0].lines[:3]] == [1.25, 1.75, 3.0]


@pytest.mark.parametrize("kind", ["tradeoff", "curves", "forest"])
def test_the_same_figure_gives_the_same_bytes_in_a_readable_size(drawn, tmp_path, kind):
    texts = []
    for _ in range(2):
        figure = drawn({"kind": kind})
        texts.append([path.read_bytes() for path in figure.write(tmp_path)])
    assert texts[0] == texts[1]
    assert figure.drawing.get_figwidth() == 3.3
    written = [t for t in figure.drawing.findobj(lambda a: hasattr(a, "get_fontsize")) if t.get_text()]
    assert written
    assert min(text.get_fontsize() for text in written) >= 6


def test_a_modules_look_does_not_depend_on_the_ablation(study):
    made = study()
    looks = looks_of(modules_of(made.ablation, made.rows))
    assert looks == {"none": look(MODULES.index("none")), "se": look(MODULES.index("se"))}


def test_rows_whose_modules_have_one_colour_are_distinguished_and_the_first_keeps_it():
    assert look(MODULES.index("ema")).colour == look(MODULES.index("gam")).colour
    looks = looks_of({"theirs": "gam", "none": "none", "ours": "ema", "ours, wide": "ema"})
    assert looks["ours"] == look(MODULES.index("ema"))
    assert len({one.colour for one in looks.values()}) == 4
    assert looks_of({"theirs": "gam"})["theirs"] == look(MODULES.index("gam"))


@given(st.lists(st.sampled_from([*MODULES, "own:Module"]), max_size=60))
def test_no_two_rows_look_the_same_nor_share_a_colour_while_one_is_free(modules):
    looks = looks_of({f"row {place}": name for place, name in enumerate(modules)})
    assert len(set(looks.values())) == len(modules)
    colours = Counter(one.colour for one in looks.values())
    assert len(colours) == min(len(modules), 7)
    assert not colours or max(colours.values()) <= math.ceil(len(modules) / 7)


def test_a_lone_seed_is_not_on_the_pareto_front_of_means(drawn):
    lucky = drawn({"kind": "tradeoff"}, scores={"none": [90.0, 91.0, 92.0], "se": [99.0, None, None]})
    assert [y for _, y in front_line(lucky)] == [91.0, 91.0]
    assert "A row with one seed is not on it." in lucky.caption


def test_rows_of_one_seed_each_have_a_front_of_their_own(drawn):
    alone = drawn({"kind": "tradeoff"}, scores={"none": [90.0, None, None], "se": [99.0, None, None]})
    assert [y for _, y in front_line(alone)] == [90.0, 99.0, 99.0]
    assert "is not on it" not in alone.caption


@pytest.mark.parametrize("kind", ["tradeoff", "curves"])
def test_a_figure_shows_the_rows_that_it_names(drawn, kind):
    figure = drawn({"kind": kind, "rows": ["se"], "legend": "below"})
    named = {text.get_text() for text in figure.drawing.legends[0].get_texts()}
    assert named - {"Pareto front"} == {"se"}
    assert "Not shown" not in figure.caption
    with pytest.raises(SpecError, match="no row is named 'see'; did you mean 'se'"):
        drawn({"kind": kind, "rows": ["see"]})


def test_more_rows_than_curves_are_shown_with_the_baseline_and_that_is_said(drawn, monkeypatch):
    rows = [Row(f"{number}", number == 9, ()) for number in range(12)]
    assert [row.name for row in shown_rows(rows, (), 8)] == [*"0123456", "9"]
    assert [row.name for row in shown_rows(rows, ("11", "3"), 1)] == ["3", "11"]
    assert shown_rows(rows, ()) == rows
    monkeypatch.setattr("ema_lab.reports.figures.drawer.MOST_CURVES", 1)
    figure = drawn({"kind": "curves"})
    assert [text.get_text() for text in figure.drawing.legends[0].get_texts()] == ["none"]
    assert "The first 1 of 2 rows; the figure's `rows` chooses others, `facets` shows all." in figure.caption


def test_a_tradeoff_of_differences_has_the_baseline_at_zero_and_paired_intervals(drawn):
    figure = drawn({"kind": "tradeoff", "difference": True})
    axes = figure.drawing.axes[0]
    assert [tuple(bar[0].get_xydata()[0]) for bar in axes.containers] == [(2, 0), (3, 2)]
    assert [bar.has_yerr for bar in axes.containers] == [False, True]
    assert axes.get_ylabel().startswith("Δ Top-1")
    assert "Mean paired difference to 'none', which is at zero, over n=3 seeds in common" in figure.caption
    assert "Hollow" not in figure.caption
    forest = drawn({"kind": "forest"}).drawing.axes[0].containers[0][2][0].get_segments()[0]
    bar = axes.containers[1][2][0].get_segments()[0]
    assert [y for _, y in bar] == pytest.approx([x for x, _ in forest])


def test_curves_of_differences_are_paired_by_seed(drawn):
    """The curves begin at seed + 1 in every row, so that all paired differences are zero."""
    figure = drawn({"kind": "curves", "difference": True})
    _, curve = figure.drawing.axes[0].lines
    assert curve.get_xydata().tolist() == [[1, 0], [2, 0]]
    assert "Paired difference to 'none'. Mean over n=3 seeds" in figure.caption
    assert "Not shown" not in figure.caption


def test_facets_have_one_row_each_with_the_baseline_in_grey(drawn):
    figure = drawn({"kind": "curves", "facets": True})
    titles = [axes.get_title() for axes in figure.drawing.axes]
    assert titles == ["none", "se"]
    assert [len(axes.lines) for axes in figure.drawing.axes] == [1, 2]
    assert figure.caption.endswith("Grey: none.")


@pytest.mark.parametrize("kind", ["tradeoff", "curves"])
def test_a_figure_of_differences_needs_a_baseline(drawn, kind):
    with pytest.raises(
        SpecError, match="a figure of differences needs a baseline; name one in study or in the"
    ):
        drawn({"kind": kind, "difference": True}, more="")


def test_more_than_eight_curves_are_refused_with_the_remedy(drawn):
    rows = [f"row {number}" for number in range(9)]
    words = "rows: 9 curves cannot be told apart on one pair of axes: name 8 at most, or set facets: true"
    with pytest.raises(SpecError, match=words):
        drawn({"kind": "curves", "rows": rows})


@pytest.mark.parametrize(
    "kind", ["tradeoff", "curves", "forest", "heatmap", "classes", "confusion", "sizes", "precision_recall"]
)
def test_every_kind_of_figure_has_a_size_and_a_font(kind):
    figure = {"kind": kind, "name": "f", "size": [6.9, 4], "font": 9}
    figure |= {"factors": ["a", "b"]} if kind == "heatmap" else {}
    read = ReportSpec.model_validate({"name": "r", "ablation": "a", "figures": [figure]}).figures[0]
    form = form_of(read)
    assert (form.width, form.height, form.font) == (6.9, 4, 9)


@pytest.mark.parametrize("size", [[1, 4], [3, 4, 5], [50]])
def test_a_wrong_size_says_what_is_right(size):
    figure = {"kind": "forest", "name": "f", "size": size}
    with pytest.raises(
        ValidationError, match=r"must be \[WIDTH\] or \[WIDTH, HEIGHT\] in inches, each from 2 to"
    ):
        ReportSpec.model_validate({"name": "r", "ablation": "a", "figures": [figure]})


def test_size_and_font_are_those_of_the_drawing(drawn):
    figure = drawn({"kind": "tradeoff", "size": [5, 3], "font": 10}).drawing
    assert tuple(figure.get_size_inches()) == (5, 3)
    assert figure.axes[0].xaxis.label.get_fontsize() == 10
    assert [text.get_fontsize() for text in figure.axes[0].texts] == pytest.approx([7 * 10 / 7.5] * 2)
    ticks = figure.axes[0].get_xticklabels()  # made here, outside of our style
    assert [text.get_fontsize() for text in ticks] == pytest.approx([7 * 10 / 7.5] * len(ticks))


@pytest.mark.parametrize("kind", ["tradeoff", "curves"])
def test_a_figure_without_a_legend_has_none(drawn, kind):
    drawing = drawn({"kind": kind, "legend": "none"}).drawing
    assert not drawing.legends
    assert not drawing.axes[0].texts


def test_every_module_has_a_look_of_its_own():
    assert len({look(place) for place in range(len(MODULES))}) == len(MODULES)


def test_rounding_puts_no_row_on_the_pareto_front():
    equal = [91.1111111111111, 91.11111111111113]
    assert pareto_front([(10, equal[0]), (30, equal[1]), (20, 90.0)], 1) == [0]
    assert pareto_front([(10, equal[1]), (30, equal[0])], -1) == [0]
    assert pareto_front([(10, equal[1]), (10, equal[0]), (30, 92.0)], 1) == [0, 1, 2]
    assert pareto_front([(3.3 - 4e-16, 90.0), (3.3, 91.0)], 1) == [1]  # milliseconds: none is cheaper


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20), st.sampled_from([1, -1]))
def test_the_pareto_front_is_what_none_beats(points, sign):
    def beaten(b):
        return any(a[0] <= b[0] and sign * a[1] >= sign * b[1] and a != b for a in points)

    front = pareto_front(points, sign)
    assert set(front) == {i for i, point in enumerate(points) if not beaten(point)}
    values = [sign * points[i][1] for i in front]
    assert values == sorted(values)
