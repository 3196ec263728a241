"""report --check: every number is built again, and each edited cell is named; exit code 1."""

import json
import re
import shutil
import zlib
from pathlib import Path

import pytest
from tiny import TINY, TINY_REPORT, fake_outcome

from ema_lab.store.store import RunStore


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


def test_an_edited_record_is_found_in_every_file(command, trained):
    run_ids = trained()
    command("report", "tiny", "--out", "out")
    path = RunStore("runs").folder(run_ids[-1]) / "record.json"
    record = json.loads(path.read_text())
    record["metrics"]["top1"] += 0.5
    path.write_text(json.dumps(record))
    answer = command("report", "tiny", "--out", "out", "--check")
    assert answer.code == 1
    for name in ("table.md", "table.tex", "table.csv", "table.html", "report.json", "index.html"):
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


GRID = """\
name: tiny
ablation: tiny
kind: grid
factors: [variant, recipe.epochs]
figures: [{kind: heatmap, name: heat, factors: [variant, recipe.epochs]}]
"""
EFFECTS = [f"out/effects.{kind}" for kind in ("md", "tex", "csv", "html")]


@pytest.fixture
def grid(command, trained) -> list[str]:
    """Write a report that has effects, which need a full grid, into `out`; return the run ids."""
    Path("ablations/tiny.yaml").write_text(TINY + "axes: {recipe.epochs: [1, 2]}\n")
    Path("reports/tiny.yaml").write_text(GRID)
    run_ids = trained()
    command("report", "tiny", "--out", "out")
    assert all(Path(name).is_file() for name in EFFECTS)
    return run_ids


def lose(run_ids: list[str]) -> None:
    for run_id in run_ids:
        shutil.rmtree(RunStore("runs").folder(run_id))


def test_a_table_that_the_report_no_longer_makes_is_removed_and_other_files_are_not(command, grid):
    Path("out/mine.md").write_text("of the user")
    lose(grid[:2])
    assert command("report", "tiny", "--out", "out").code == 0
    assert not any(Path(name).exists() for name in EFFECTS)
    assert Path("out/mine.md").is_file()
    assert check(command).code == 0


def test_a_table_and_a_figure_that_are_left_over_are_named(command, grid):
    kept = {name: Path(name).read_text() for name in EFFECTS[:1]}
    picture = Path("out/figures/heat.png").read_bytes()
    lose(grid)
    command("report", "tiny", "--out", "out")
    for name, text in kept.items():
        Path(name).write_text(text)
    Path("out/figures/heat.png").write_bytes(picture)
    words = "is left over: the report makes no such file from the current records"
    answer = check(command)
    assert (answer.code, answer.out) == (1, f"out/effects.md: {words}\nout/figures/heat.png: {words}\n")
    answer = check(command, "--tables")
    assert (answer.code, answer.out) == (1, f"out/effects.md: {words}\n")


def test_check_needs_the_folder(command, trained, tree):
    before = tree()
    for words in (["--check"], ["--check", "--out", "nowhere"]):
        answer = command("report", "tiny", *words)
        assert answer.code == 2
        assert "--check compares the files of a folder" in answer.err
    assert tree() == before


FIGURE = "figures: [{kind: forest, name: differences}]\n"
PICTURES = [f"differences.{kind}" for kind in ("svg", "pdf", "png")]


@pytest.fixture
def written(command, trained) -> list[str]:
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


def test_an_edited_cell_of_the_page_is_named(command, written):
    edit("out/index.html", "92.50 ±", "93.50 ±")
    answer = check(command)
    assert answer.code == 1
    [line] = answer.out.splitlines()
    assert line.startswith("out/index.html: row 'se', column 'Top-1 (%)': '93.50 ± 0.71 (n=2)")


def test_an_edited_number_of_the_pages_data_names_its_run_and_metric(command, written):
    edit("out/index.html", '"top1":92.0', '"top1":95.0')
    answer = check(command)
    assert answer.code == 1
    where = f"run {written[2]} (se, seed 0), metrics.top1"
    assert answer.out == f"out/index.html: {where}: 95.0 is written, the records give 92.0\n"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<h1>Tiny", "<h1>Huge", "outside of the cells"),
        ('id="data">{', 'id="data">', "is not JSON"),
        ('id="data">', 'id="date">', "has 0 data elements instead of one"),
        ('<table class="report"', '<table class="none"', "'(nothing)' is written"),
    ],
)
def test_whatever_else_of_the_page_was_edited_is_named(command, written, old, new, words):
    edit("out/index.html", old, new)
    answer = check(command)
    assert answer.code == 1
    assert all(line.startswith("out/index.html: ") for line in answer.out.splitlines())
    assert words in answer.out


@pytest.mark.parametrize("name", PICTURES)
def test_another_figure_is_named(command, written, name):
    path = Path("out/figures", name)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    answer = check(command)
    assert answer.code == 1
    assert answer.out.startswith(f"out/figures/{name}: is not the figure that the records give")
    assert len(answer.out.splitlines()) == 1


def test_an_edited_caption_of_a_figure_is_named(command, written):
    edit("out/figures/differences.txt", "n=2", "n=3")
    answer = check(command)
    assert answer.code == 1
    assert answer.out.startswith("out/figures/differences.txt: in a line: ")


@pytest.mark.parametrize("name", ["index.html", *(f"figures/{name}" for name in PICTURES)])
def test_a_missing_page_or_figure_is_a_difference_and_a_strange_file_is_none(command, written, name):
    Path("out/figures/mine.png").write_text("of another program")
    Path("out", name).unlink()
    answer = check(command)
    assert (answer.code, answer.out) == (1, f"out/{name}: cannot be read: No such file or directory\n")


@pytest.mark.parametrize("name", PICTURES)
def test_what_another_matplotlib_drew_is_not_compared_and_that_is_said(command, written, name):
    path = Path("out/figures", name)
    content = path.read_bytes()
    assert re.search(rb"Matplotlib v(ersion)?\d", content)
    path.write_bytes(re.sub(rb"(Matplotlib v(?:ersion)?)\d[\d.]*", rb"\g<1>1.2.3", content) + b"other")
    answer = check(command)
    assert (answer.code, answer.out) == (0, "")
    first, last = answer.err.splitlines()
    assert first.startswith(f"out/figures/{name}: not compared: drawn by matplotlib 1.2.3, but ")
    assert last == "tiny: no differences in 9 files of out"


def test_a_figure_may_be_compressed_otherwise(command, written):
    from PIL import Image

    png, pdf = Path("out/figures/differences.png"), Path("out/figures/differences.pdf")
    before = png.read_bytes(), pdf.read_bytes()
    image = Image.open(png)
    image.load()
    image.save(png, compress_level=1, pnginfo=_text(image.info), dpi=image.info["dpi"])
    stream = re.compile(rb"(?<=\nstream\n).*?(?=\nendstream\n)", re.DOTALL)
    pdf.write_bytes(stream.sub(lambda found: zlib.compress(zlib.decompress(found[0]), 1), before[1]))
    assert png.read_bytes() != before[0]
    assert pdf.read_bytes() != before[1]
    assert check(command).code == 0


def _text(info):
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Software", info["Software"])
    return text


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
