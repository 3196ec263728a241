"""Check of a written table: every edited number is named with its file, row and column."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import fill, report

from ema_lab.reports.check.compare import differences
from ema_lab.reports.files import report_files

STUDY = """\
seeds: [0, 1, 2]
baseline: none
variants:
  none: {model.attention: none}
  se: {model.attention: {name: se, reduction: 4}}
  "a|b & c_d": {model.attention: ca}
axes: {recipe.epochs: [1, 2]}
"""
SCORES = {"none": 90.0, "se": 91.5, "a|b & c_d": 92.25}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    store = fill(folder, "s", STUDY, lambda cell: SCORES[cell.variant] + cell.seed**2 * 0.37)
    notes = {"se [epochs=1]": "A footnote."}
    return report_files(report(folder, store, ablation="s", group="recipe.epochs", footnotes=notes))


def found(folder, name, text, built):
    (folder / name).write_text(text, encoding="utf-8")
    return list(map(str, differences(folder / name, built[name])))


def test_what_was_written_is_what_the_records_give(tmp_path, built):
    for name, text in built.items():
        assert found(tmp_path, name, text, built) == []


@pytest.mark.parametrize("name", ["table.md", "table.tex", "table.csv", "table.html", "report.json"])
def test_one_changed_number_names_its_cell(tmp_path, built, name):
    old = "92.11666666666667" if name in {"table.csv", "report.json"} else "92.12"
    assert built[name].count(old) >= 1
    edited = built[name].replace(old, old.replace("92.1", "93.1"), 1)
    [line] = found(tmp_path, name, edited, built)
    assert str(tmp_path / name) in line
    assert "se" in line
    assert "Top-1" in line or "'top1'" in line
    assert old in line
    assert old.replace("92.1", "93.1") in line


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("table.csv", "92.11666666666667", "92.1168"),
        ("report.json", "92.11666666666667", "92.1168"),
        ("table.md", "92.12", "92.13"),
        ("table.tex", "92.12", "92.13"),
    ],
)
def test_a_small_edit_names_its_cell_too(tmp_path, built, name, old, new):
    [line] = found(tmp_path, name, built[name].replace(old, new, 1), built)
    assert "se" in line
    assert (old in line, new in line) == (True, True)


NUMBERS = re.compile(r"(?<![\w.])\d+\.\d+")


@given(st.data())
def test_any_changed_digit_is_found(tmp_path_factory, built, data):
    name = data.draw(st.sampled_from(sorted(built)))
    numbers = list(NUMBERS.finditer(built[name]))
    where = data.draw(st.sampled_from(numbers))
    start, end = where.span()
    digit = data.draw(st.integers(start, min(end, start + 6) - 1).filter(lambda i: built[name][i].isdigit()))
    changed = "1" if built[name][digit] != "1" else "7"
    text = built[name][:digit] + changed + built[name][digit + 1 :]
    assert found(tmp_path_factory.mktemp("edit"), name, text, built)


def test_numbers_may_differ_in_their_last_bit(tmp_path, built):
    text = built["table.csv"].replace("92.11666666666667", "92.11666666666666")
    assert text != built["table.csv"]
    assert found(tmp_path, "table.csv", text, built) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("table.md", "| se", "|  se", "only in its formatting"),
        ("table.html", ' data-value="12345"', "", "column 'Parameters'"),
        ("table.html", '<td data-value="12345"', '<td class="best" data-value="12345"', "class=best"),
        ("table.html", "<tbody>", '<tbody id="x">', "outside of the cells"),
        ("table.html", "<thead><tr>", "<thead>", "outside of the cells"),
        ("table.tex", r"\midrule", r"\hline", "hlin"),
    ],
)
def test_any_other_change_is_named_too(tmp_path, built, name, old, new, words):
    assert old in built[name]
    lines = found(tmp_path, name, built[name].replace(old, new, 1), built)
    assert len(lines) == 1
    assert words in lines[0]


def test_a_row_that_is_left_out_or_added_is_found(tmp_path, built):
    lines = built["table.md"].splitlines(keepends=True)
    row = next(number for number, line in enumerate(lines) if "| se" in line)
    without = "".join(lines[:row] + lines[row + 1 :])
    assert any("'(nothing)'" in line for line in found(tmp_path, "table.md", without, built))
    twice = "".join([*lines[: row + 1], lines[row], *lines[row + 1 :]])
    assert found(tmp_path, "table.md", twice, built)


@pytest.mark.parametrize("name", ["table.md", "table.tex", "table.html", "report.json"])
def test_an_edited_caption_is_found(tmp_path, built, name):
    text = built[name].replace("sample standard deviation", "standard error")
    lines = found(tmp_path, name, text, built)
    assert lines
    assert any("standard error" in line for line in lines)


def test_an_edited_run_id_is_found(tmp_path, built):
    value = json.loads(built["report.json"])
    cell = value["tables"][0]["rows"][1]["cells"][0]
    cell["run_ids"][0] = "0" * 16
    [line] = found(tmp_path, "report.json", json.dumps(value), built)
    assert "column 'Top-1 (%)', run_ids.0: '0000000000000000' is written" in line


def test_a_file_that_is_not_there_or_cannot_be_read_is_named(tmp_path, built):
    [line] = map(str, differences(tmp_path / "table.md", built["table.md"]))
    assert line == f"{tmp_path / 'table.md'}: cannot be read: No such file or directory"
    (tmp_path / "table.md").write_bytes(b"\xff\xfe\xfa")
    [line] = map(str, differences(tmp_path / "table.md", built["table.md"]))
    assert "not UTF-8" in line
    assert "is not JSON" in found(tmp_path, "report.json", "{", built)[0]
    for name in ("table.md", "table.tex", "table.csv", "table.html"):
        assert found(tmp_path, name, "", built)


@pytest.mark.parametrize("name", ["table.md", "table.html"])
def test_a_note_that_was_added_or_left_out_is_named_alone(tmp_path, built, name):
    ends = {"table.md": "  \n", "table.html": "\n"}[name]
    first = next(line for line in built[name].splitlines(keepends=True) if "Mean ± sample" in line)
    for text in (built[name].replace(first, f"A new note.{ends}{first}"), built[name].replace(first, "")):
        [line] = found(tmp_path, name, text, built)
        assert "outside of the cells" in line
        assert "(nothing)" in line


@pytest.mark.parametrize("name", ["table.md", "table.tex", "table.csv", "table.html"])
def test_of_a_row_that_was_left_out_no_other_row_is_named(tmp_path, built, name):
    lines = built[name].splitlines(keepends=True)
    number = [
        place for place, line in enumerate(lines) if ("se" in line and "92.12" in line) or ",92.1" in line
    ][-1]
    text = "".join(lines[:number] + lines[number + 1 :])
    said = found(tmp_path, name, text, built)
    assert said
    assert all("se" in line for line in said)


def test_markdown_is_read_back_as_it_is_shown(tmp_path, built):
    assert r"a\|b & c_d" in built["table.md"]
    lines = found(tmp_path, "table.md", built["table.md"].replace("92.87 ±", "92.88 ±"), built)
    assert len(lines) == 2
    assert all("a|b & c_d" in line for line in lines)
