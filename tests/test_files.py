"""Files are there whole or not at all."""

import os
from pathlib import Path

import pytest

from ema_lab.files import (
    NotRegularFileError,
    atomic_write,
    quarantine_file,
    read_bytes,
    read_part,
    remove_leftovers,
    write_text,
)


def test_a_file_appears_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "a.json"
    with atomic_write(path) as partial:
        partial.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.json"
    write_text(path, "old")

    def fail():
        with atomic_write(path) as partial:
            partial.write_text("new")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("durable", [True, False])
def test_only_what_must_outlast_a_power_cut_is_flushed(tmp_path, monkeypatch, durable):
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    write_text(tmp_path / "a", "text", durable=durable)
    assert bool(flushed) is durable


def test_what_cannot_be_read_is_renamed_and_never_overwritten(tmp_path):
    names = []
    for text in ("one", "two"):
        (tmp_path / "a.ckpt").write_text(text)
        names.append(quarantine_file(tmp_path / "a.ckpt").name)
    assert names == ["a.ckpt.damaged-1", "a.ckpt.damaged-2"]
    assert (tmp_path / "a.ckpt.damaged-1").read_text() == "one"


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    for name in ("record.json.12.partial", "record.json", "partial"):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["partial", "record.json"]


class TestReading:
    def test_gives_the_content(self, tmp_path):
        (tmp_path / "a").write_bytes(b"abc")
        assert read_bytes(tmp_path / "a", 3) == b"abc"

    @pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["a pipe", "a folder"])
    def test_never_waits_for_what_is_no_file(self, tmp_path, make):
        make(tmp_path / "a")
        with pytest.raises(NotRegularFileError):
            read_bytes(tmp_path / "a")

    def test_has_a_limit(self, tmp_path):
        (tmp_path / "a").write_bytes(b"abcd")
        with pytest.raises(NotRegularFileError) as caught:
            read_bytes(tmp_path / "a", 3)
        assert caught.value.strerror == "it has 4 B, more than 3"

    def test_gives_all_of_a_file_that_tells_no_size(self):
        assert read_bytes("/proc/self/status").startswith(b"Name:")
        assert b"Threads:" in read_bytes("/proc/self/status")

    def test_gives_a_part_from_either_end(self, tmp_path):
        (tmp_path / "a").write_bytes(b"abcd")
        assert [read_part(tmp_path / "a", size) for size in (0, 3, 9)] == [b"", b"abc", b"abcd"]
        assert [read_part(tmp_path / "a", size, at_end=True) for size in (3, 9)] == [b"bcd", b"abcd"]

    @pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["a pipe", "a folder"])
    def test_gives_no_part_of_what_is_no_file(self, tmp_path, make):
        make(tmp_path / "a")
        with pytest.raises(NotRegularFileError):
            read_part(tmp_path / "a", 3)

    def test_leaves_no_file_open(self, tmp_path):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with pytest.raises(NotRegularFileError):
                read_bytes(tmp_path)
        assert len(os.listdir("/proc/self/fd")) == before


def test_setting_aside_takes_a_link_to_nowhere_for_a_file(tmp_path):
    (tmp_path / "a.damaged-1").symlink_to("nowhere")
    (tmp_path / "a").write_text("x")
    assert quarantine_file(tmp_path / "a").name == "a.damaged-2"


def test_content_is_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    path, seen = tmp_path / "record.json", []
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(path.read_text()))
    write_text(path, "new")
    assert (seen, path.read_text()) == (["old"], "new")
