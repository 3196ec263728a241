"""The names of a store's files are spelled in one module; attempts have plain numbers."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ema_lab
from ema_lab.store import layout

PACKAGE = Path(ema_lab.__file__).parent
SPELLED_HERE = {"store/layout.py", "files.py"}  # files.py names what it sets aside itself
# `attempts` and `superseded` are words, too: of these only paths count.
NAMES = re.compile(
    r"(record|spec|heartbeat|analysis|trace)\.json|profile\.txt"
    r"|(curve|start)\.csv|predictions\.npz|\.ckpt\b|\blog\.txt"
    r"|weights\.dropped|\b(attempts|superseded)/|/(attempts|superseded)\b|\.(locks|costs|probes|engine)\b"
    r"|\.(importing|removing|damaged)-"
)


def spelled(source: str) -> Iterator[str]:
    """Yield each text of a program, docstrings apart, that names a file of a store."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, documented) and node.body]
    docstrings = {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings and NAMES.search(node.value):
            yield node.value


def test_no_other_module_spells_a_name():
    paths = sorted(PACKAGE.rglob("*.py"))
    found = {
        str(path.relative_to(PACKAGE)): list(spelled(path.read_text(encoding="utf-8"))) for path in paths
    }
    assert {name: texts for name, texts in found.items() if texts and name not in SPELLED_HERE} == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('path / "record.json"', ["record.json"]),
        ('f"{folder}/attempts/{number}.json"', ["/attempts/"]),
        ('folder.glob("*.ckpt")', ["*.ckpt"]),
        ('"""The file record.json."""', []),
        ('{"attempts": 3}', []),
    ],
)
def test_a_name_that_is_spelled_is_found(source, expected):
    assert list(spelled(source)) == expected


def test_every_name_of_a_run_folder_is_searched_for():
    words = {layout.ATTEMPTS, layout.SUPERSEDED}
    assert [
        name for name in layout.RUN_FILES if not NAMES.search(f"{name}/" if name in words else name)
    ] == []


@pytest.mark.parametrize("number", [1, 9, 10, 123456789])
def test_an_attempt_is_found_by_its_path(number):
    assert layout.attempt_number(layout.attempt_path(number).partition("/")[2]) == number


@pytest.mark.parametrize(
    "name", ["0.json", "01.json", "\u0663.json", "1.json.damaged-1", "1", "-1.json", "1.json\n"]
)
def test_other_names_are_no_attempts(name):
    assert layout.attempt_number(name) is None
