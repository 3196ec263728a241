"""The example in the docstring of every public name runs, and prints what it says."""

import doctest
import inspect
from pathlib import Path

import pytest
import torch

import ema_lab

REAL = ("audit_claims", "execute", "load_model", "train_run")  # they train or count large models: slow
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run_example(name: str) -> int:
    """Run the example of a public name; return the number of its lines."""
    text = inspect.getdoc(getattr(ema_lab, name)) or ""
    globs = {"ema_lab": ema_lab, "torch": torch, "Path": Path}
    example = doctest.DocTestParser().get_doctest(text, globs, name, None, None)
    report: list[str] = []
    failed = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=report.append).failed
    assert not failed, "".join(report)
    return len(example.examples)


@pytest.mark.parametrize("name", [name for name in ema_lab.__all__ if name not in REAL])
def test_the_example_of_a_public_name_runs(trained, name):
    assert run_example(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_the_example_of_a_public_name_trains(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert run_example(name)
