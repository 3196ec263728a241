"""A bundle from a stranger reads nothing outside of itself, fills no disk, and makes pip do nothing."""

import json
import os
import zipfile
from pathlib import Path

import pytest
from tiny import TINY, TINY_REPORT

from ema_lab.errors import EmaLabError
from ema_lab.reports.bundle.reproduce import requirements
from ema_lab.reports.bundle.verify import verify_bundle

SECRET = "name: secret\ndescription: not yours\n"


@pytest.fixture
def bundle(folder):
    """A folder that `verify` takes for a bundle, and a file beside it that is none of its business."""
    made = folder / "made"
    for kind, text in (("ablations", TINY), ("reports", TINY_REPORT)):
        (made / kind).mkdir(parents=True)
        (made / kind / "tiny.yaml").write_text(text)
    (made / "runs").mkdir()
    (made / "bundle.json").write_text(json.dumps({"report": "tiny", "ema_lab": "0"}))
    (made / "SHA256SUMS").write_text("")
    (folder / "secret.yaml").write_text(SECRET)
    return made


def refused(path: str) -> str:
    """Return the error that a bundle gives: one line without control characters."""
    with pytest.raises(EmaLabError) as raised:
        verify_bundle(Path(path))
    line = str(raised.value)
    assert "\n" not in line
    assert "\x1b" not in line
    return line


@pytest.fixture
def opened(monkeypatch):
    """The files that are read as text from then on."""
    paths = []
    read = Path.read_text

    def watched(self, *arguments, **options):
        paths.append(self.resolve())
        return read(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", watched)
    return paths


@pytest.mark.parametrize("name", ["../..", "../secret", "/etc/passwd", "..", "a/b", "", "x\x1b[2J", None])
def test_a_report_that_is_no_name_is_refused(bundle, name):
    (bundle / "bundle.json").write_text(json.dumps({"report": name or "", "ema_lab": "0"}))
    assert "has the invalid report name" in refused("made")


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("key", ["ablation", "recipe", "published", "module"])
def test_nothing_outside_is_read(folder, bundle, opened, key, absolute):
    outside = str(folder / "secret.yaml") if absolute else "../secret.yaml"
    if key == "ablation":
        (bundle / "reports" / "tiny.yaml").write_text(f"name: tiny\nablation: {outside}\n")
    elif key == "published":
        (bundle / "reports" / "tiny.yaml").write_text(f"name: tiny\nkind: claims\npublished: {outside}\n")
    elif key == "recipe":
        recipe = "{epochs: 1, batch_size: 16, optimizer: {name: sgd, lr: 0.1}}"
        (bundle / "ablations" / "tiny.yaml").write_text(TINY.replace(recipe, f"{{use: {outside}}}"))
    else:
        (folder / "outer.py").write_text("class Gate: pass\n")
        (bundle / "outer.py").symlink_to(folder / "outer.py")
    if key == "module":
        assert "outer.py is a link" in refused("made")
    else:
        assert any("it is not read" in line for line in verify_bundle(bundle).problems)
    left = [path for path in opened if path in {folder / "secret.yaml", folder / "outer.py"}]
    assert left == []


def test_a_module_beside_the_checker_is_not_taken_for_the_bundles(folder, bundle, monkeypatch):
    (folder / "gate_of_checker.py").write_text("class Gate:\n    def __init__(self, channels): pass\n")
    monkeypatch.syspath_prepend(str(folder))
    text = TINY.replace("{name: se, reduction: 4}", "gate_of_checker:Gate")
    (bundle / "ablations" / "tiny.yaml").write_text(text)
    assert any("is outside the bundle" in line for line in verify_bundle(bundle).problems)


def test_a_link_or_a_pipe_in_a_bundle_is_named_and_not_read(folder, bundle):
    (bundle / "runs" / "x").symlink_to(folder)
    assert "runs/x is a link, but a bundle may hold only files and folders" in refused("made")
    (bundle / "runs" / "x").unlink()
    os.mkfifo(bundle / "runs" / "x")
    assert "runs/x is neither a file nor a folder" in refused("made")


MEMBERS = {
    "../x": "holds '../x'",
    "/x": "holds '/x'",
    "a/../../x": "holds 'a/../../x'",
    "..\\x": "holds '..\\\\x'",
}


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_that_would_leave_its_folder_is_refused(folder, tree, member):
    with zipfile.ZipFile("evil.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), "")
    before = tree()
    assert MEMBERS[member] in refused("evil.zip")
    assert tree() == before


def test_a_zip_bomb_is_not_unpacked(folder):
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            archive.writestr(f"{number}.txt", bytes(60 * 2**20))
    assert Path("bomb.zip").stat().st_size < 2**20
    assert "bomb.zip is not unpacked: it would be 300 MiB, more than 256 MiB" in refused("bomb.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(folder):
    with zipfile.ZipFile("twice.zip", "w") as archive:
        archive.writestr("bundle.json", "{}")
        archive.writestr("bundle.json", "[]")
    assert "twice.zip is not a bundle: it holds 'bundle.json' twice" in refused("twice.zip")


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" + bytes(100), b"\x1b[2J" * 50])
def test_what_is_no_zip_file_is_one_line(folder, content):
    Path("x.zip").write_bytes(content)
    refused("x.zip")


HOSTILE = {
    "torch": "2.14.1\n--extra-index-url http://x",
    "x @ http://y/z.whl": "1.0",
    "--index-url": "http://x",
    "a\n-r /etc/passwd": "1",
    "ends\n": "1",
    "-e .": "1",
    "numpy": "1.0; python_version > '3'",
    "scipy": "1.0 --hash=x",
    "é": "1",
    "list": ["1.0"],
    "none": None,
    "empty": "",
}


def test_requirements_have_names_and_versions_alone():
    good = {
        "torch-x": "2.4.1+cpu",
        "ruamel.yaml": "0.18.0.post1",
        "python": "3.11",
        "Under_score": "1!2.0rc1",
    }
    lines = requirements({"versions": [{**HOSTILE, **good}, "no mapping"]}).splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins == ["Under_score==1!2.0rc1", "ruamel.yaml==0.18.0.post1", "torch-x==2.4.1"]
    left = [line for line in lines if line.startswith("# left out, no name and version of a package: ")]
    assert len(left) == len(HOSTILE)
    assert len(lines) == len(left) + len(pins)


@pytest.mark.parametrize("order", [1, -1])
def test_one_run_with_an_odd_version_neither_hides_nor_is_hidden_by_the_others(order):
    runs = [{"torch": "2.14.1", "numpy": "2.4.6"}, {"torch": "x @ http://y", "numpy": "2.4.6"}][::order]
    assert requirements({"versions": runs}).splitlines() == [
        "# left out, no name and version of a package: 'torch', 'x @ http://y'",
        "numpy==2.4.6",
        "torch==2.14.1",
    ]
