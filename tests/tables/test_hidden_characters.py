"""Every format escapes the text of records, logs and errors, and no cell is a formula."""

import csv
import io
import json

import pytest

from ema_lab.characters import escape_hidden, hidden_characters
from ema_lab.reports.check.compare import compare
from ema_lab.reports.page.page import render_page
from ema_lab.tables.cell import TableCell
from ema_lab.tables.html import render_html
from ema_lab.tables.latex import render_latex
from ema_lab.tables.render import flat_records, render_csv, render_markdown, render_text
from ema_lab.tables.table import Table, TableColumn, TableRow

HOSTILE = "a\x1b[31mb\rc\u202ed\u200be\x9bf\x00g\u2028h\U000e0041i"
RENDERERS = {
    "md": render_markdown,
    "tex": render_latex,
    "html": render_html,
    "txt": render_text,
    "csv": lambda table: render_csv(flat_records(table)),
}


def table(text: str) -> Table:
    columns = (TableColumn("c", text, "text"), TableColumn(text, "n", "text"))
    cells = (TableCell(text), TableCell("1", f"n={text}"))
    rows = (TableRow(text, text, cells, text, (1,)), TableRow("plain", "plain", cells, "other"))
    return Table("table", text, text, columns, rows, (text,), text, (text,))


def test_no_format_holds_a_character_that_no_reader_sees():
    for form in RENDERERS:
        assert hidden_characters(RENDERERS[form](table(HOSTILE)), allowed="\n\u2060") == []


def test_a_page_holds_none_either():
    data = {"title": HOSTILE, "runs": {"x": {"log": f"{HOSTILE}\nnext", "names": [HOSTILE], "n": 1}}}
    page = render_page([table(HOSTILE)], data)
    assert hidden_characters(page) == []
    assert hidden_characters(json.dumps(data, ensure_ascii=False)) != []


@pytest.mark.parametrize("form", ["md", "tex", "html", "csv"])
@pytest.mark.parametrize("text", [HOSTILE, "=1+1", "-x", "@x", "+x", "\r=x", "a\rb", "-1", "a,b\n'c"])
def test_the_check_of_what_was_just_written_finds_no_difference(tmp_path, form, text):
    built = {f"table.{form}": RENDERERS[form](table(text))}
    for name, content in built.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert compare(tmp_path, built) == ((), ())


FORMULAS = {
    "=cmd|'/c calc'!A1": "'=cmd|'/c calc'!A1",
    "+x": "'+x",
    "-x": "'-x",
    "@SUM(1)": "'@SUM(1)",
    "\tx": "' x",
    **{f"{sign}1+1": f"'{sign}1+1" for sign in "＝＋－＠﹦﹢﹣﹫"},
    "\rx": "' x",
    "-1.5": "-1.5",
    "+2e-3": "+2e-3",
    "x=1": "x=1",
    "": "",
}


def test_a_cell_that_is_no_number_is_no_formula():
    for text in FORMULAS:
        written = render_csv([{"plain": text, text: -1.5}])
        header, row = csv.reader(io.StringIO(written))
        assert header == ["plain", FORMULAS[text]]
        assert row == [FORMULAS[text], "-1.5"]


def test_escapes_are_those_of_python_and_prose_keeps_its_lines():
    assert escape_hidden("a\x1b\u202e\n\tb \U000e0041±") == "a\\x1b\\u202e\n\tb \\U000e0041±"
    assert escape_hidden("a\nb", allowed="") == "a\\nb"
