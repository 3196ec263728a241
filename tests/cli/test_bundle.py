"""A bundle holds all that a report rests on, and its check names each number that was changed."""

import hashlib
import json
import zipfile
from contextlib import chdir
from pathlib import Path

import pytest
from tiny import TINY, TINY_REPORT, fake_outcome

BUNDLED = {
    "SHA256SUMS",
    "bundle.json",
    "requirements.txt",
    "reproduce.sh",
    "reports/tiny.yaml",
    "ablations/tiny.yaml",
    "report/table.md",
    "report/table.tex",
    "report/table.csv",
    "report/table.html",
    "report/report.json",
    "report/index.html",
}
FIGURE = "figures:\n  - {kind: forest, name: differences}\n"


@pytest.fixture
def bundled(command, trained):
    """Return the unpacked bundle of the tiny report."""
    Path("reports").mkdir(exist_ok=True)
    Path("reports/tiny.yaml").write_text(TINY_REPORT + FIGURE)
    trained()
    answer = command("bundle", "tiny", "--out", "paper.zip")
    assert (answer.code, answer.out) == (0, "paper.zip\n")
    with zipfile.ZipFile("paper.zip") as archive:
        archive.extractall("paper")
    return Path("paper")


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def rewrite_sums(folder: Path) -> None:
    """Make the checksums fit, as somebody would who wants to hide a change."""
    names = [line.partition("  ")[2] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def test_holds_tables_figures_records_definitions_and_the_way_back(bundled, command):
    names = {path.relative_to(bundled).as_posix() for path in bundled.rglob("*") if path.is_file()}
    assert names >= BUNDLED
    assert {f"report/figures/differences.{kind}" for kind in ("pdf", "svg", "png", "txt")} <= names
    assert sum(name.startswith("runs/") and name.endswith("/record.json") for name in names) == 4
    assert not any(name.endswith(".ckpt") for name in names)
    facts = json.loads((bundled / "bundle.json").read_text())
    assert (facts["report"], facts["runs"], facts["device"]) == ("tiny", 4, ["cpu"])
    assert (bundled / "requirements.txt").read_text() == "torch==0\n"
    script = (bundled / "reproduce.sh").read_text()
    assert "ema-lab run ablations/tiny.yaml --store again" in script
    assert "ema-lab report reports/tiny.yaml --store again --out report --check" in script


def test_what_was_not_changed_verifies_packed_and_unpacked_anywhere(bundled, command):
    packed = Path("paper.zip").absolute()
    answer = command("verify", "paper")
    assert (answer.code, answer.out, answer.err) == (0, "", "paper: no differences\n")
    with chdir(packed.root):
        assert command("verify", str(packed)).code == 0


def test_equal_records_give_equal_bytes(bundled, command):
    first = Path("paper.zip").read_bytes()
    assert command("bundle", "tiny", "--out", "paper.zip").code == 0
    assert Path("paper.zip").read_bytes() == first


def test_a_changed_record_makes_it_name_the_cell(bundled, command):
    [record] = [
        path
        for path in bundled.glob("runs/*/record.json")
        if json.loads(path.read_text())["metrics"]["top1"] == 92.0
    ]
    change(record, '"top1": 92.0', '"top1": 96.0')
    rewrite_sums(bundled)
    answer = command("verify", "paper")
    assert answer.code == 1
    [line] = [
        line
        for line in answer.out.splitlines()
        if "table.csv" in line and "delta" not in line and "std" not in line
    ]
    assert "se" in line
    assert "top1" in line
    assert "92.5" in line
    assert "94.5" in line


def test_a_changed_cell_of_a_table_is_named(bundled, command):
    change(bundled / "report/table.md", "92.50", "93.50")
    rewrite_sums(bundled)
    answer = command("verify", "paper")
    assert answer.code == 1
    assert all("table.md" in line and "93.50" in line and "92.50" in line for line in answer.out.splitlines())


def test_a_changed_file_is_named(bundled, command):
    change(bundled / "ablations/tiny.yaml", "Two rows", "2 rows")
    (bundled / "requirements.txt").unlink()
    answer = command("verify", "paper")
    assert sorted(answer.out.splitlines()) == [
        "ablations/tiny.yaml was changed",
        "requirements.txt is not there",
    ]
    assert answer.err == "paper: 2 differences\n"


def test_modules_of_ones_own_come_along(command, trained):
    gate = (
        "from torch import nn\n\n\nclass Gate(nn.Identity):\n"
        "    def __init__(self, channels: int) -> None:\n        super().__init__()\n"
    )
    Path("own_gate_of_bundle.py").write_text(gate)
    text = TINY.replace("{name: se, reduction: 4}", "own_gate_of_bundle:Gate")
    Path("ablations/tiny.yaml").write_text(text)
    Path("reports").mkdir(exist_ok=True)
    Path("reports/tiny.yaml").write_text(TINY_REPORT)
    trained(train=lambda spec, job: fake_outcome(spec))
    assert command("bundle", "tiny", "--out", "paper.zip").code == 0
    with zipfile.ZipFile("paper.zip") as archive:
        assert archive.read("own_gate_of_bundle.py").decode() == gate


def test_holes_stay_holes(command, trained):
    Path("reports").mkdir(exist_ok=True)
    Path("reports/tiny.yaml").write_text(TINY_REPORT)
    trained(keep=lambda spec: spec.seed == 0)
    assert command("bundle", "tiny", "--out", "paper.zip").code == 0
    assert command("verify", "paper.zip").code == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["bundle", "tiny", "--out", "paper.tar"], "--out must end in .zip, got paper.tar"),
        (["bundle", "tiny", "--out", "no/such/paper.zip"], "cannot be written"),
        (["bundle", "teeny", "--out", "paper.zip"], "no report is named 'teeny'"),
        (["verify", "nothing.zip"], "nothing.zip cannot be read"),
        (["verify", "ablations"], "ablations is no bundle"),
        (["verify", "ablations/tiny.yaml"], "cannot be read"),
    ],
)
def test_mistakes_are_one_line(command, folder, words, problem):
    Path("reports").mkdir(exist_ok=True)
    Path("reports/tiny.yaml").write_text(TINY_REPORT)
    answer = command(*words)
    assert (answer.code, answer.out) == (2, "")
    assert problem in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_file_that_would_leave_its_folder_is_refused(command, folder):
    with zipfile.ZipFile("evil.zip", "w") as archive:
        archive.writestr("../evil.txt", "")
    answer = command("verify", "evil.zip")
    assert (answer.code, answer.err) == (2, "ema-lab: evil.zip is no bundle: it holds '../evil.txt'\n")
