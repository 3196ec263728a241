"""The table of mutants fits the code and the tests, and the check tells a killed mutant from all others."""

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the command lies beside this file
import mutants
from mutants import Mutant, Runner, Verdict, check_mutant, check_mutants, load_mutants

MUTANTS = load_mutants()
AREAS = {
    *("defaults", "ids", "fairness", "statistics", "store", "facts", "resume", "macs", "escaping", "tables"),
    "detection",
}


def test_every_area_has_mutants_and_every_mutant_a_name_of_its_own():
    names = Counter(mutant.name for mutant in MUTANTS)
    assert [name for name, count in names.items() if count > 1] == []
    assert len(MUTANTS) >= 180
    assert {mutant.area for mutant in MUTANTS} == AREAS
    assert [mutant.name for mutant in MUTANTS if not mutant.harm.endswith(".") or not mutant.tests] == []


def test_every_mutant_changes_one_place_of_the_code_and_leaves_a_program():
    assert {one.name: wrong for one in MUTANTS if (wrong := problem_of(one))} == {}


def problem_of(mutant: Mutant) -> str:
    """Return what is wrong with a mutant; empty for a right one."""
    source = (mutants.ROOT / mutants.PACKAGE / mutant.file).read_text(encoding="utf-8")
    mutated = mutant.applied(source)
    if mutated is None:
        return f"`before` occurs {source.count(mutant.before)} times: mend it in mutants.yaml"
    return "changes no code" if syntax(mutated) == syntax(source) else ""


@cache
def syntax(source: str) -> str:
    return ast.dump(ast.parse(source))


def test_the_tests_of_every_mutant_exist():
    tests = sorted({test for mutant in MUTANTS for test in mutant.tests})
    assert [test for test in tests if not is_there(mutants.ROOT, test)] == []


def is_there(root: Path, test: str) -> bool:
    """Return whether a file, or a test of a file, exists."""
    file, *names = test.split("::")
    if not (root / file).is_file():
        return False
    node: ast.AST = ast.parse((root / file).read_text(encoding="utf-8"))
    for name in names:
        named = {getattr(child, "name", None): child for child in ast.iter_child_nodes(node)}
        if name not in named:
            return False
        node = named[name]
    return True


def test_a_test_that_is_not_there_is_found():
    assert is_there(mutants.ROOT, "tests/store/test_store.py::TestState")
    assert not is_there(mutants.ROOT, "tests/store/test_store.py::TestStates")
    assert not is_there(mutants.ROOT, "tests/store/test_stores.py")


CODE = "LIMIT = 3\n\n\ndef below(number: int) -> bool:\n    return number < LIMIT\n"
TEST = "from ema_lab.rule import below\n\n\ndef test_two():\n    assert below(2)\n"


SLOW = """\
import os, time

def test_slow():
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.1)
"""


def made_up(before: str, after: str, *tests: str) -> Mutant:
    return Mutant("made-up", "store", "rule.py", before, after, "Nothing.", tests or ("tests/test_rule.py",))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """Return a small checkout with one rule and one test."""
    root = tmp_path_factory.mktemp("checkout").resolve()
    files = {
        "ema_lab/__init__.py": "",
        "ema_lab/rule.py": CODE,
        "tests/test_rule.py": TEST,
        "tests/test_wrong.py": "def test_wrong():\n    assert False\n",
        "tests/test_slow.py": SLOW,
        "breaking.py": "import pytest\n\n\ndef fail(*_):\n    raise RuntimeError\n\n\npytest.main = fail\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


@pytest.fixture(scope="module", autouse=True)
def _no_other_plugin() -> Iterator[None]:
    """Let the processes of the made-up checkout load the one plugin of pytest that they need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        patch.setenv("PYTEST_PLUGINS", "xdist.plugin")
        yield


@pytest.fixture(scope="module")
def runner(checkout):
    with Runner(checkout, ["pytest"]) as runner:
        yield runner


@pytest.mark.parametrize(
    ("mutant", "outcome"),
    [
        (made_up("number < LIMIT", "number > LIMIT"), "killed"),
        (made_up("number < LIMIT", "number <= LIMIT"), "survived"),
        (made_up("number < LIMITS", "number > LIMIT"), "not found"),
        (made_up("LIMIT", "MAX"), "not found"),
        (made_up("LIMIT = 3", "LIMIT = absent"), "no test ran"),
        (made_up("LIMIT = 3", "LIMIT = 4", "tests/test_rule.py::test_three"), "no test ran"),
    ],
)
def test_only_a_failing_test_kills(runner, mutant, outcome):
    assert check_mutant(runner, mutant, 600).outcome == outcome
    assert (runner.tree / "ema_lab/rule.py").read_text() == CODE


def test_tests_that_take_too_long_are_stopped(runner):
    mutant = made_up("LIMIT = 3", "LIMIT = 4", "tests/test_slow.py")
    assert check_mutant(runner, mutant, 0).outcome == "timed out"


def test_an_exception_of_pytest_itself_is_no_failing_test(checkout):
    with Runner(checkout, ["breaking"]) as runner:
        assert runner.exit_code(["tests/test_rule.py"]) == mutants.NO_PYTEST
        assert check_mutant(runner, made_up("number < LIMIT", "number > LIMIT"), 600).outcome == "no test ran"


def test_a_mutant_is_not_taken_for_the_compiled_original(checkout, tmp_path, monkeypatch):
    """Both have the same size, and may be written in the same second."""
    tree = Path(shutil.copytree(checkout, tmp_path / "tree"))
    path = tree / "ema_lab/rule.py"
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    with Runner(tree, ["pytest"]) as runner:
        os.utime(path, (time.time(), time.time()))
        assert runner.exit_code(["tests/test_rule.py"], show=True) == 0
        assert list(tree.glob("ema_lab/__pycache__/rule.*.pyc"))
        assert check_mutant(runner, made_up("number < LIMIT", "number > LIMIT"), 600).outcome == "killed"


@pytest.mark.slow
def test_a_checkout_stays_as_it_is_and_only_a_copy_is_changed(checkout):
    mutant = made_up("number < LIMIT", "number > LIMIT")
    [verdict] = check_mutants(checkout, [mutant], preloaded=())
    assert verdict.outcome == "killed"
    assert (checkout / "ema_lab/rule.py").read_text() == CODE


def test_tests_that_fail_without_a_mutant_prove_nothing(checkout):
    mutant = made_up("number < LIMIT", "number > LIMIT", "tests/test_wrong.py")
    with pytest.raises(mutants.RequestError, match="fail without any mutant"):
        list(check_mutants(checkout, [mutant], preloaded=()))


def test_an_unknown_mutant_is_named(capsys):
    assert mutants.main(["adamw-beta3"]) == 2
    assert "no mutant is named adamw-beta3" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("outcomes", "code"), [(["killed", "killed"], 0), (["killed", "survived"], 1)])
def test_a_surviving_mutant_is_printed_with_its_harm(monkeypatch, capsys, outcomes, code):
    chosen = [MUTANTS[1].name, MUTANTS[0].name]
    verdicts = list(map(Verdict, MUTANTS[:2], outcomes))
    monkeypatch.setattr(mutants, "check_mutants", lambda *_, **__: reversed(verdicts))
    assert mutants.main(chosen) == code
    *lines, told = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{outcomes[1]:11} {MUTANTS[1].name} (0.0 s)"
    assert told == (
        "2 of 2 mutants are killed" if not code else f"  survived: {chosen[0]}: {MUTANTS[1].harm}"
    )
    assert mutants.main([*chosen, "--json"]) == code
    records = json.loads(capsys.readouterr().out)
    assert [record["outcome"] for record in records] == outcomes  # in the order of the table


@pytest.mark.slow
def test_mutants_are_chosen_by_name_and_area(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(mutants, "check_mutants", lambda _, chosen, **__: asked.append(chosen) or [])
    assert mutants.main(["--area", "resume"]) == 0
    assert {mutant.area for mutant in asked[0]} == {"resume"}
    assert mutants.main([asked[0][0].name, "--area", "macs"]) == 2
    assert "no mutant is left" in capsys.readouterr().err
