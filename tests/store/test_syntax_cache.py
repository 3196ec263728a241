"""The cache of syntax hashes gives what parsing gives, and nothing that is damaged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ema_lab.store.syntax import package_syntax
from ema_lab.store.syntax_cache import MOST_ENTRIES, SyntaxCache, cache_file

SYNTAX = ("0123", ((0, "os"), (1, "")))


def never(text: str):
    raise AssertionError(text)


@pytest.fixture(autouse=True)
def writes_bytecode(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "cache.json"


def written(path: Path, *texts: str) -> None:
    cache = SyntaxCache(path)
    for text in texts:
        cache.get(text, lambda _: SYNTAX)
    cache.write()


def test_a_file_is_parsed_once_by_all_processes(path):
    written(path, "a = 1")
    assert SyntaxCache(path).get("a = 1", never) == SYNTAX


def test_an_edited_file_is_parsed_again(path):
    written(path, "a = 1")
    assert SyntaxCache(path).get("a = 2", lambda _: ("other", ())) == ("other", ())


def test_entries_of_several_processes_are_kept(path):
    first, second = SyntaxCache(path), SyntaxCache(path)
    for cache, text in ((first, "a"), (second, "b")):
        cache.get(text, lambda _: SYNTAX)
    first.write()
    second.write()
    assert [SyntaxCache(path).get(text, never) for text in "ab"] == [SYNTAX, SYNTAX]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-10],
        lambda content: content.replace(b"0123", b"0124"),
        lambda content: b"\xff" + content,
        lambda content: b"[" * 100_000,
    ],
)
def test_a_damaged_cache_is_not_believed_and_is_written_anew(path, damage):
    written(path, "a")
    path.write_bytes(damage(path.read_bytes()))
    assert SyntaxCache(path).get("a", lambda _: ("new", ())) == ("new", ())
    written(path, "a")
    assert SyntaxCache(path).get("a", never) == SYNTAX


def test_the_oldest_entries_go_first(path):
    written(path, *(f"a = {number}" for number in range(MOST_ENTRIES + 1)))
    kept = SyntaxCache(path)
    assert kept.get("a = 0", lambda _: ("gone", ())) == ("gone", ())
    assert kept.get("a = 1", never) == kept.get(f"a = {MOST_ENTRIES}", never) == SYNTAX


def test_no_folder_no_cache(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for path in (None, file / "cache.json"):
        cache = SyntaxCache(path)
        assert cache.get("a", lambda _: SYNTAX) == SYNTAX
        cache.write()
    assert file.read_bytes() == b""


def test_whoever_wants_no_bytecode_gets_no_cache(path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written(path, "a")
    assert not path.parent.exists()


def test_the_file_is_named_after_the_hashing_code(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = tmp_path / "code.py"
    code.write_text("a = 1")
    first = cache_file(code)
    assert first.is_relative_to(tmp_path / "ema-lab")
    code.write_text("a = 2")
    assert cache_file(code) != first
    assert cache_file(tmp_path / "absent.py") is None


def test_the_package_has_the_same_hashes_with_and_without_the_cache(tmp_path):
    code = "from ema_lab.store.source import source_hashes\nfrom ema_lab.specs.run import RunSpec\n"
    code += "from ema_lab.ablation.ablation import load_ablation\n"
    code += "print(source_hashes(load_ablation('quickstart').runs()[0]))"
    given = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    given.pop("PYTHONDONTWRITEBYTECODE", None)
    process = [sys.executable, "-c", code]
    outputs = [subprocess.run(process, env=given, check=True, capture_output=True).stdout for _ in range(2)]
    assert outputs[0] == outputs[1] != b""
    (file,) = (tmp_path / "ema-lab").iterdir()
    assert len(SyntaxCache(file)._known) > 20


def test_syntax_is_that_of_the_text():
    assert package_syntax("import os  # why\n") == package_syntax("import os\n")
    assert package_syntax("import os\n")[1] == ((0, "os"),)
