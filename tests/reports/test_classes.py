"""Tables by class from stored predictions, for both tasks."""

import json
from dataclasses import replace

import numpy as np
import pytest
from predicted import METRIC

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import SpecError
from ema_lab.measured.analysis import Analyses
from ema_lab.measured.selection import select_rows
from ema_lab.reports.report import build_report
from ema_lab.specs.report import ReportSpec
from ema_lab.specs.task import task_description
from ema_lab.store.layout import ANALYSIS, PREDICTIONS
from ema_lab.store.predictions import read_predictions, write_predictions
from ema_lab.tables.cell import Flag
from ema_lab.tables.render import flat_records, render_markdown, render_text

CLASSES = {"classification": 6, "detection": 3}


@pytest.fixture
def report_of(predicted):
    def build(**keys):
        tree = {
            "name": "r",
            "kind": "classes",
            "ablation": str(predicted.folder / "ablations/predicted.yaml"),
        }
        return build_report(ReportSpec.model_validate({**tree, **keys}), predicted.store)

    return build


def values(table):
    return {row.key: [cell.value for cell in row.cells] for row in table.rows}


def test_every_class_has_mean_spread_n_and_its_runs(report_of, predicted):
    [table] = report_of(metric=METRIC[predicted.task]).tables
    metric = task_description(predicted.task).metrics[METRIC[predicted.task]]
    assert table.title.endswith(f"predicted: {metric.header} by class")
    assert len(table.columns) == CLASSES[predicted.task]
    assert [row.key for row in table.rows] == ["none", "se", "ema"]
    rows = {
        row.name: row
        for row in select_rows(load_ablation(predicted.folder / "ablations/predicted.yaml"), predicted.store)
    }
    for row in table.rows:
        assert {cell.n for cell in row.cells} == {3}
        assert {cell.spread_kind for cell in row.cells} == {"std"}
        assert all(list(cell.run_ids) == rows[row.key].run_ids for cell in row.cells)
    flat = flat_records(table)[0]
    assert flat["n"] == 3
    assert len(flat["run_ids"].split()) == 3


def test_the_mean_over_classes_is_the_metric_of_the_records(report_of, predicted):
    """Boxes have no weight in COCO's mean over classes; a class's accuracy counts as often as its images."""
    [table] = report_of(metric=METRIC[predicted.task]).tables
    rows = select_rows(load_ablation(predicted.folder / "ablations/predicted.yaml"), predicted.store)
    counts = [int(column.label.rpartition("(")[2][:-1]) for column in table.columns]
    weights = counts if predicted.task == "classification" else [1] * len(counts)
    for row, shown in zip(rows, table.rows, strict=True):
        mean = np.average([cell.value for cell in shown.cells], weights=weights)
        assert mean == pytest.approx(np.mean(row.values(METRIC[predicted.task])), abs=1e-4)


def test_rows_may_stand_across(report_of, predicted):
    metric = METRIC[predicted.task]
    [table], [other] = (report_of(metric=metric, across=way).tables for way in ("classes", "rows"))
    assert [column.label for column in other.columns] == ["none", "se", "ema"]
    assert [row.name for row in other.rows] == [column.label for column in table.columns]
    assert np.array(list(values(other).values())).T.tolist() == list(values(table).values())
    assert "each column by itself" not in " ".join(other.notes)
    assert other.row_label in render_markdown(other).splitlines()[2]


def test_differences_are_paired_with_the_baseline(report_of, predicted):
    metric = METRIC[predicted.task]
    [table], [deltas] = (report_of(metric=metric, cells=cells).tables for cells in ("value", "delta"))
    means = values(table)
    for row in deltas.rows[1:]:
        expected = np.subtract(means[row.key], means["none"])
        assert [cell.value for cell in row.cells] == pytest.approx(expected.tolist())
        assert all(len(cell.baseline_run_ids) == 3 for cell in row.cells)
    assert {cell.text for cell in deltas.rows[0].cells} == {"baseline"}
    assert f"Δ {task_description(predicted.task).metrics[metric].label} vs none" in deltas.title


def test_analyses_are_kept_and_used_without_predictions(report_of, predicted):
    metric = METRIC[predicted.task]
    before = render_text(report_of(metric=metric).tables[0])
    for run_id in predicted.store.run_ids():
        folder = predicted.store.folder(run_id)
        assert json.loads((folder / ANALYSIS).read_text())["run_id"] == run_id
        (folder / PREDICTIONS).unlink()
    assert render_text(report_of(metric=metric).tables[0]) == before


def test_a_run_whose_predictions_are_not_its_own_is_left_out_and_that_is_said(report_of, predicted, caplog):
    first = predicted.store.run_ids()[0]
    folder = predicted.store.folder(first)
    arrays = {key: value for key, value in read_predictions(folder).items() if value.dtype.kind in "biuf"}
    write_predictions(folder, {**arrays, "indices": arrays["indices"] + 1}, "test", first)
    [table] = report_of(metric=METRIC[predicted.task]).tables
    assert sum(first in row.cells[0].run_ids for row in table.rows) == 0
    assert f"run {first} is left out: its predictions are not those of its record" in caplog.text
    assert any(Flag.MISSING in row.cells[0].flags for row in table.rows)


def test_analyses_of_other_code_are_computed_again(report_of, predicted):
    report_of(metric=METRIC[predicted.task])
    path = predicted.store.folder(predicted.store.run_ids()[0]) / ANALYSIS
    content = json.loads(path.read_text())
    wrong = {key: {**entry, "count": [0] * 9} for key, entry in content["entries"].items()}
    path.write_text(json.dumps({**content, "code": "other", "entries": wrong}))
    report_of(metric=METRIC[predicted.task])
    assert json.loads(path.read_text()) == content


def test_classes_have_the_names_that_the_report_gives(report_of, predicted):
    [table] = report_of(metric=METRIC[predicted.task], names={"0": "zero", "ema": "EMA"}).tables
    assert table.columns[0].label.startswith("zero (")
    assert table.rows[2].name == "EMA"
    with pytest.raises(SpecError, match="no row is named 'nought'"):
        report_of(names={"nought": "zero"})


def test_a_task_without_analyses_has_no_classes(predicted):
    task = replace(task_description(predicted.task), analysis=None)
    with pytest.raises(SpecError, match="has no results by class"):
        ReportSpec.model_validate({"name": "r", "kind": "classes", "ablation": "a"}).for_task(task)


def test_every_metric_of_a_task_has_a_value_by_class(predicted):
    task = task_description(predicted.task)
    analyses = Analyses(predicted.store, task)
    spec = predicted.store.spec(predicted.store.run_ids()[0])
    record = predicted.store.record(spec.run_id)
    for name, metric in task.metrics.items():
        found = analyses.of(spec, record, "classes", {"protocol": metric.protocol})
        assert len(found[name]) == CLASSES[predicted.task]
