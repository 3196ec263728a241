"""Storages that a sweep cannot use: one line, exit code 2, no password on the screen, nothing written."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

BAD_URLS = {
    "sqlite:///studies.db": "SQLite can assign a trial twice",
    "mysql://me:secret@host/db": "--storage takes postgresql+psycopg://",
    "redis://localhost": "--storage takes postgresql+psycopg://",
    "postgresql+psycopg2://me:secret@host/db": "--storage takes postgresql+psycopg://",
    "postgresql+psycopg://me:secret@host:port/db": "got 'postgresql+psycopg://me:***@host:port/db'",
    "postgresql+psycopg://me:my@secret@host/db": "in a password, write @ / ? # as %40",
    "postgresql+psycopg://me:my/secret@host/db": "in a password, write @ / ? # as %40",
    "postgresql+psycopg2://host/db?user=me&password=secret": "db?user=me&password=***'",
    "studies.journal": "--storage takes",
    "grpc://": "--storage takes",
    "grpc://localhost:99999": "--storage takes",
}


@pytest.fixture
def refused(command, folder):
    """Return what is said of a storage that is refused."""

    def ask(url: str) -> str:
        before = sorted(folder.rglob("*"))
        answer = command("sweep", "quick_search", "--storage", url, "--trials", "1")
        (line,) = answer.err.splitlines()
        assert answer.code == 2
        assert answer.out == ""
        assert line.startswith("ema-lab: ")
        assert "secret" not in line
        assert sorted(folder.rglob("*")) == before
        return line

    return ask


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_is_no_storage_is_refused(refused, url):
    assert BAD_URLS[url] in refused(url)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("postgresql://me:secret@localhost/db", "psycopg", "postgresql"),
        ("grpc://localhost:13000", "grpc", "grpc"),
    ],
)
def test_a_package_that_is_not_installed_is_named(refused, monkeypatch, url, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    assert f"pip install 'ema-lab[{extra}]'" in refused(url)


@pytest.mark.system
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://ema_lab:wrong-secret@127.0.0.1:54329/postgres", "password authentication failed"),
        ("postgresql+psycopg://ema_lab:secret@127.0.0.1:54329/nowhere", 'database "nowhere" does not exist'),
        ("postgresql+psycopg://ema_lab:secret@127.0.0.1:9/postgres", "refused"),
        ("grpc://127.0.0.1:9", "no gRPC proxy answers in 2 s"),
    ],
)
def test_a_server_that_does_not_let_one_in_is_reported_with_its_words(
    refused, postgresql, monkeypatch, url, words
):
    monkeypatch.setattr("ema_lab.search.storage.CONNECT_SECONDS", 2)
    assert words in refused(url)


def test_a_store_that_cannot_be_written_is_reported_in_one_line():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        arguments = ["sweep", "quick_search", "--trials", "1", "--store", f"{folder}/runs"]
        program = [sys.executable, "-c", f"from ema_lab.cli.main import main; main({arguments!r})"]
        if os.geteuid() == 0:  # root may write anywhere, unless it gives that up
            program = ["setpriv", "--bounding-set=-dac_override", *program]
        answer = subprocess.run(program, capture_output=True, text=True, check=False)
        assert answer.returncode == 2
        (line,) = answer.stderr.splitlines()
        assert line.endswith("cannot be written: Permission denied")
        assert list(Path(folder).iterdir()) == []
