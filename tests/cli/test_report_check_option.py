"""report --check: what it prints, and its exit code; `tests/reports` holds which changes it finds."""

import json
from pathlib import Path

import pytest
from tiny import TINY_REPORT


def test_an_untouched_folder_passes(command, trained, tree):
    trained()
    command("report", "tiny", "--out", "out")
    before = tree()
    answer = command("report", "tiny", "--out", "out", "--check")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == "tiny: no differences in 6 files of out\n"
    assert tree() == before


def test_an_edited_cell_is_named_with_its_row_column_file_and_both_values(command, trained):
    trained()
    command("report", "tiny", "--out", "out")
    path = Path("out/table.md")
    path.write_text(path.read_text().replace("92.50 ±", "93.50 ±"))
    answer = command("report", "tiny", "--out", "out", "--check")
    assert answer.code == 1
    assert answer.out == (
        "out/table.md: row 'se', column 'Top-1 (%)': '93.50 ± 0.71 (n=2)' is written, "
        "the records give '92.50 ± 0.71 (n=2)'\n"
    )
    assert "tiny: 1 difference in 6 files of out" in answer.err


def test_check_needs_the_folder(command, trained, tree):
    before = tree()
    for words in (["--check"], ["--check", "--out", "nowhere"]):
        answer = command("report", "tiny", *words)
        assert answer.code == 2
        assert "--check compares the files of a folder" in answer.err
    assert tree() == before


FIGURE = "figures: [{kind: forest, name: differences}]\n"


@pytest.fixture
def written(command, trained, unpainted) -> list[str]:
    """Write the report with a figure into `out`; return the run ids."""
    Path("reports/tiny.yaml").write_text(TINY_REPORT + FIGURE)
    run_ids = trained()
    command("report", "tiny", "--out", "out")
    return run_ids


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new, 1))


def check(command, *options):
    return command("report", "tiny", "--out", "out", "--check", *options)


def test_json_has_an_object_for_each_difference(command, written):
    edit("out/table.md", "92.50 ±", "93.50 ±")
    edit("out/report.json", '"value": 92.5', '"value": 93.5')
    edit("out/index.html", '"top1":92.0', '"top1":95.0')
    Path("out/table.csv").unlink()
    answer = check(command, "--json")
    cell = {"row": "se", "column": "Top-1 (%)"}
    assert (answer.code, json.loads(answer.out)) == (
        1,
        [
            {"file": "out/table.md", **cell}
            | {"written": "93.50 ± 0.71 (n=2)", "built": "92.50 ± 0.71 (n=2)"},
            {"file": "out/table.csv", "row": None, "column": None, "written": None, "built": None},
            {"file": "out/report.json", **cell, "written": 93.5, "built": 92.5},
            {"file": "out/index.html", "row": written[2], "column": "metrics.top1"}
            | {"written": 95.0, "built": 92.0},
        ],
    )
    command("report", "tiny", "--out", "out")
    assert json.loads(check(command, "--json").out) == []


def test_the_tables_alone_can_be_checked(command, written):
    Path("out/index.html").unlink()
    answer = check(command, "--tables")
    assert (answer.code, answer.err) == (0, "tiny: no differences in 5 files of out\n")
    answer = command("report", "tiny", "--out", "out", "--tables")
    assert (answer.code, answer.err) == (2, "ema-lab: --tables changes nothing without --check\n")
