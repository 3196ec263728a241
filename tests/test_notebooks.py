"""Notebooks stay true: valid, without outputs, linked, and every cell runs in order."""

import ast
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from pages import DOCS, text_of

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[Any]:
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def run_cell(source: str, name: str, namespace: dict[str, Any]) -> Any:
    """Run a cell as a notebook does; return the value of its last line, if that is an expression."""
    tree = ast.parse(source, name)
    shown = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)
    value = None
    if isinstance(shown, ast.Expr):
        value = eval(compile(ast.Expression(shown.value), name, "eval"), namespace)
    return None if source.rstrip().endswith(";") else value


def test_there_are_three_notebooks_and_a_page_links_each():
    names = [path.name for path in NOTEBOOKS]
    assert names == ["first_ablation.ipynb", "own_module.ipynb", "store.ipynb"]
    assert all(f"(notebooks/{name})" in text_of(DOCS / "python.md") for name in names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_valid_and_has_no_output(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    assert {(cell.execution_count, len(cell.outputs)) for cell in cells(path, "code")} == {(None, 0)}
    assert cells(path, "markdown")[0].source.startswith("# ")
    assert all(len(line) <= 120 for kind in ("code", "markdown") for cell in cells(path, kind)
               for line in cell.source.splitlines())  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch, capsys):
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    values = []
    for number, cell in enumerate(cells(path, "code")):
        values.append(run_cell(cell.source, f"{path.stem}-{number}", namespace))
    sys.modules.pop("my_gate", None)
    matplotlib.pyplot.close("all")
    expected = {"first_ablation": (6, ()), "own_module": (6, ()), "store": True}[path.stem]
    assert expected in [value for value in values if isinstance(value, bool | tuple)]
    if path.stem == "own_module":
        assert ": passed\n" in capsys.readouterr().out
    assert set(namespace["frame"].status) == {"done"}
