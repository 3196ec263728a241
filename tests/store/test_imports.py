"""Imports of a file, read from the syntax tree at any depth."""

from pathlib import Path

import pytest

from ema_lab.store.imports import Source, closure, imported_names, source_of
from ema_lab.store.source import unhashed_imports


def names_of(text: str) -> set[tuple[int, str]]:
    return set(imported_names(text))


RUN = [
    ("import a", {(0, "a")}),
    ("import a.b as c, d", {(0, "a.b"), (0, "d")}),
    ("from a.b import c, d as e", {(0, "a.b"), (0, "a.b.c"), (0, "a.b.d")}),
    ("from . import a", {(1, ""), (1, "a")}),
    ("from ..a import b", {(2, "a"), (2, "a.b")}),
    ("def f():\n    import a", {(0, "a")}),
    ("try:\n    import a\nexcept ImportError:\n    import b", {(0, "a"), (0, "b")}),
    ("if TYPE_CHECKING:\n    import a\nelse:\n    import b", {(0, "b")}),
    ("if typing.TYPE_CHECKING:\n    import a", set()),
    ("if not TYPE_CHECKING:\n    import a", {(0, "a")}),
    ("TABLE = {'x': 'ema_lab.a.b:Name', 'y': 'other.a:Name'}", {(0, "ema_lab.a.b")}),
]


def test_imports_that_run_are_found():
    for text, expected in RUN:
        assert names_of(text) == expected


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Return a function that writes files and returns the paths in a module's import closure."""
    monkeypatch.chdir(tmp_path)

    def reached(module: str, **texts: str) -> set[str]:
        for name, text in texts.items():
            path = tmp_path / (name.replace("__", "/").replace("/init", "/__init__") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        sources = closure([source_of(module)], Path.read_text, lambda source: source.in_package)
        return {source.path.relative_to(tmp_path).as_posix() for source in sources}

    return reached


class TestUsersFiles:
    def test_beside_each_other(self, files):
        found = files("mine", mine="from helper import a", helper="import deeper", deeper="", unrelated="")
        assert found == {"mine.py", "helper.py", "deeper.py"}

    def test_in_a_package_with_relative_imports(self, files):
        found = files(
            "pkg.sub.gate",
            pkg__init="import torch",
            pkg__sub__init="",
            pkg__sub__gate="from ..blocks import a\nfrom . import near\nfrom .inner import deep",
            pkg__blocks="from .more.scale import x",
            pkg__more__scale="",
            pkg__sub__near="",
            pkg__sub__inner__deep="import numpy",
            pkg__unrelated="",
        )
        own = {"blocks", "more/scale", "sub/gate", "sub/near", "sub/inner/deep", "__init__", "sub/__init__"}
        assert found == {f"pkg/{name}.py" for name in own}

    def test_in_a_sub_package_imported_from_the_top(self, files):
        found = files(
            "mine", mine="from nets.blocks import b", nets__blocks="import nets.scale", nets__scale=""
        )
        assert found == {"mine.py", "nets/blocks.py", "nets/scale.py"}

    def test_that_import_each_other_end(self, files):
        assert files("one", one="import two", two="import one") == {"one.py", "two.py"}

    def test_behind_type_checking_do_not_count(self, files):
        text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import other"
        assert files("mine", mine=text, other="") == {"mine.py"}

    def test_with_what_they_take_from_this_package(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("mine.py").write_text("from ema_lab.attention.triplet import Triplet")
        sources = closure([source_of("mine")], Path.read_text, lambda source: False)
        places = {source.package_path for source in sources if source.in_package}
        assert places >= {"attention/triplet.py", "attention/spatial_gate.py", "attention/validation.py"}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Return a folder on Python's path that is not that of the user's module."""
    for name in ("study", "other", "site-packages"):
        (tmp_path / name).mkdir()
        monkeypatch.syspath_prepend(str(tmp_path / name))
    monkeypatch.chdir(tmp_path / "study")
    return tmp_path / "other"


def test_a_module_from_another_folder_is_named_because_no_hash_covers_it(elsewhere):
    beside = ("../study/helper", "../study/space/deep")
    for name in ("shared", "named/inner", *beside, "../site-packages/library"):
        (elsewhere / name).parent.mkdir(exist_ok=True)
        (elsewhere / f"{name}.py").touch()
    imports = ["helper", "shared", "library", "torch", "json", "ema_lab.errors", "absent", "space.deep"]
    text = "".join(f"import {name}\n" for name in imports)
    Path("gate_elsewhere.py").write_text(f"{text}def f():\n    from named.inner import x\n")
    found = unhashed_imports("gate_elsewhere")
    assert found == {"shared": elsewhere / "shared.py", "named": elsewhere / "named"}
    assert unhashed_imports("absent") == {}


def test_installed_packages_are_no_neighbours(tmp_path):
    root = tmp_path / "site-packages"
    for name, text in {
        "plugin/gate": "import other\nimport plugin.scale",
        "plugin/scale": "",
        "other": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.py").write_text(text)
    gate = Source(root / "plugin" / "gate.py", "plugin.gate", root)
    found = closure([gate], Path.read_text, lambda source: False)
    assert {source.name for source in found} == {"plugin.gate", "plugin.scale"}
