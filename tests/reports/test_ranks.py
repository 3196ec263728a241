"""Critical-difference figure, from records of many data sets to the picture and its caption."""

from statistics import fmean

import pytest
from made_up import BASE, fill, report_spec

from ema_lab.errors import SpecError
from ema_lab.reports.figures.assemble import report_figures
from ema_lab.reports.figures.style import looks_of
from ema_lab.reports.page.data import report_data

METHODS = ("none", "se", "eca", "cbam", "ema")
GAIN = {"none": 0.0, "se": 0.1, "eca": 0.15, "cbam": 2.0, "ema": 3.0}
VARIANTS = f"""\
seeds: [0]
baseline: none
variants:
{"".join(f"  {name}: {{model.attention: {name}}}" + chr(10) for name in METHODS)}"""

THREE = """\
seeds: [0, 1, 2]
baseline: none
variants:
  none: {model.attention: none}
  se: {model.attention: {name: se, reduction: 4}}
  ema: {model.attention: {name: ema, groups: 4}}
"""


def score(cell, place):
    swing = 0.2 * ((-1) ** place) * (cell.variant == "se")
    return 70 + place + GAIN[cell.variant] + swing + 0.01 * cell.seed


def ranks(folder, *, holes=(), count=11, **keys):
    """Draw the ranks over `count` ablations, one per data set; `holes`: missing (data set, method) pairs."""
    sources = {}
    for place in range(count):
        name = f"d{place}"
        text = BASE.replace("{name: synthetic}", f"{{name: synthetic, train_images: {40 + place}}}")

        def of(cell, place=place, name=name):
            return None if (name, cell.variant) in holes else score(cell, place)

        store = fill(folder, name, text + VARIANTS, of)
        sources[name.upper()] = name
    figure = {"kind": "critical_difference", "name": "ranks", **keys.pop("figure", {})}
    spec = report_spec(folder, kind="datasets", ablations=sources, figures=[figure], **keys)
    return report_figures(spec, store)[0]


def words_in(drawing):
    return [text.get_text() for text in drawing.axes[0].texts]


def overlap(drawing):
    """Return the pairs of texts whose boxes overlap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(drawing).draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in drawing.axes[0].texts]
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    return [(a[0], b[0]) for a, b in pairs if a[1].overlaps(b[1])]


@pytest.mark.slow
def test_ranks_over_the_ablations_of_a_report_leave_out_a_data_set_with_a_hole_and_name_it(tmp_path):
    drawn = ranks(tmp_path, holes={("d3", "eca"), ("d3", "se")}, figure={"test": "wilcoxon"})
    assert "on 10 data sets" in drawn.caption
    assert "Left out, since a method has no run there: D3 (no run of se, eca)." in drawn.caption
    assert "2 of 55 runs are not there: se (1), eca (1)." in drawn.caption
    for test in ("nemenyi", "wilcoxon"):  # the runs that were missing are trained now
        drawn = ranks(tmp_path, figure={"test": test}, names={"ema": "EMA (ours)"})
        assert "EMA (ours) (1.00)" in words_in(drawn.drawing)
        assert "cbam (2.00)" in words_in(drawn.drawing)
        assert "on 11 data sets (1 is best; means over n=1 seed)" in drawn.caption
        assert "Friedman's test: p = " in drawn.caption
        assert ("Holm" if test == "wilcoxon" else "Nemenyi") in drawn.caption


@pytest.mark.parametrize("test", ["nemenyi", "wilcoxon"])
def test_a_difference_below_rounding_is_a_tie(tmp_path, test):
    """se has as many hits as the baseline on each data set, but a mean higher in the last bit."""
    places = (-21, -14, -12, -5, -3, 4, 6, 13, 15)

    def hits(cell, place):
        own = {"none": [330, 331, 332], "se": [331] * 3, "ema": [334, 336, 341]}[cell.variant]
        return 100 * (own[cell.seed] + place) / 360

    means = [
        [fmean(100 * (one + place) / 360 for one in own) for place in places]
        for own in ([330, 331, 332], [331] * 3)
    ]
    assert all(a < b for a, b in zip(*means, strict=True))
    drawn = one_ablation(tmp_path, places, hits, test=test)
    assert {"ema (1.00)", "none (2.50)", "se (2.50)"} <= set(words_in(drawn.drawing))
    assert "cannot tell apart" in drawn.caption


def test_the_data_sets_are_those_of_the_tables_factor(tmp_path):
    """Each value of the axis has its own recipe, which is not part of a method's name."""
    drawn = one_ablation(tmp_path, range(8), lambda cell, place: 80 + len(cell.variant), names={"D1": "One"})
    assert {"none (1.00)", "ema (2.00)", "se (3.00)"} <= set(words_in(drawn.drawing))
    assert "on 8 data sets" in drawn.caption
    short = one_ablation(
        tmp_path,
        range(8),
        lambda cell, place: None if (cell.variant, place) == ("se", 1) else 80 + len(cell.variant),
        names={"D1": "One"},
        folder="short",
    )
    assert "Left out, since a method has no run there: One (no run of se)." in short.caption


def one_ablation(path, places, hits, *, folder="one", names=None, **figure):
    """Draw the ranks over the values of an axis that sets the data and the recipe."""
    axis = ", ".join(
        f"D{i}: {{data.train_images: {40 + i}, recipe.epochs: {i + 1}}}" for i in range(len(places))
    )
    text = f"{THREE}axes: {{benchmark: {{{axis}}}}}\n"
    (tmp := path / folder).mkdir()
    store = fill(tmp, "many", text, lambda cell: hits(cell, places[cell.spec.recipe.epochs - 1]))
    figures = [{"kind": "critical_difference", "name": "ranks", **figure}]
    keys = {"kind": "datasets", "ablation": "many", "factors": ["benchmark"], "names": names or {}}
    return report_figures(report_spec(tmp, figures=figures, **keys), store)[0]


def test_a_caption_names_the_first_few_of_many_that_are_not_there(tmp_path):
    drawn = ranks(tmp_path, holes={(f"d{place}", name) for place in range(10) for name in METHODS})
    assert drawn.drawing is None
    assert "D4 (no run of none, se, eca, cbam, ema) and 5 more." in drawn.caption
    assert len(drawn.caption) < 700


def test_too_few_data_sets_are_a_sentence_that_names_those_without_runs(tmp_path):
    drawn = ranks(tmp_path, holes={(f"d{place}", "se") for place in range(9)})
    assert drawn.drawing is None
    assert "needs 3 data sets that all of them have, got 2: D0 (no run of se), " in (drawn.caption)
    assert ranks(tmp_path, count=4).drawing is not None


def test_methods_that_are_not_shown_are_ranked_and_tested_too(tmp_path):
    some = ["se", "eca", "ema"]
    for keys in ({"rows": some}, {"only": {"variant": some}}, {"figure": {"rows": some}}):
        drawn = ranks(tmp_path, count=4, holes={("d1", "none")}, **keys)
        assert {"ema (1.00)", "eca (3.50)", "se (3.50)"} <= set(words_in(drawn.drawing))  # cbam is second
        assert "CD = 2.35" in words_in(drawn.drawing)  # that of four methods: "none" lacks a data set
        assert "Ranks and tests are among 4 methods, of which 3 are shown." in drawn.caption


def test_no_name_is_clipped_and_none_overlaps_another(tmp_path):
    names = {
        "ema": "EMA (groups=32, after block)",
        "none": "ResNet-20, no attention",
        "se": "SE, reduction 16",
    }
    drawing = ranks(tmp_path, names=names).drawing
    assert overlap(drawing) == []
    for text in drawing.axes[0].texts:
        box, page = text.get_window_extent(), drawing.bbox
        assert page.x0 <= box.x0
        assert box.x1 <= page.x1
        assert page.y0 <= box.y0
        assert box.y1 <= page.y1


def test_other_kinds_of_figure_do_not_mix_ablations(tmp_path):
    with pytest.raises(SpecError, match="the kind forest shows one ablation, and this report has 2"):
        ranks(tmp_path, count=2, figure={"kind": "forest"})


def test_the_page_has_the_looks_of_the_figures_and_never_joins_rows_of_two_data_sets(tmp_path):
    for name in ("a", "b"):
        images = "{name: synthetic}", f"{{name: synthetic, train_images: {ord(name)}}}"
        store = fill(tmp_path, name, BASE.replace(*images) + VARIANTS, lambda cell: 80.0)
    one = report_data(report_spec(tmp_path, ablation="a", names={"se": "SE"}), (), store)
    looks = looks_of({name: name for name in METHODS})
    assert [(row["row"], row["colour"]) for row in one["rows"]] == [
        (name, looks[name].colour) for name in METHODS
    ]
    assert one["rows"][1]["label"] == "SE"
    two = report_data(report_spec(tmp_path, kind="datasets", ablations={"A": "a", "B": "b"}), (), store)
    rows = [row["row"] for row in two["rows"]]
    assert rows == [f"{name}: {method}" for name in ("a", "b") for method in METHODS]
    assert sorted(row for run in two["runs"].values() for row in run["variants"]) == sorted(rows)
    assert len({(row["colour"], row["marker"]) for row in two["rows"]}) == len(rows)
