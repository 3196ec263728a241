"""Diverged runs: named below every table, and counted as guessing by intention to treat."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import BASE, OUTCOME, report, report_spec

from ema_lab.ablation.ablation import load_ablation
from ema_lab.execution.executor import execute
from ema_lab.measured.selection import select_rows
from ema_lab.reports.report import build_report
from ema_lab.specs.chance import chance_level
from ema_lab.specs.dataset import DatasetFacts
from ema_lab.store.attempts import forgive
from ema_lab.store.store import RunStore
from ema_lab.tables.render import flat_records, render_csv, table_data

STUDY = """\
seeds: [0, 1, 2, 3]
baseline: none
variants: {none: {model.attention: none}, se: {model.attention: se}, ema: {model.attention: ema}}
"""
SCORES = {
    "none": [90.0, 91.0, 92.0, 93.0],
    "se": [95.0, 96.0, "nan", "nan"],
    "ema": ["nan", None, "full", 94.0],
}


class DivergedError(RuntimeError):
    """Stands for training's exception: failures are told apart by the name of their class."""


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(f"name: s\n{BASE}{STUDY}")
    score = {cell.run_id: SCORES[cell.variant][cell.seed] for cell in load_ablation(path).cells}

    def train(spec, job):
        if score[spec.run_id] == "nan":
            raise DivergedError("the training loss is nan in epoch 1")
        if score[spec.run_id] == "full":
            raise OSError(28, "No space left on device")
        return replace(OUTCOME, metrics={"top1": score[spec.run_id], "loss": 0.25})

    runs = [spec for spec in load_ablation(path).runs() if score[spec.run_id] is not None]
    execute(runs, train=train, store=RunStore(tmp_path / "runs"))
    return RunStore(tmp_path / "runs")


def test_a_diverged_run_counts_as_guessing_and_a_full_disk_does_not(tmp_path, store):
    [table] = report(tmp_path, store, ablation="s", columns=["top1", "intention"]).tables
    none, se, ema = (row.cells for row in table.rows)
    assert (none[1].plain_text, none[1].value) == ("91.50 ± 1.29 (4 of 4 finished)", none[0].value)
    values = [95.0, 96.0, 10.0, 10.0]
    assert se[1].plain_text == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} (2 of 4 finished)"
    assert se[0].plain_text == "95.50 ± 0.71 (n=2 of 4)"  # the survivors
    assert ema[1].plain_text == "52.00 ± 59.40 (1 of 2 finished, n=2 of 4)"
    assert (ema[1].diverged, ema[1].n, len(ema[1].run_ids), len(ema[1].missing_run_ids)) == (1, 2, 2, 2)


def test_captions_name_the_rows_of_survivors(tmp_path, store):
    [table] = report(tmp_path, store, ablation="s", columns=["top1"]).tables
    words = "Diverged, so in no mean but that of the survivors: se 2 of 4, ema 1 of 4"
    assert f"{words}; the column `intention` counts them as guessing." in table.notes
    [table] = report(tmp_path, store, ablation="s", columns=["top1", "intention"]).tables
    assert f"{words}." in table.notes
    assert any(
        "(intention to treat); a diverged run counts as guessing, 10.00." in note for note in table.notes
    )
    grid = report(
        tmp_path, store, ablation="s", kind="grid", factors=["model.attention.name", "model.backbone"]
    ).tables[0]
    assert any(note.startswith("Diverged, so in no mean") for note in grid.notes)


def test_without_diverged_runs_nothing_is_said(tmp_path, store):
    [table] = report(tmp_path, store, ablation="s", columns=["top1"], only={"variant": "none"}).tables
    assert "iverged" not in " ".join(table.notes)


def test_data_have_the_share_that_finished(tmp_path, store):
    [table] = report(tmp_path, store, ablation="s", columns=["intention"]).tables
    flat = flat_records(table)[1]
    assert (flat["intention"], flat["intention_n"], flat["intention_diverged"]) == (52.75, 4, 2)
    assert "intention_std" in render_csv([flat])
    cell = table_data(table)["rows"][1]["cells"][0]
    assert (cell["diverged"], cell["values"]) == (2, [95.0, 96.0, 10.0, 10.0])


def test_a_forgiven_failure_is_not_diverged_any_more(tmp_path, store):
    ablation = load_ablation(tmp_path / "s.yaml")
    [item] = [item for row in select_rows(ablation, store) for item in row.cells if item.diverged][:1]
    assert forgive(store, item.cell.run_id)
    rows = {row.name: row for row in select_rows(ablation, store)}
    assert sum(item.diverged for item in rows["se"].cells) == 1


@pytest.mark.parametrize(
    ("metric", "task", "level"),
    [
        ("top1", "classification", 10.0),
        ("top5", "classification", 50.0),
        ("loss", "classification", np.log(10)),
        ("map", "detection", 0.0),
        ("mae", "mine:TASK", None),
    ],
)
def test_the_value_of_guessing(metric, task, level):
    facts = DatasetFacts(10, 3, 8, 100, 100, (0.5,), (0.5,), task)
    assert chance_level(metric, facts) == (None if level is None else pytest.approx(level))


def test_survivors_alone_would_hide_a_row_that_fails_half_of_the_time(tmp_path, store):
    """The survivors of `se` beat `none` by four points; with its failures it loses by forty."""
    [table] = build_report(report_spec(tmp_path, ablation="s", columns=["top1", "intention"]), store).tables
    none, se, _ = (row.cells for row in table.rows)
    assert se[0].value > none[0].value + 3
    assert se[1].value < none[1].value - 30
