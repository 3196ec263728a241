"""report --check: every number is built again, and each edited cell is named; exit code 1."""

import json
from pathlib import Path

from tiny import fake_outcome

from ema_lab.experiments.store import RunStore


def test_an_untouched_folder_passes(command, trained, tree):
    trained()
    command("report", "tiny", "--out", "out")
    before = tree()
    answer = command("report", "tiny", "--out", "out", "--check")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == "tiny: no differences in 5 files of out\n"
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
    assert "tiny: 1 difference in 5 files of out" in answer.err


def test_an_edited_record_is_found_in_every_file(command, trained):
    run_ids = trained()
    command("report", "tiny", "--out", "out")
    path = RunStore("runs").folder(run_ids[-1]) / "record.json"
    record = json.loads(path.read_text())
    record["metrics"]["top1"] += 0.5
    path.write_text(json.dumps(record))
    answer = command("report", "tiny", "--out", "out", "--check")
    assert answer.code == 1
    for name in ("table.md", "table.tex", "table.csv", "table.html", "report.json"):
        assert f"out/{name}: row 'se', column" in answer.out


def test_a_run_that_has_come_since_is_a_difference(command, trained):
    trained(keep=lambda spec: spec.seed == 0)
    command("report", "tiny", "--out", "out")
    trained(train=lambda spec, job: fake_outcome(spec))
    assert command("report", "tiny", "--out", "out", "--check").code == 1


def test_a_missing_file_is_named(command, trained):
    trained()
    command("report", "tiny", "--out", "out")
    Path("out/table.tex").unlink()
    answer = command("report", "tiny", "--out", "out", "--check")
    assert answer.code == 1
    assert answer.out == "out/table.tex: cannot be read: No such file or directory\n"


def test_check_needs_the_folder(command, trained, tree):
    before = tree()
    for words in (["--check"], ["--check", "--out", "nowhere"]):
        answer = command("report", "tiny", *words)
        assert answer.code == 2
        assert "--check compares the files of a folder" in answer.err
    assert tree() == before
