"""Figures of stored predictions: their numbers, what is drawn of them, captions, and what is refused."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import SpecError
from ema_lab.measured.selection import select_rows
from ema_lab.reports.figures.assemble import report_figures
from ema_lab.reports.figures.draw_predictions import draw_confusion, draw_dots
from ema_lab.reports.figures.fit import fitted, width_of
from ema_lab.reports.figures.predictions import BACKGROUND, Confusion, Dots
from ema_lab.reports.figures.style import look, styled
from ema_lab.specs.report import ReportSpec
from ema_lab.specs.task import task_description
from ema_lab.statistics import paired_difference

COUNTS = np.array([[6, 1, 3], [0, 8, 2], [4, 0, 0]])


@pytest.fixture
def draw(predicted):
    def build(*figures, **keys):
        named = [{"name": f"f{number}", **figure} for number, figure in enumerate(figures)]
        path = str(predicted.folder / "ablations/predicted.yaml")
        tree = {"name": "r", "ablation": path, "figures": named, **keys}
        return report_figures(ReportSpec.model_validate(tree), predicted.store)

    return build


def of(task, predicted):
    return predicted.task == task


def lines_with(axes, count):
    return [line for line in axes.lines if len(line.get_xdata()) == count]


def test_every_row_has_a_precision_curve_with_band_and_its_area(draw, predicted):
    rule = {"kind": "precision_recall", "iou": 0.75, "band": "range"}
    if of("classification", predicted):
        with pytest.raises(SpecError, match="needs predictions that the task classification does not have"):
            draw(rule)
        return
    [figure] = draw(rule)
    [axes] = figure.drawing.axes
    curves = lines_with(axes, 101)
    assert len(curves) == len(axes.collections) == 3
    rows = select_rows(load_ablation(predicted.folder / "ablations/predicted.yaml"), predicted.store)
    for row, curve in zip(rows, curves, strict=True):
        area = np.mean(row.values("map75"))
        assert np.mean(curve.get_ydata()) == pytest.approx(area, abs=1e-3)
        assert curve.get_label() == f"{row.name} ({area:.1f})"
        assert (np.diff(curve.get_ydata()) <= 1e-9).all()
    assert "0.75" in axes.get_xlabel()
    for words in ("coco protocol", "IoU of 0.75", "n=3 seeds", "AP75 in percent", "from least to most"):
        assert words in figure.caption


def test_of_many_rows_the_first_are_shown_by_class_and_that_is_said(draw, predicted, monkeypatch):
    monkeypatch.setattr("ema_lab.reports.figures.drawer.MOST_CURVES", 2)
    first, named = draw({"kind": "classes"}, {"kind": "classes", "rows": ["none", "se", "ema"]})
    assert len(first.drawing.legends[0].get_texts()) == 2
    assert "The first 2 of 3 rows; the figure's `rows` chooses others." in first.caption
    assert len(named.drawing.legends[0].get_texts()) == 3
    assert "The first" not in named.caption


def test_one_class_alone_has_its_own_curve(draw, predicted):
    if of("classification", predicted):
        with pytest.raises(SpecError, match="needs predictions"):
            draw({"kind": "precision_recall", "classes": ["2"]})
        return
    every, one = draw({"kind": "precision_recall"}, {"kind": "precision_recall", "classes": ["2"]})
    mine, all_classes = (lines_with(figure.drawing.axes[0], 101)[0].get_ydata() for figure in (one, every))
    assert not np.allclose(mine, all_classes)
    assert "the classes 2" in one.caption
    with pytest.raises(SpecError, match="no class is named '7'"):
        draw({"kind": "precision_recall", "classes": ["7"]})


def test_a_confusion_sums_the_seeds_of_its_row(draw, predicted):
    [figure] = draw({"kind": "confusion", "row": "ema"})
    axes = figure.drawing.axes[0]
    shares = np.ma.filled(axes.images[0].get_array(), np.nan)
    size = 6 if of("classification", predicted) else 4
    assert shares.shape == (size, size)
    assert np.nansum(shares, axis=1) == pytest.approx([100] * size)
    assert "ema, summed over n=3 seeds." in figure.caption
    if of("detection", predicted):
        assert math.isnan(shares[-1, -1])
        assert axes.get_xticklabels()[-1].get_text() == "missed"
        assert axes.get_yticklabels()[-1].get_text().startswith("false alarms (")
        assert "score of 0.25 or more" in figure.caption
        assert "IoU of at least 0.5" in figure.caption
    else:
        rows = select_rows(load_ablation(predicted.folder / "ablations/predicted.yaml"), predicted.store)
        assert shares.diagonal().mean() == pytest.approx(np.mean(rows[2].values("top1")), abs=1e-3)
    with pytest.raises(SpecError, match="no row is named 'nobody'"):
        draw({"kind": "confusion", "row": "nobody"})


def test_thresholds_belong_to_detections(draw, predicted):
    rule = {"kind": "confusion", "score": 0.6, "iou": 0.3}
    if of("classification", predicted):
        with pytest.raises(SpecError, match="changes nothing for the task classification"):
            draw(rule)
        return
    strict, usual = draw(rule, {"kind": "confusion"})
    alarms = [figure.drawing.axes[0].get_yticklabels()[-1].get_text() for figure in (strict, usual)]
    assert alarms[0] != alarms[1]
    assert "score of 0.6 or more" in strict.caption


def test_points_by_class_are_the_table_s_means(draw, predicted):
    metric = {"classification": "top1", "detection": "map50"}[predicted.task]
    [figure] = draw({"kind": "classes", "metric": metric, "classes": ["2", "0"]})
    axes = figure.drawing.axes[0]
    assert [label.get_text().split()[0] for label in axes.get_yticklabels()] == ["2", "0"]
    assert len(axes.containers) == 2 * 3
    assert axes.get_xlabel() == task_description(predicted.task).metrics[metric].header
    assert "by class, with the number of its" in figure.caption
    assert "95 % t interval over n=3 seeds" in figure.caption


def test_sizes_without_boxes_are_named(draw, predicted):
    if of("classification", predicted):
        with pytest.raises(SpecError, match="needs the metrics map_small"):
            draw({"kind": "sizes"})
        return
    [figure] = draw({"kind": "sizes"})
    assert len(figure.drawing.axes[0].containers) == 3  # all squares are small
    assert "Without any box: medium" in figure.caption


def test_before_any_run_nothing_is_drawn_and_that_is_said(draw, predicted):
    for run_id in predicted.store.run_ids():
        (predicted.store.folder(run_id) / "record.json").unlink()
    figures = [{"kind": "confusion"}, {"kind": "classes"}]
    figures += [{"kind": "precision_recall"}, {"kind": "sizes"}] if of("detection", predicted) else []
    for figure in draw(*figures):
        assert figure.drawing is None
        assert "Not drawn: no run" in figure.caption


def test_a_matrix_of_many_classes_has_colours_alone():
    names = tuple(f"class {number}" for number in range(20))
    many = Confusion("none", names, tuple(map(tuple, np.eye(20, dtype=int).tolist())), 1)
    few = Confusion("none", ("a", "b", BACKGROUND), tuple(map(tuple, COUNTS.tolist())), 2)
    assert not draw_confusion(many, names).axes[0].texts
    written = [text.get_text() for text in draw_confusion(few, few.names).axes[0].texts]
    assert written == ["60", "10", "30", "80", "20", "100"]


def test_a_label_breaks_at_joints_but_not_inside_a_number():
    with styled():
        number, names = "false alarms (1,298)", "ema, groups=8,16,32"
        assert fitted(number, width_of("false alarms (1,") + 1) == "false alarms\n(1,298)"
        assert fitted(names, width_of("ema, groups=8,16,") + 1) == "ema, groups=8,16,\n32"


def test_a_point_of_one_seed_is_hollow():
    value = paired_difference([3.0])
    drawing = draw_dots(Dots(("a",), ({"none": value},)), {"none": look(0)}, {"none": "None"}, "Top-1 (%)")
    [point] = [bar[0] for bar in drawing.axes[0].containers]
    assert point.get_markerfacecolor() == "white"


@pytest.mark.parametrize("iou", [0.3, 0.51, 1.0])
def test_a_curve_is_at_one_of_coco_s_thresholds(iou):
    figure = {"kind": "precision_recall", "name": "f", "iou": iou}
    with pytest.raises(ValidationError, match=r"must be one of 0.5, 0.55, ..., 0.95"):
        ReportSpec.model_validate({"name": "r", "ablation": "a", "figures": [figure]})
