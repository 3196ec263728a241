"""Repositories in a record: each one that holds a source of the run, without a path of the machine."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from ema_lab.store import repository
from ema_lab.store.imports import PACKAGE_FOLDER, Source
from ema_lab.store.repository import repositories

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "commit.gpgsign=false")


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *IDENTITY, "-C", str(root), *arguments], capture_output=True, check=True)
    return done.stdout.decode().strip()


@pytest.fixture(autouse=True)
def _new_process():
    repository._state.cache_clear()
    yield
    repository._state.cache_clear()


@pytest.fixture
def study(tmp_path):
    """Return the root of a user's repository, which holds `gates/gate.py` in its only commit."""
    root = tmp_path / "study"
    (root / "gates").mkdir(parents=True)
    (root / "gates" / "gate.py").write_text("x = 1\n")
    (root / "notes.txt").write_text("notes\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def found(root: Path, name: str = "gates/gate.py") -> dict[str, dict[str, str | None]]:
    """Return the repositories of a run that uses one file, without the package's own."""
    repository._state.cache_clear()
    everything = repositories([Source(root / name, "gate", root)])
    return {key: value for key, value in everything.items() if key not in repositories([])}


def test_a_users_repository_is_named_with_its_commit(study):
    assert found(study) == {"study": {"commit": git(study, "rev-parse", "HEAD"), "dirty_sha256": None}}


def test_a_change_of_a_file_that_the_run_uses_is_reported_by_a_hash(study):
    (study / "gates" / "gate.py").write_text("x = 2\n")
    one = found(study)["study"]
    (study / "gates" / "gate.py").write_text("x = 3\n")
    other = found(study)["study"]
    assert one["commit"] == other["commit"] == git(study, "rev-parse", "HEAD")
    assert len({one["dirty_sha256"], other["dirty_sha256"], None}) == 3
    git(study, "add", "-A")
    assert found(study)["study"] == other


def test_a_change_of_another_file_is_none_of_the_runs(study):
    (study / "notes.txt").write_text("more notes\n")
    (study / "new.py").write_text("y = 1\n")
    assert found(study)["study"]["dirty_sha256"] is None


def test_a_file_that_is_not_committed_is_reported_by_a_hash(study):
    (study / "new.py").write_text("y = 1\n")
    changes = b"new.py\0y = 1\n"
    assert found(study, "new.py")["study"]["dirty_sha256"] == hashlib.sha256(changes).hexdigest()[:16]


def test_a_repository_without_a_commit_has_a_hash_alone(study, tmp_path):
    root = tmp_path / "new"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "gate.py").write_text("x = 1\n")
    git(root, "init", "-q")
    one = found(root, "sub/gate.py")["new"]
    git(root, "add", "-A")
    assert found(root, "sub/gate.py")["new"] == one
    assert one["commit"] is None
    assert len(one["dirty_sha256"]) == 16


def test_two_repositories_of_one_name_are_distinguished(study, tmp_path):
    twin = tmp_path / "twin" / "study"
    twin.mkdir(parents=True)
    (twin / "data.py").write_text("x = 1\n")
    git(twin, "init", "-q")
    sources = [Source(study / "gates/gate.py", "gate", study), Source(twin / "data.py", "data", twin)]
    assert repositories(sources).keys() - repositories([]).keys() == {"study", "study (2)"}


def test_what_is_in_no_repository_or_installed_inside_one_belongs_to_none(study, tmp_path):
    (tmp_path / "loose.py").write_text("x = 1\n")
    assert found(tmp_path, "loose.py") == {}
    installed = study / ".venv" / "lib" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "plugin.py").write_text("x = 1\n")
    assert found(installed, "plugin.py") == {}


def test_our_own_repository_counts_whole():
    root = next((folder for folder in PACKAGE_FOLDER.parents if (folder / ".git").exists()), None)
    expected = {root.name: git(root, "rev-parse", "HEAD")} if root is not None else {}
    assert {name: state["commit"] for name, state in repositories([]).items()} == expected


def test_without_git_nothing_is_known_and_nothing_fails(study, monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert found(study) == {"study": {"commit": None, "dirty_sha256": None}}


def test_reading_starts_no_program_that_the_repository_names(study):
    (study / "gates" / "gate.py").write_text("x = 2\n")
    for key in ("diff.external", "core.fsmonitor", "diff.x.textconv"):
        git(study, "config", key, f"touch {study / 'started'}; true")
    (study / ".gitattributes").write_text("*.py diff=x\n")
    assert found(study)["study"]["dirty_sha256"] is not None
    assert not (study / "started").exists()


def test_another_repository_in_the_environment_is_not_asked(study, tmp_path, monkeypatch):
    expected = found(study)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert found(study) == expected


def test_a_repository_is_reported_as_it_was_when_it_was_first_asked_for(study):
    gate = [Source(study / "gates/gate.py", "gate", study)]
    before = repositories(gate)
    git(study, "commit", "-q", "--allow-empty", "-m", "second")
    assert repositories(gate) == before
