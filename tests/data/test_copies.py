"""Making of resized copies beforehand: what is missing, made, kept and not needed, and every fault."""

import errno
import os
import signal

import numpy as np
import pytest
from PIL import Image

from ema_lab.data import copies as copies_module
from ema_lab.data.copies import Copies, CopyCounts, MissingCopies, make_copies
from ema_lab.data.resized import ResizedFiles
from ema_lab.errors import DataError, WorkersDiedError
from ema_lab.execution.threads import available_cores

SIDE = 40
LARGE, SMALL = (90, 60), (30, 44)  # columns, rows


@pytest.fixture
def copies(tmp_path):
    """Write twelve images of two classes, every third of them small enough without a copy."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "set" / "train"
    names = []
    for number in range(12):
        name = f"{('crow', 'owl')[number % 2]}/{number:02}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        coarse.resize(SMALL if number % 3 == 0 else LARGE).save(folder / name)
        names.append(os.fsencode(name))
    return Copies(ResizedFiles(folder, SIDE), np.array(sorted(names)))


def sizes(copies):
    return {path: path.stat().st_size for path in copies.files.cache.rglob("*") if path.is_file()}


def again(copies):
    """Return the same copies, of which nothing is known yet."""
    return Copies(copies.files, copies.names)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_copy_is_made_once_by_any_number_of_processes(copies, workers):
    seen = []
    made = make_copies(copies, workers, seen.append)
    found = sizes(copies)
    assert (made.made, made.kept, made.small) == (8, 0, 4)
    assert (len(found), sum(found.values())) == (8, made.size)
    assert seen[-1] == len(copies) == 12
    assert make_copies(copies, workers) == CopyCounts(copies, 0, 8, 4, made.size)


def test_the_copies_are_those_that_training_makes(copies):
    make_copies(copies)
    made = {path: path.read_bytes() for path in sizes(copies)}
    for path in made:
        path.unlink()
    for name in copies.names:
        copies.files.pixels(os.fsdecode(name))
    assert {path: path.read_bytes() for path in sizes(copies)} == made


def test_what_is_there_is_kept_and_what_is_damaged_or_old_is_made_anew(copies):
    make_copies(copies)
    before = sizes(copies)
    cut, old, *_ = sorted(before)
    cut.write_bytes(cut.read_bytes()[:-9])
    original = copies.files.folder / old.relative_to(copies.files.cache).with_suffix("")
    os.utime(original, (1, 1))
    made = make_copies(copies)
    assert (made.made, made.kept, made.small) == (2, 6, 4)


class TestMissing:
    def test_copies_are_estimated_from_a_sample(self, copies, monkeypatch):
        monkeypatch.setattr(copies_module, "SAMPLE", 6)
        made = make_copies(copies)
        for path in sizes(copies):
            path.unlink()
        missing = again(copies).missing
        assert missing.images == pytest.approx(made.made, rel=0.5)
        assert missing.size == pytest.approx(made.size, rel=0.5)
        monkeypatch.setattr(copies_module, "SAMPLE", 64)
        assert again(copies).missing.images == made.made
        assert again(copies).missing.size == pytest.approx(made.size, rel=0.05)  # without their first lines

    def test_copies_that_are_there_and_small_images_are_none(self, copies):
        make_copies(copies)
        assert again(copies).missing == MissingCopies(0, 0)
        next(iter(sizes(copies))).unlink()
        assert again(copies).missing.images > 0

    def test_an_estimate_writes_nothing_and_passes_over_a_damaged_image(self, copies):
        (copies.files.folder / "crow" / "02.jpg").write_bytes(b"no image")
        assert copies.missing.images == 7
        assert not copies.files.cache.exists()


class TestFaults:
    def test_damaged_images_are_named_after_all_others_have_their_copies(self, copies):
        damaged = copies.files.folder / "crow" / "02.jpg"
        damaged.write_bytes(b"no image")
        made = make_copies(copies)
        assert (made.made, made.small) == (7, 4)
        [(name, problem)] = made.broken
        assert name == str(damaged)
        assert problem.startswith(f"{damaged} cannot be decoded")

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_full_disk_ends_it_and_what_was_made_stays(self, copies, monkeypatch, workers):
        monkeypatch.setattr(copies_module, "BATCH", 1)
        write = copies_module.ResizedFiles.ensure

        def ensure(files, name):
            if name.startswith("owl"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(files, name)

        monkeypatch.setattr(ResizedFiles, "ensure", ensure)
        rule = r"train-resized-40: copies cannot be written: No space left on device; the copies made so far"
        with pytest.raises(DataError, match=rule):
            make_copies(copies, workers)
        assert len(sizes(copies)) == 4

    def test_a_killed_process_ends_it_and_what_was_made_stays(self, copies, monkeypatch):
        parent = os.getpid()

        def kill(files, name):
            assert os.getpid() != parent
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(ResizedFiles, "ensure", kill)
        with pytest.raises(WorkersDiedError, match=r"a process was killed.*; the copies made so far stay"):
            make_copies(copies, 2)

    def test_torch_may_tell_of_a_killed_process_on_any_line(self, copies):
        told = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

        def handler(number):  # torch's, of SIGCHLD, raises on whichever line the program is
            raise told

        with pytest.raises(WorkersDiedError, match="a process was killed") as caught:
            make_copies(copies, 1, handler)
        assert caught.value.__cause__ is told

    @pytest.mark.parametrize("workers", [1, 2])
    def test_another_error_is_no_killed_process(self, copies, monkeypatch, workers):
        def fail(files, name):
            raise RuntimeError("another fault")

        monkeypatch.setattr(ResizedFiles, "ensure", fail)
        with pytest.raises(RuntimeError, match="another fault"):
            make_copies(copies, workers)

    def test_a_reason_without_a_number_is_told(self, copies, monkeypatch):
        def fail(files, name):
            raise OSError("encoder error -2 when writing image file")  # as Pillow raises it

        monkeypatch.setattr(ResizedFiles, "ensure", fail)
        with pytest.raises(DataError, match="copies cannot be written: encoder error -2"):
            make_copies(copies)

    def test_more_processes_than_cores_are_no_reason_for_a_warning(self, copies):
        assert make_copies(copies, available_cores() + 1).made == 8

    def test_a_folder_that_cannot_be_made_is_named(self, copies):
        copies.files.cache.write_text("a file in the place of the folder")
        with pytest.raises(DataError, match=r"copies cannot be written: (File exists|Not a directory)"):
            make_copies(copies)
