"""Check of a written report: every number is built again, and each edited cell is named."""

import json
import re
import shutil
import zlib
from pathlib import Path

import pytest
from tiny import TINY, TINY_REPORT, fake_outcome

from ema_lab.ablation.ablation import load_ablation
from ema_lab.execution.executor import execute
from ema_lab.store.store import RunStore
from ema_lab.workflow.publish.report import report


def write() -> None:
    report("tiny").files(Path("out")).write()


def check(**options: bool) -> list[str]:
    return list(map(str, report("tiny").check(Path("out"), **options).comparison.differences))


def test_an_edited_record_is_found_in_every_file(trained):
    run_ids = trained()
    write()
    path = RunStore("runs").folder(run_ids[-1]) / "record.json"
    record = json.loads(path.read_text())
    record["metrics"]["top1"] += 0.5
    path.write_text(json.dumps(record))
    lines = check()
    for name in ("table.md", "table.tex", "table.csv", "table.html", "report.json", "index.html"):
        assert any(line.startswith(f"out/{name}: row 'se', column") for line in lines)


def test_a_run_that_has_come_since_is_a_difference(trained):
    trained(keep=lambda spec: spec.seed == 0)
    write()
    trained(train=lambda spec, job: fake_outcome(spec))
    assert check()


def test_a_missing_file_is_named(trained):
    trained()
    write()
    Path("out/table.tex").unlink()
    assert check() == ["out/table.tex: cannot be read: No such file or directory"]


GRID = """\
name: tiny
ablation: tiny
kind: grid
factors: [variant, recipe.epochs]
figures: [{kind: heatmap, name: heat, factors: [variant, recipe.epochs]}]
"""
TABLES = ("effects", "factors")
EFFECTS = [f"out/{table}.{kind}" for table in TABLES for kind in ("md", "tex", "csv", "html")]


@pytest.fixture
def grid(trained) -> list[str]:
    """Write a report that has effects, which need a full grid, into `out`; return the run ids."""
    Path("ablations/tiny.yaml").write_text(TINY + "axes: {recipe.epochs: [1, 2]}\n")
    Path("reports/tiny.yaml").write_text(GRID)
    run_ids = trained()
    write()
    assert all(Path(name).is_file() for name in EFFECTS)
    return run_ids


def lose(run_ids: list[str]) -> None:
    for run_id in run_ids:
        shutil.rmtree(RunStore("runs").folder(run_id))


def test_a_table_that_the_report_no_longer_makes_is_removed_and_other_files_are_not(grid):
    Path("out/mine.md").write_text("of the user")
    lose(grid[:2])
    write()
    assert not any(Path(name).exists() for name in EFFECTS)
    assert Path("out/mine.md").is_file()
    assert not check()


def test_a_table_and_a_figure_that_are_left_over_are_named(grid):
    kept = {name: Path(name).read_text() for name in EFFECTS[:1]}
    picture = Path("out/figures/heat.png").read_bytes()
    lose(grid)
    write()
    for name, text in kept.items():
        Path(name).write_text(text)
    Path("out/figures/heat.png").write_bytes(picture)
    words = "is left over: the report makes no such file from the current records"
    assert check() == [f"out/effects.md: {words}", f"out/figures/heat.png: {words}"]
    assert check(only_tables=True) == [f"out/effects.md: {words}"]


FIGURE = "figures: [{kind: forest, name: differences}]\n"
PICTURES = [f"differences.{kind}" for kind in ("svg", "pdf", "png")]


@pytest.fixture(scope="module")
def written_of_module(tmp_path_factory) -> Path:
    """Make the runs, and write their report with a figure into `out`, once; no test writes there."""
    here = tmp_path_factory.mktemp("written")
    for kind, text in (("ablations", TINY), ("reports", TINY_REPORT + FIGURE)):
        (here / kind).mkdir()
        (here / kind / "tiny.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.delenv("EMA_LAB_STORE", raising=False)
        execute(
            load_ablation("tiny").runs(), train=lambda spec, _: fake_outcome(spec), store=RunStore("runs")
        )
        write()
    return here


@pytest.fixture
def copied(written_of_module, folder) -> list[str]:
    """Copy the runs and their report into the current folder; return the run ids."""
    shutil.copytree(written_of_module, folder, dirs_exist_ok=True)
    return [spec.run_id for spec in load_ablation("tiny").runs()]


@pytest.fixture
def written(copied, written_of_module, monkeypatch) -> list[str]:
    """As `copied`; the one figure of its records is painted as it was, which takes most of a check."""
    painted = {name.rpartition(".")[2]: written_of_module / "out" / "figures" / name for name in PICTURES}
    monkeypatch.setattr(
        "ema_lab.reports.figures.style.picture", lambda _figure, suffix: painted[suffix].read_bytes()
    )
    return copied


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new, 1))


def test_an_edited_cell_of_the_page_is_named(copied):
    edit("out/index.html", "92.50 ±", "93.50 ±")
    [line] = check()
    assert line.startswith("out/index.html: row 'se', column 'Top-1 (%)': '93.50 ± 0.71 (n=2)")


def test_an_edited_number_of_the_pages_data_names_its_run_and_metric(written):
    edit("out/index.html", '"top1":92.0', '"top1":95.0')
    where = f"run {written[2]} (se, seed 0), metrics.top1"
    assert check() == [f"out/index.html: {where}: 95.0 is written, the records give 92.0"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<h1>Tiny", "<h1>Huge", "outside of the cells"),
        ('id="data">{', 'id="data">', "is not JSON"),
        ('id="data">', 'id="date">', "has 0 data elements instead of one"),
        ('<table class="report"', '<table class="none"', "'(nothing)' is written"),
    ],
)
def test_whatever_else_of_the_page_was_edited_is_named(written, old, new, words):
    edit("out/index.html", old, new)
    lines = check()
    assert all(line.startswith("out/index.html: ") for line in lines)
    assert any(words in line for line in lines)


@pytest.mark.parametrize("name", PICTURES)
def test_another_figure_is_named(copied, name):
    path = Path("out/figures", name)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    [line] = check()
    assert line.startswith(f"out/figures/{name}: is not the figure that the records give")


def test_an_edited_caption_of_a_figure_is_named(written):
    edit("out/figures/differences.txt", "n=2", "n=3")
    assert check()[0].startswith("out/figures/differences.txt: in a line: ")


@pytest.mark.parametrize("name", ["index.html", *(f"figures/{name}" for name in PICTURES)])
def test_a_missing_page_or_figure_is_a_difference_and_a_strange_file_is_none(written, name):
    Path("out/figures/mine.png").write_text("of another program")
    Path("out", name).unlink()
    assert check() == [f"out/{name}: cannot be read: No such file or directory"]


@pytest.mark.parametrize("name", PICTURES)
def test_what_another_matplotlib_drew_is_not_compared_and_that_is_said(written, name):
    path = Path("out/figures", name)
    content = path.read_bytes()
    assert re.search(rb"Matplotlib v(ersion)?\d", content)
    path.write_bytes(re.sub(rb"(Matplotlib v(?:ersion)?)\d[\d.]*", rb"\g<1>1.2.3", content) + b"other")
    differences, [line] = report("tiny").check(Path("out")).comparison
    assert not differences
    assert line.startswith(f"out/figures/{name}: not compared: drawn by matplotlib 1.2.3, but ")


def test_a_figure_may_be_compressed_otherwise(copied):
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
    assert not check()


def _text(info):
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Software", info["Software"])
    return text
