"""bundle and verify: one whole way, what verify prints, and what both refuse.

`tests/reports` holds what a bundle has, and which changes are found.
"""

import json
import shutil
import zipfile
from contextlib import chdir
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder that keeps what `bundled` makes: each test gets a copy."""
    return tmp_path_factory.mktemp("bundle") / "made"


@pytest.fixture
def bundled(command, trained, made):
    """Return the unpacked bundle of the tiny report."""
    if made.exists():
        shutil.copytree(made, ".", dirs_exist_ok=True)
        return Path("paper")
    trained()
    answer = command("bundle", "tiny", "--out", "paper.zip")
    assert (answer.code, answer.out) == (0, "paper.zip\n")
    with zipfile.ZipFile("paper.zip") as archive:
        archive.extractall("paper")
    shutil.copytree(".", made)
    return Path("paper")


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_what_was_not_changed_verifies_packed_and_unpacked_anywhere(bundled, command):
    packed = Path("paper.zip").absolute()
    answer = command("verify", "paper")
    assert (answer.code, answer.out) == (0, "")
    first, computed, crossed, summed = answer.err.splitlines()
    assert first == "paper: no differences"
    assert computed.startswith(
        "rebuilt and compared: the run ids from the specs; every table, the page, the figures"
    )
    assert "its curve, which has them for 0 of 4 runs" in crossed
    assert summed.startswith("checked only by SHA256SUMS, which anyone who edits a file can recompute: what")
    with chdir(packed.root):
        assert command("verify", str(packed)).code == 0


def test_a_changed_record_makes_it_name_the_cell(bundled, command):
    [record] = [
        path
        for path in bundled.glob("runs/*/record.json")
        if json.loads(path.read_text())["metrics"]["top1"] == 92.0
    ]
    change(record, '"top1": 92.0', '"top1": 96.0')
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


def test_a_changed_file_is_named(bundled, command):
    change(bundled / "ablations/tiny.yaml", "Two rows", "2 rows")
    (bundled / "requirements.txt").unlink()
    answer = command("verify", "paper")
    assert sorted(answer.out.splitlines()) == [
        "ablations/tiny.yaml was changed",
        "requirements.txt is missing",
    ]
    assert answer.err.startswith("paper: 2 differences\n")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["bundle", "tiny", "--out", "paper.tar"], "--out must end in .zip, got paper.tar"),
        (["bundle", "tiny", "--out", "no/such/paper.zip"], "cannot be written"),
        (["bundle", "teeny", "--out", "paper.zip"], "no report is named 'teeny'"),
        (["verify", "nothing.zip"], "nothing.zip cannot be read"),
        (["verify", "ablations"], "ablations is not a bundle"),
        (["verify", "evil.zip"], "ema-lab: evil.zip is not a bundle: it holds '../evil.txt'"),
        (["verify", "ablations/tiny.yaml"], "cannot be read"),
    ],
)
def test_mistakes_are_one_line(command, folder, words, problem):
    with zipfile.ZipFile("evil.zip", "w") as archive:
        archive.writestr("../evil.txt", "")
    answer = command(*words)
    assert (answer.code, answer.out) == (2, "")
    assert problem in answer.err
    assert len(answer.err.splitlines()) == 1
