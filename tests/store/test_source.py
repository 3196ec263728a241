"""Source hashes: blind to how code is written, awake to what it does, per part of a run."""

import ast
from pathlib import Path

import pytest

import ema_lab
from ema_lab.registry.catalogue import ATTENTIONS
from ema_lab.specs.run import RunSpec
from ema_lab.store import source
from ema_lab.store.source import source_hashes, syntax_hash

CODE = '''\
"""A module."""

import math


class Gate:
    """A class."""

    scale: float = 1.0

    def __call__(self, x, *, power=2):
        """A method."""
        # a comment
        return math.exp(x) ** power if x > 0 else self.scale
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""\n', ""),
        ('"""A module."""', '"""Another text."""'),
        ('    """A class."""\n', ""),
        ('"""A method."""', "'''A method,\n\n        at length.'''"),
        ("        # a comment\n", ""),
        ("# a comment", "# another comment, which is longer"),
        ("math.exp(x) ** power", "math.exp( x )**power"),
        ("math.exp(x) **", "(math.exp(x)) **"),
        ("(self, x, *, power=2)", "(\n        self,\n        x,\n        *,\n        power=2,\n    )"),
        ("\n\n\n", "\n\n"),
    ],
)
def test_comments_docstrings_and_formatting_change_nothing(old, new):
    assert old in CODE
    assert syntax_hash(CODE.replace(old, new)) == syntax_hash(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("power=2", "power=3"),
        ("power=2", "power=2.0"),
        ("power=2", "power=True"),
        ("x > 0", "x >= 0"),
        ("self.scale", "-self.scale"),
        ("scale: float = 1.0", "scale: float"),
        ("*, power", "power"),
        ("math.exp", "math.exp2"),
        ("class Gate", "class Door"),
        ("import math", "import cmath as math"),
        ("        return", '        "a statement"\n        return'),
    ],
)
def test_code_changes_the_hash(old, new):
    assert old in CODE
    assert syntax_hash(CODE.replace(old, new)) != syntax_hash(CODE)


def test_the_hash_of_a_source_is_stable():
    assert syntax_hash("x = 1\n")[:16] == "bc3f5e2d7cfa25a4"


@pytest.fixture
def run(specs):
    def run(attention="none", also=()):
        tree = specs[0].resolved()
        tree["model"] |= {"attention": attention, "also": [{"attention": name} for name in also]}
        return RunSpec.model_validate(tree)

    return run


class TestSourceHashes:
    def test_name_the_parts_of_a_run(self, run):
        hashes = source_hashes(run("ema"))
        assert hashes.keys() == {"module", "backbone", "data", "training"}
        assert all(len(value) == 16 for value in hashes.values())

    def test_differ_only_in_the_part_that_differs(self, run):
        one, other = source_hashes(run("ema")), source_hashes(run("se"))
        assert {part for part in one if one[part] != other[part]} == {"module"}

    def test_hold_every_inserted_module(self, run):
        assert source_hashes(run("ema", ["se"]))["module"] != source_hashes(run("ema"))["module"]

    def test_do_not_depend_on_options_or_seeds(self, run, specs):
        assert source_hashes(run({"name": "ema", "groups": 8})) == source_hashes(run("ema"))
        assert source_hashes(specs[0]) == source_hashes(specs[1])


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_module_is_hashed_with_what_it_imports_from_its_layer(name):
    own = source._file(ATTENTIONS, name)
    hashed = {path.name for path in source._with_imports([own])}
    imported = {
        f"{node.module.rpartition('.')[2]}.py"
        for node in ast.walk(ast.parse(own.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ema_lab.attention.")
    }
    assert hashed >= {own.name} | imported


def test_what_an_imported_file_imports_counts_too():
    hashed = source._with_imports([source._file(ATTENTIONS, "triplet")])
    assert {path.name for path in hashed} >= {"triplet.py", "spatial_gate.py", "check.py"}


def test_the_source_of_a_wrapped_module_counts(make_spec):
    plain, wrapped, other = (
        source_hashes(make_spec(attention))["module"]
        for attention in (
            "se",
            {"name": "frozen", "of": {"name": "se"}},
            {"name": "frozen", "of": {"name": "ca"}},
        )
    )
    assert len({plain, wrapped, other}) == 3


def test_a_changed_file_beside_a_users_module_changes_its_hash(tmp_path):
    (tmp_path / "mine.py").write_text("from helper import scale\n")
    for text, expected in (("scale = 1\n", True), ("scale = 1  # one\n", True), ("scale = 22\n", False)):
        (tmp_path / "helper.py").write_text(text)
        files = source._with_imports([tmp_path / "mine.py"])
        assert {path.name for path in files} == {"mine.py", "helper.py"}
        digest = sorted(syntax_hash(path.read_text()) for path in files)
        assert (digest == sorted(map(syntax_hash, ["from helper import scale\n", "scale = 1\n"]))) is expected


TIMM = {"attention": [], "backbone": ["timm/resnet18"], "data set": []}


def test_every_file_that_decides_a_result_belongs_to_a_part():
    package = Path(ema_lab.__file__).parent
    only_reports = {
        "training/environment.py",
        "training/heartbeat.py",
        "training/probe.py",
        "training/slimming.py",
        "training/tracker.py",
        "training/wandb_trial.py",
        "data/load.py",
    }
    shared = {package / name for names in source._SHARED.values() for name in names}
    tables = (source.ATTENTIONS, source.BACKBONES, source.DATASETS)
    named = source._with_imports(
        source._file(table, name) for table in tables for name in [*table, *TIMM[table.kind]]
    )
    present = {path for layer in ("models", "data", "training") for path in (package / layer).rglob("*.py")}
    forgotten = {str(path.relative_to(package)) for path in present - shared - named}
    assert {name for name in forgotten if not name.endswith("__init__.py")} <= only_reports
    assert {str(path) for path in shared if not path.is_file()} == set()
