"""A report's figures from the command line: names in any script, and what is lacking, in words of ours."""

import json
from pathlib import Path

import pytest

from ema_lab.reports.figures import style

FIGURES = [
    {"kind": "tradeoff", "name": "pareto"},
    {"kind": "forest", "name": "forest"},
    {"kind": "critical_difference", "name": "ranks"},
]


def write_report(**keys):
    report = {"name": "tiny", "ablation": "tiny", "figures": FIGURES[:2], **keys}
    Path("reports/tiny.yaml").write_text(json.dumps(report))


@pytest.mark.slow
def test_characters_that_no_font_has_are_named_in_one_line(command, trained, monkeypatch):
    monkeypatch.setattr(style, "font_families", lambda: (style.FONT,))
    trained()
    write_report(names={"se": "注意力 SE", "none": "无"}, title="表")
    answer = command("report", "tiny", "--out", "out")
    assert answer.code == 0
    [line] = answer.err.splitlines()
    assert "no font here has the characters '无注意力'" in line
    assert Path("out/figures/pareto.png").exists()


def test_other_fonts_that_are_installed_are_asked_for_characters(monkeypatch):
    monkeypatch.setattr(style, "FALLBACKS", ("STIXGeneral", "Not Installed Anywhere"))
    style.font_families.cache_clear()
    assert style.font_families() == (style.FONT, "STIXGeneral")
    style.font_families.cache_clear()


@pytest.mark.usefixtures("unpainted")
def test_a_figure_that_lacks_data_sets_keeps_no_other_and_no_table_from_being_written(command, trained):
    trained()
    write_report(figures=FIGURES)
    answer = command("report", "tiny", "--out", "out")
    assert answer.code == 0
    assert "figure ranks: " in answer.err
    assert "needs 3 methods or more, got 2." in Path("out/figures/ranks.txt").read_text()
    assert not Path("out/figures/ranks.png").exists()
    assert Path("out/figures/forest.png").exists()
    assert Path("out/table.tex").exists()
