"""Rendered tables as text, Markdown, LaTeX and CSV: compared, parsed and compiled."""

import csv
import io
import re
import shutil
import subprocess
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ema_lab.tables import latex_text
from ema_lab.tables.cell import Flag, Mark, TableCell
from ema_lab.tables.html import render_html
from ema_lab.tables.latex import render_latex
from ema_lab.tables.markdown_text import cells_of, escaped
from ema_lab.tables.render import render_csv, render_markdown, render_text
from ema_lab.tables.table import Table, TableColumn, TableRow


def text_table(title, header, rows, notes) -> Table:
    """Build a table of which only the texts matter."""
    columns = tuple(TableColumn(label, label, "text") for label in header[1:])
    body = tuple(TableRow(name, name, tuple(map(TableCell, texts))) for name, *texts in rows)
    return Table("table", title, header[0], columns, body, notes)


TABLE = text_table(
    "A study",
    ("Variant", "Top-1 (%)", "Δ Top-1 vs none"),
    (
        ("none", "91.00 ± 1.00 (n=3)", "baseline"),
        ("se", "93.00 (n=1 of 3)", "+2.00 [-0.48, +4.48] †"),
        ("ca", None, None),
    ),
    ("First note.", "Second note."),
)
MARKED = Table(
    "table",
    'Marks ✓ √ ≤ ≥ – "quoted"',
    "Variant",
    (TableColumn("on", "EMA", "check"), TableColumn("top1", "Top-1 (%)", "metric", "top1")),
    (
        TableRow("a", "a", (TableCell("✓"), TableCell("91.0", "n=3", 91.0, mark=Mark.BEST)), "first", (1,)),
        TableRow(
            "b", "b", (TableCell("–"), TableCell("90.0", "n=3", 90.0, mark=Mark.SECOND)), "first", (1, 2)
        ),
        TableRow("c", "c", (TableCell("–"), TableCell("89.0", "", 89.0, mark=Mark.EQUIVALENT)), "second"),
        TableRow("d", "d", (TableCell(), TableCell(flags=frozenset(Flag))), "second"),
    ),
    ("A note.",),
    "group",
    ("A footnote, 5 %.", "Another & more."),
)
ODD = r"a_b & 50% #1 {x} $y ~z ^w \cmd a|b <c> [d] ±×Δ†"


def odd_table(text: str) -> Table:
    return text_table(
        text, ("Variant", text), ((text, "1.00 ± 0.10"), ("[first]", None), ("plain", "2")), (text,)
    )


def test_text_is_aligned():
    assert render_text(TABLE) == (
        "A study\n"
        "\n"
        "Variant           Top-1 (%)         Δ Top-1 vs none\n"
        "---------------------------------------------------\n"
        "none     91.00 ± 1.00 (n=3)                baseline\n"
        "se         93.00 (n=1 of 3)  +2.00 [-0.48, +4.48] †\n"
        "ca                      n/a                     n/a\n"
        "\n"
        "First note.\n"
        "Second note.\n"
    )


def test_markdown_is_a_table_with_numbers_to_the_right():
    assert render_markdown(TABLE) == (
        "**A study**\n"
        "\n"
        "| Variant | Top-1 (%) | Δ Top-1 vs none |\n"
        "| --- | ---: | ---: |\n"
        "| none | 91.00 ± 1.00 (n=3) | baseline |\n"
        "| se | 93.00 (n=1 of 3) | +2.00 [-0.48, +4.48] † |\n"
        "| ca | n/a | n/a |\n"
        "\n"
        "First note.  \n"
        "Second note.  \n"
    )


def test_a_pipe_does_not_end_a_cell_in_markdown():
    row = render_markdown(odd_table(ODD)).splitlines()[4]
    assert r"a\|b" in row
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = [
    "*star*", "**bold**", "_it_", "__init__", "a_b_c", "`code`", "<b>bold</b>", "<!-- x -->", "[x](y)",
    "[x]: y", "[x][y]", r"\\*", "a\\|b", "&amp;", "~~out~~", "~x~", "# one", "- one", "1. one", "> one",
    "---", "===", "+ one", "| a | b |", "x\n\n# y", "![x](y)", "<http://x.org>", "p < 0.001", "2 * 3 * 4",
]  # fmt: skip


def shown(tokens) -> str:
    """Return the text that a reader sees, without line breaks at the end."""
    leaves = [leaf for token in tokens for leaf in (token.children or [token])]
    breaks = {"hardbreak", "softbreak"}
    return "".join("\n" if leaf.type in breaks else leaf.content for leaf in leaves)


def parsed(table: Table) -> tuple[list[str], list[str], list[list[str]]]:
    """Return the title with its tags, the notes and the cells that a reader of the Markdown sees."""
    tokens = MARKDOWN.parse(render_markdown(table))
    kinds = [token.type for token in tokens]
    first, last = kinds.index("table_open"), kinds.index("table_close")
    cells = [shown([token]) for token in tokens[first:last] if token.type == "inline"]
    rows = [cells[i : i + 2] for i in range(0, len(cells), 2)]
    assert set(kinds[:first] + kinds[last + 1 :]) == {"paragraph_open", "inline", "paragraph_close"}
    notes = shown(tokens[last + 1 :]).splitlines()
    assert {leaf.type for token in tokens[:first] for leaf in token.children or []} <= {
        "text", "text_special", "strong_open", "strong_close"
    }  # fmt: skip
    return shown(tokens[:first]), notes, rows


def test_markdown_shows_every_text_as_it_is():
    for text in HOSTILE:
        plain = " ".join(text.split())
        title, notes, rows = parsed(odd_table(text))
        assert title == plain
        assert notes == [plain]
        assert rows == [["Variant", plain], [plain, "1.00 ± 0.10"], ["[first]", "n/a"], ["plain", "2"]]


@given(st.text(st.sampled_from("a1 \\\\*_`<>[]()!|&;#~$:/^'\"-+=\n"), min_size=1).filter(str.strip))
def test_whatever_the_text_markdown_shows_it(text):
    plain = " ".join(text.split())
    title, _, rows = parsed(odd_table(text))
    assert (title, rows[0][1], rows[1][0]) == (plain, plain, plain)
    assert cells_of(f"| {escaped(plain)} | 1 |") == [plain, "1"]


@pytest.mark.parametrize(
    "name", ["ema-no-local", "ema [groups=4]", "fashion_mnist", "+0.1 [-0.2, +0.4]", "p < 1"]
)
def test_markdown_leaves_alone_what_it_would_show_anyway(name):
    assert escaped(name) == name


@pytest.mark.parametrize("render", [render_text, render_markdown, render_latex, render_html])
def test_a_title_has_no_line_breaks(render):
    text = render(text_table(" Two\n\n\tlines\n", ("Variant", "a\nb"), (("c\n\nd", "1"),), ("e\n\nf",)))
    assert "Two lines" in text
    assert "c d" in text or render is render_html


def test_latex_is_a_booktabs_table():
    assert render_latex(TABLE) == (
        "% needs \\usepackage{booktabs,threeparttable,siunitx}\n"
        "\\begin{table}\n"
        "\\centering\n"
        "\\begin{threeparttable}\n"
        "\\caption{A study.}\n"
        "\\label{tab:a-study}\n"
        "\\begin{tabular}{l"
        "S[table-format=2.2]@{\\,}r@{\\,}lS[table-format=+1.2, retain-explicit-plus]@{\\,}r@{\\,}l}\n"
        "\\toprule\n"
        "Variant & \\multicolumn{3}{c}{Top-1 (\\%)} & "
        "\\multicolumn{3}{c}{$\\Delta$ Top-1 vs none} \\\\\n"
        "\\midrule\n"
        "none & 91.00 & ${}\\pm 1.00$ & (n=3) & \\multicolumn{3}{c}{baseline} \\\\\n"
        "se & 93.00 &  & (n=1 of 3) & +2.00 & $[-0.48, +4.48]$ & $\\dagger$ \\\\\n"
        "ca & \\multicolumn{3}{c}{n/a} & \\multicolumn{3}{c}{n/a} \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\begin{tablenotes}\\footnotesize\n"
        "\\item First note.\n"
        "\\item Second note.\n"
        "\\end{tablenotes}\n"
        "\\end{threeparttable}\n"
        "\\end{table}\n"
    )


def test_every_sign_that_latex_reads_is_escaped():
    text = render_latex(text_table("t", (ODD,), (("x",),), ()))
    header = text.splitlines()[8].removesuffix(r" \\")
    assert header == (
        r"a\_b \& 50\% \#1 \{x\} \$y \textasciitilde{}z \textasciicircum{}w \textbackslash{}cmd a\textbar{}b "
        r"\textless{}c\textgreater{} {[}d{]} $\pm$$\times$$\Delta$$\dagger$"
    )
    assert header.isascii()


def test_every_row_of_latex_has_as_many_cells_as_columns():
    lines = render_latex(odd_table(ODD)).splitlines()
    rows = [line for line in lines if line.endswith(r" \\")]
    assert len(rows) == 4
    more = [sum(int(width) - 1 for width in re.findall(r"\\multicolumn\{(\d)\}", row)) for row in rows]
    cells = {len(re.findall(r"(?<!\\)&", row)) + wide for row, wide in zip(rows, more, strict=True)}
    assert cells == {2}  # the name, the number, its ±


def test_marks_groups_and_footnotes_in_every_format():
    text, markdown, latex, html = (
        render(MARKED) for render in (render_text, render_markdown, render_latex, render_html)
    )
    assert "**91.0** (n=3)" in text
    assert "__90.0__ (n=3)" in text
    assert "89.0 ≈" in text
    assert "n/a † ‡ ¶" in text
    assert "| first | a¹ | ✓ | **91.0** (n=3) |" in markdown
    assert "|  | b¹,² | – | <u>90.0</u> (n=3) |" in markdown
    assert "% needs \\usepackage{booktabs,threeparttable,siunitx,multirow,amssymb}" in latex
    assert r"\multirow{2}{*}{first} & a$^{1}$ & $\checkmark$ & \bfseries 91.0 & (n=3) \\" in latex
    second = r"{\underline{\tablenum[table-format=2.1, detect-weight]{90.0}}}"
    assert rf" & b$^{{1,2}}$ & -- & {second} & (n=3) \\" in latex
    assert r"n/a $\dagger$ $\ddagger$ \P{}" in latex
    assert "\\item[1] A footnote, 5 \\%.\n\\item[2] Another \\& more.\n" in latex
    assert latex.isascii()
    assert '<th scope="rowgroup" rowspan="2">first</th><th scope="row">a<sup>1</sup></th>' in html
    assert '<td class="best" data-value="91.0"><strong>91.0</strong> (n=3)</td>' in html
    assert 'class="hole missing pruned single_seed stale unclean"' in html


@pytest.mark.parametrize("text", [ODD, """a" onclick="b' c"""])
def test_html_is_well_formed_and_escaped(text):
    root = ElementTree.fromstring(render_html(odd_table(text)))
    assert root.find("caption").text == text
    rows = root.findall("tbody/tr")
    assert [len(row) for row in rows] == [2, 2, 2]
    assert rows[0].find("th").text == text
    assert dict(rows[0].attrib) == {"data-row": text, "data-runs": ""}


def test_csv_parses_back_to_the_same_values(study):
    records = study({"none": [90.0, 91.0, 92.1], "se": [91.0, None, 95.3]}).records()
    rows = list(csv.DictReader(io.StringIO(render_csv(records))))
    assert len(rows) == 2
    for row, record in zip(rows, records, strict=True):
        assert list(row) == list(record)
        for key, value in record.items():
            if value is None:
                assert row[key] == ""
            else:
                assert type(value)(row[key]) == value  # unrounded: repr gives each float back


def test_csv_quotes_what_has_a_comma():
    text = render_csv([{"variant": 'ema [groups=4, size="a"]', "top1": 1.5}])
    assert list(csv.reader(io.StringIO(text)))[1] == ['ema [groups=4, size="a"]', "1.5"]


ALIGNED = Table(
    "table",
    "Aligned",
    "Variant",
    (
        TableColumn("top1", "Top-1 (%)", "metric", "top1"),
        TableColumn("delta", "Δ", "delta"),
        TableColumn("p", "p", "p"),
        TableColumn("parameters", "Parameters", "cost"),
        TableColumn("n", "n", "count"),
    ),
    tuple(
        TableRow(name, name, tuple(map(TableCell, texts)))
        for name, *texts in (
            ("none", "98.33 ± 0.48", "baseline", "baseline", "1,269,434", "3"),
            ("se", "8.33 ± 10.48", "+10.28 [+8.20, +12.00]", "< 0.001", "434", "2 of 3"),
            ("ca", "100.00", "-0.28 [-0.54, 0.00]", "0.012", "9,434", "3"),
            ("eca", "98.80 [97.10, 99.20]", "+0.28", "untested", None, "3"),
        )
    ),
)


def test_a_sign_in_an_interval_of_latex_is_no_operator():
    texts = ("+0.97 [-0.79, +2.74]", "+4.01 [-4.70, +12.72]")
    rows = tuple(TableRow(text, text, (TableCell(text),)) for text in texts)
    text = render_latex(Table("t", "T", "Row", (TableColumn("delta", "D", "delta"),), rows))
    assert r"$[-0.79, \phantom{1}{+}2.74]$" in text
    assert "$[-4.70, +12.72]$" in text


def test_latex_aligns_numbers_at_the_decimal_point():
    text = render_latex(ALIGNED)
    grouped = "group-digits=integer, group-minimum-digits=4, group-separator={,}"
    columns = [
        r"S[table-format=3.2]@{\,}r",
        r"S[table-format=+2.2, retain-explicit-plus]@{\,}r",
        "S[table-format=<1.3]",
        f"S[table-format=7.0, {grouped}]",
        "r",  # the text `2 of 3` is no number
    ]
    assert rf"\begin{{tabular}}{{l{''.join(columns)}}}" in text
    wide = r"\multicolumn{2}{c}"
    assert [line for line in text.splitlines() if line.endswith(r" \\")] == [
        rf"Variant & {wide}{{Top-1 (\%)}} & {wide}{{$\Delta$}} & {{p}} & {{Parameters}} & n \\",
        rf"none & 98.33 & ${{}}\pm 0.48$ & {wide}{{baseline}} & {{baseline}} & 1269434 & 3 \\",
        r"se & 8.33 & ${}\pm 10.48$ & +10.28 & $[+8.20, +12.00]$ & <0.001 & 434 & 2 of 3 \\",
        r"ca & 100.00 &  & -0.28 & $[-0.54, \phantom{+1}0.00]$ & 0.012 & 9434 & 3 \\",
        r"eca & 98.80 & $[97.10, 99.20]$ & +0.28 &  & {untested} & {n/a} & 3 \\",
    ]


HOSTILE_LATEX = (
    r"*star* \ { } $ & # % _ ~ ^ < > [x] | -- ?` “é” αβΓΑµ −1 → ⇒ ≤ ≥ ≈ ≠ × ± Δ † ° ² ₃ ∈ ∞ ✓ ő ñ ß"
)


def test_latex_writes_greek_minus_and_arrows_in_maths():
    text = render_latex(text_table("α −1 → ≤ Α 10⁻³", ("Variant",), (("μ",),), ()))
    assert r"\caption{$\alpha$ $-$1 $\rightarrow$ $\leq$ $\mathrm{A}$ 10$^{-}$$^{3}$.}" in text
    assert text.isascii()


def test_latex_says_first_what_pdflatex_has_no_sign_for():
    table = text_table("Netze für 漢字 🙂", ("Variant",), (("ą",),), ())
    first, second, *_ = render_latex(table).splitlines()
    assert first == "% needs lualatex or xelatex and a font that has them: pdflatex has no 漢 字 🙂 ą"
    assert second == r"% needs \usepackage{booktabs,threeparttable}"
    assert r"\caption{Netze für 漢字 🙂.}" in render_latex(table)
    assert "lualatex" not in render_latex(text_table("Größe, señal, œuvre", ("a",), (), ()))


def test_a_row_of_latex_is_no_option_of_the_row_before():
    lines = render_latex(text_table("t", ("*",), (("*star*",), ("[x]",)), ())).splitlines()
    assert [line for line in lines if line.endswith(r" \\")] == [r"{}* \\", r"{}*star* \\", r"{[}x{]} \\"]


def test_a_package_is_named_where_a_sign_needs_it():
    assert r"{booktabs,threeparttable,amssymb}" in render_latex(text_table("✓", ("a",), (), ()))


def counted_table(*counts: str) -> Table:
    rows = tuple(
        TableRow(name, name, (TableCell("91.0", count), TableCell("7")))
        for name, count in zip("abc", counts, strict=False)
    )
    columns = (TableColumn("top1", "Top-1", "metric"), TableColumn("macs", "MACs", "cost"))
    return Table("sizes", "A study.", "Variant", columns, rows)


def test_latex_has_an_n_that_all_cells_share_once_in_the_caption():
    shared = render_latex(counted_table("n=3", "n=3"))
    assert r"\caption{A study (n=3).}" in shared
    assert r"\label{tab:a-study-sizes}" in shared
    assert [line for line in shared.splitlines() if line.startswith("a ")] == [r"a & 91.0 & 7 \\"]
    assert "tablenotes" not in shared
    for others in (("n=3", "n=2 of 3"), ("n=3", "")):
        text = render_latex(counted_table(*others))
        assert r"\caption{A study.}" in text
        assert "a & 91.0 & (n=3) & 7" in text


def test_a_command_that_a_note_advises_is_a_comment_of_latex():
    note = (
        "‡: 2 runs are stale: the source of data has changed since; ema-lab run tiny --refresh trains again."
    )
    text = render_latex(text_table("t", ("a",), (("b",),), (note, "Plain; no command.")))
    assert "% ema-lab run tiny --refresh trains again\n" in text
    assert "\\item $\\ddagger$: 2 runs are stale: the source of data has changed since.\n" in text
    assert "\\item Plain; no command.\n" in text


@pytest.mark.system
@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        odd_table(ODD),
        MARKED,
        odd_table(HOSTILE_LATEX),
        odd_table("*star*"),
        odd_table("[x]\n\n[y]"),
        ALIGNED,
    ],
    ids=["plain", "odd", "marked", "hostile", "star", "brackets", "aligned"],
)
def test_pdflatex_compiles_the_table(tmp_path, table):
    assert shutil.which("pdflatex"), "pdflatex is not installed; `make test-system` installs it"
    (tmp_path / "table.tex").write_text(render_latex(table), encoding="utf-8")
    packages = r"\documentclass{article}\usepackage{booktabs,threeparttable,siunitx,multirow,amssymb}"
    document = packages + r"\begin{document}\input{table}\end{document}"
    (tmp_path / "main.tex").write_text(document)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "main.pdf").stat().st_size > 1000
    log = (tmp_path / "main.log").read_text(errors="replace")
    assert "siunitx Warning" not in log
    assert "Missing character" not in log
    assert "Undefined control sequence" not in log


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("difference to 'none' over seeds", "difference to ``none'' over seeds"),
        ('called "YOLOv5x (v6.0)"; the rows\' mean', "called ``YOLOv5x (v6.0)''; the rows' mean"),
        ("a row's label isn't 'se-16'", "a row's label isn't ``se-16''"),
        ("('none', 'se')", "(``none'', ``se'')"),
    ],
)
def test_latex_has_quotation_marks_and_keeps_apostrophes(text, expected):
    assert latex_text.escaped(text) == expected


def test_a_latex_table_without_results_names_the_package_that_its_numbers_will_need():
    def first_line(*cells: TableCell) -> str:
        rows = tuple(TableRow("", "a", (cell,)) for cell in cells)
        return render_latex(
            Table("t", "", "Variant", (TableColumn("top1", "Top-1", "metric"),), rows, ())
        ).splitlines()[0]

    assert first_line(TableCell("yes")) == r"% needs \usepackage{booktabs,threeparttable}"
    assert first_line(TableCell(None)) == r"% needs \usepackage{booktabs,threeparttable,siunitx}"
