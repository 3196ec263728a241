"""Resized images made in advance, and what `plan --check` and `run` say of data before the first epoch."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tiny import rates

from ema_lab.ablation.ablation import load_ablation
from ema_lab.data import packing, resized
from ema_lab.data.load import load_splits
from ema_lab.specs.run import DataSpec
from ema_lab.training.disk import disk_need
from ema_lab.workflow.train.pack import shards_of

STUCK = """
import time
from ema_lab.cli.main import main
from ema_lab.data.resized import ResizedFiles

ensure = ResizedFiles.ensure

def ensure_crows(files, name):
    if name.startswith("owl"):
        time.sleep(600)
    return ensure(files, name)

ResizedFiles.ensure = ensure_crows
main()
"""
BIRDS = """\
name: birds
base:
  model: {{backbone: resnet20}}
  data: {{name: imagefolder, folder: birds, classes: 2, train_images: {train}, test_images: 4, image_size: 16,
          shorter_side: 24}}
  recipe: {{epochs: 1, batch_size: 4, optimizer: {{name: sgd, lr: 0.1}}}}
seeds: [0, 1]
baseline: none
variants:
  none: {{model.attention: none}}
  se: {{model.attention: {{name: se, reduction: 4}}}}
"""
OWN = """\
from ema_lab.data.image_folder import image_folder_splits

FACTS = {"classes": 2, "channels": 3, "image_size": 16, "train_images": 8, "test_images": 4,
         "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def birds(root):
    return image_folder_splits(root / "birds", image_size=16, shorter_side=24)
"""
COUNTS = ("images", "made", "kept", "small")


def write_birds(folder: Path, count: int = 4) -> None:
    """Write `count` training and two test images of each of two classes; the first of a class is small."""
    generator = np.random.default_rng(0)
    for split, number in (("train", count), ("val", 2)):
        for name in ("crow", "owl"):
            path = folder / "data" / "birds" / split / name
            path.mkdir(parents=True)
            for place in range(number):
                coarse = Image.fromarray(generator.integers(0, 256, (7, 9, 3), dtype=np.uint8))
                coarse.resize((60, 45) if place else (30, 20)).save(path / f"{place}.jpg")
    (folder / "ablations" / "birds.yaml").write_text(BIRDS.format(train=2 * count))


@pytest.fixture
def birds(folder):
    """Write a data set of resized images and its ablation, and return the folder of the data set."""
    write_birds(folder)
    return Path("data") / "birds"


def copies(birds):
    return sorted(path for path in birds.rglob("*.jpeg") if path.is_file())


class TestPrepare:
    def test_makes_the_copies_of_both_splits_and_then_keeps_them(self, command, birds):
        answer = command("prepare", "birds", "--workers", "1")
        size = sum(path.stat().st_size for path in copies(birds))
        assert (answer.code, len(copies(birds))) == (0, 8)
        assert "birds: 8 copies made, 0 kept, 4 images small enough without a copy; " in answer.err
        rows = json.loads(command("prepare", "birds", "--workers", "2", "--json").out)
        assert [[row[key] for key in COUNTS] for row in rows] == [[8, 0, 6, 2], [4, 0, 2, 2]]
        assert sum(row["bytes"] for row in rows) == size
        assert rows[0]["copies"] == "data/birds/.train-resized-24"

    def test_goes_on_with_what_is_missing(self, command, birds):
        command("prepare", "birds", "--workers", "1")
        copies(birds)[0].unlink()
        assert "birds: 1 copy made, 7 kept" in command("prepare", "birds", "--workers", "1").err

    def test_chosen_rows_and_changes_decide_what_is_made(self, command, birds):
        words = ("--set", "data.shorter_side=30", "--only", "variant=se", "--workers", "1")
        assert command("prepare", "birds", *words).code == 0
        assert {path.parts[2] for path in copies(birds)} == {".train-resized-30", ".val-resized-30"}

    def test_a_subset_of_the_training_images_needs_no_other_copies(self, command, birds, folder):
        (folder / "own.py").write_text(OWN)
        path = folder / "ablations" / "birds.yaml"
        text = path.read_text()
        data = text[text.index("{name: imagefolder") : text.index("  recipe")]
        path.write_text(text.replace(data, "{name: 'own:birds', train_images: 4, val_images: 2}\n"))
        rows = json.loads(command("prepare", "birds", "--workers", "1", "--json").out)
        assert [row["images"] for row in rows] == [6, 4]

    def test_nothing_to_prepare_is_one_line(self, command, tree):
        before = tree()
        answer = command("prepare", "tiny")
        assert (answer.code, tree()) == (2, before)
        assert answer.err.startswith(
            "ema-lab: tiny: no run reads resized images: there is nothing to prepare"
        )

    def test_nothing_to_prepare_downloads_nothing(self, command, birds, monkeypatch):
        monkeypatch.setattr("ema_lab.tasks.task.check_data", lambda data, root: pytest.fail("is read"))
        answer = command("prepare", "birds", "--set", "data={name: cifar10}")
        assert (answer.code, "no run reads resized images" in answer.err) == (2, True)

    def test_a_list_of_images_has_its_copies_beside_its_folder(self, command, birds, folder):
        for split, name in (("train", "train.csv"), ("val", "test.csv")):
            files = sorted((birds / split).rglob("*.jpg"))
            lines = [f"{path.relative_to(birds)},{path.parent.name}" for path in files]
            (birds / name).write_text("\n".join(["path,label", *lines]) + "\n")
        answer = command("prepare", "birds", "--set", "data.name=csv", "--workers", "1", "--shards", "packed")
        found = list((folder / "data" / ".birds-resized-24").rglob("*.jpeg"))
        assert (answer.code, len(found)) == (0, 8)
        assert (folder / "data" / "packed" / "train-000000.tar").is_file()

    def test_damaged_images_are_named_when_the_others_have_their_copies(self, command, birds):
        for name in ("train/crow/1.jpg", "val/owl/1.jpg"):
            (birds / name).write_bytes(b"\xff\xd8\xff no image \xff\xd9")
        answer = command("prepare", "birds", "--workers", "1")
        assert (answer.code, answer.err.count("\n"), len(copies(birds))) == (2, 1, 6)
        assert "birds: 2 of 12 images cannot be read: data/birds/train/crow/1.jpg cannot be" in answer.err
        assert "; and 1 more: data/birds/val/owl/1.jpg; replace or remove them" in answer.err

    def test_a_disk_that_is_too_small_is_found_before_the_first_copy(self, command, birds, monkeypatch):
        monkeypatch.setattr("ema_lab.training.disk.free_bytes", lambda root: 100)
        answer = command("prepare", "birds")
        assert (answer.code, copies(birds)) == (2, [])
        assert "the disk of data/birds is too small: resized copies of 8 images take about" in answer.err
        assert "100 B free; free some, name another folder by --data" in answer.err

    def test_a_disk_that_fills_up_says_so_and_keeps_what_was_made(self, command, birds, monkeypatch):
        write = resized._write

        def write_some(copy, sealed):
            if copy.name == "3.jpg.jpeg":
                raise OSError(28, "No space left on device")
            write(copy, sealed)

        monkeypatch.setattr(resized, "_write", write_some)
        answer = command("prepare", "birds", "--workers", "1")
        assert (answer.code, answer.err.count("\n"), len(copies(birds))) == (2, 1, 4)
        assert "copies cannot be written: No space left on device; the copies made so far stay" in answer.err

    def test_images_in_a_folder_that_cannot_be_written_get_copies_beside_links(
        self, command, birds, fake_training, monkeypatch
    ):
        fake_training()
        others = Path("others")
        birds.rename(others)
        birds.mkdir()
        monkeypatch.setattr("os.access", lambda path, mode: "others" not in str(path))
        away = ("--set", "data.folder=../others", "--workers", "1")
        rule = "a folder of your own with links to train and the others in it takes them"
        answer = command("prepare", "birds", *away)
        assert answer.code == 2
        assert answer.err == f"ema-lab: resized copies cannot be kept beside data/../others/train: {rule}\n"
        said = command("run", "birds", "--device", "cpu", *away).err
        assert f"others/train: {rule}; until then images are resized in every epoch\n" in said
        assert "the first epoch makes" not in said
        for split in ("train", "val"):
            (birds / split).symlink_to(others.absolute() / split)
        assert command("prepare", "birds", "--workers", "1").code == 0
        assert {path.parts[2] for path in copies(birds)} == {".train-resized-24", ".val-resized-24"}

    def test_a_long_silence_is_broken_by_lines_without_a_terminal(self, command, birds, monkeypatch):
        monkeypatch.setattr("ema_lab.cli.progress.PLAIN_SECONDS", -1.0)
        said = command("prepare", "birds", "--workers", "1").err
        assert "8 of 12 images resized\n12 of 12 images resized\n" in said

    @pytest.mark.slow
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    def test_a_stop_loses_no_copy(self, command, folder, number, code):
        write_birds(folder, 150)
        words = [sys.executable, "-c", STUCK, "prepare", "birds", "--workers", "2"]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
        end = time.monotonic() + 90
        birds = Path("data") / "birds"
        while len(copies(birds)) < 149:  # all of the first class but the small image
            assert time.monotonic() < end
            time.sleep(0.01)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        _, said = process.communicate(timeout=90)
        assert len(copies(birds)) == 149
        assert (process.returncode, "Traceback" in said) == (code, False)
        assert "; the resized copies made so far are kept\n" in said
        assert not list(birds.rglob("*.partial"))
        (row, _) = json.loads(command("prepare", "birds", "--json").out)
        assert (row["kept"], row["made"]) == (149, 149)


class TestShards:
    def test_are_read_by_the_printed_line_with_the_same_pixels(self, command, birds):
        words = ("--workers", "1", "--set", "data.val_images=2")
        answer = command("prepare", "birds", *words, "--shards", "small/birds-24")
        [line] = [line for line in answer.out.splitlines() if line.startswith("data: ")]
        data = DataSpec.model_validate(yaml.safe_load(line)["data"])
        assert (answer.code, data.name, data.val_images) == (0, "shards", 2)
        (spec, *_) = load_ablation("birds").runs()
        expected, found = load_splits(spec.data, Path("data")), load_splits(data, Path("data"))
        for part in ("train", "test"):
            one, other = getattr(expected, part), getattr(found, part)
            assert one.labels.tolist() == other.labels.tolist()
            assert all(np.array_equal(one.pixels(i), other.pixels(i)) for i in range(len(one.labels)))
        assert "recipe.normalise" not in answer.out

    def test_of_a_data_set_with_statistics_of_its_own_print_them(self, command, birds, folder):
        (folder / "own.py").write_text(OWN)
        own = ("--set", "data={name: 'own:birds'}")
        answer = command("prepare", "birds", *own, "--shards", "birds-24", "--workers", "1")
        assert answer.code == 0
        assert answer.out.endswith("\nrecipe.normalise: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}\n")

    def test_a_folder_that_is_there_and_several_data_sets_are_refused_before_any_copy(self, command, birds):
        answer = command("prepare", "birds", "--shards", "birds")
        assert (answer.code, copies(birds)) == (2, [])
        assert "--shards writes a new folder, and data/birds is there: name another" in answer.err
        path = Path("ablations") / "birds.yaml"
        path.write_text(path.read_text() + "axes: {data.shorter_side: [24, 30]}\n")
        answer = command("prepare", "birds", "--shards", "packed")
        assert (answer.code, copies(birds)) == (2, [])
        assert "takes the resized images of one data set, and the runs read 2: choose rows" in answer.err

    def test_a_stop_or_a_full_disk_leaves_no_part_of_them(self, command, birds, monkeypatch):
        before = sorted(Path("data").iterdir())
        for error, code in ((KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 2)):

            def fail(shard, name, content, error=error):
                if name.startswith("00000003"):
                    raise error

            monkeypatch.setattr(packing, "_add", fail)
            answer = command("prepare", "birds", "--shards", "packed", "--workers", "1")
            assert (answer.code, sorted(Path("data").iterdir())) == (code, before)
        assert answer.err == "ema-lab: data/packed: shards cannot be written: No space left on device\n"
        assert len(copies(birds)) == 8

    def test_a_disk_without_their_space_is_found_before_the_first_copy(self, command, birds, monkeypatch):
        words = ("prepare", "birds", "--workers", "1", "--shards")
        monkeypatch.setattr("ema_lab.training.disk.free_bytes", lambda root: 30_000)
        answer = command(*words, "packed")
        assert (answer.code, copies(birds)) == (2, [])
        both = "resized copies of 8 images and shards of 12 images take about"
        assert f"the disk of data/birds is too small: {both}" in answer.err
        monkeypatch.setattr("ema_lab.training.disk.free_bytes", lambda root: 10**9)
        command("prepare", "birds", "--workers", "1")
        monkeypatch.setattr("ema_lab.workflow.train.pack.free_bytes", lambda root: 12 * 2048)
        answer = command(*words, "packed")
        assert answer.code == 2
        assert "the disk of data is too small: shards of 12 images take about" in answer.err

    def test_the_space_that_is_checked_is_what_they_take(self, command, birds):
        need = shards_of(load_ablation("birds").runs(), Path("data"), "packed").need
        command("prepare", "birds", "--shards", "packed", "--workers", "1")
        size = sum(path.stat().st_size for path in Path("data/packed").glob("*.tar"))
        assert need.needed == pytest.approx(size, rel=0.4)
        assert need.needed > 12 * 2048

    def test_the_lines_are_data_for_a_program_too(self, command, birds):
        words = ("--workers", "1", "--shards")
        rows = json.loads(command("prepare", "birds", "--json", *words, "packed").out)
        assert [row["reads"]["data"]["folder"] for row in rows] == ["packed", "packed"]
        quiet = command("-q", "prepare", "birds", *words, "again")
        assert (quiet.err, "\ndata: {name: shards, folder: again," in quiet.out) == ("", True)

    @pytest.mark.parametrize("name", ["/tmp/packed", "../packed", "birds/../packed", ""])
    def test_a_folder_that_is_not_below_the_data_is_refused(self, command, birds, name):
        answer = command("prepare", "birds", "--shards", name)
        assert (answer.code, copies(birds)) == (2, [])
        assert answer.err == f"ema-lab: --shards names a folder below --data, got {name!r}\n"

    def test_are_made_on_the_disk_that_will_hold_them(self, command, birds, folder, monkeypatch):
        (folder / "away").mkdir()
        (folder / "data" / "link").symlink_to(folder / "away")
        rename, places = os.rename, []
        monkeypatch.setattr(
            "ema_lab.workflow.train.pack.os.rename",
            lambda old, new: places.append((Path(old), Path(new))) or rename(old, new),
        )
        assert command("prepare", "birds", "--shards", "link/new/packed", "--workers", "1").code == 0
        [(old, new)] = places
        assert (old.parent.parent, new) == (folder / "data" / "link", Path("data/link/new/packed"))
        assert sorted(path.name for path in (folder / "away").iterdir()) == ["new"]

    def test_rows_that_differ_in_their_split_are_several_data_sets(self, command, birds):
        path = Path("ablations") / "birds.yaml"
        path.write_text(path.read_text() + "axes: {data.val_images: [2, 4]}\n")
        answer = command("prepare", "birds", "--shards", "packed")
        assert (answer.code, copies(birds)) == (2, [])
        assert "takes the resized images of one data set, and the runs read 2" in answer.err

    @pytest.mark.parametrize(
        ("task", "options", "message"),
        [
            (
                "classification",
                ", train_images: 4",
                "all images of a data set, and data.train_images chooses 4",
            ),
            (
                "classification",
                ", train_images: 4, split_seed: 3",
                "all images of a data set, and data.train",
            ),
            ("another", "", "images with their classes, and own:birds is for the task classification"),
        ],
    )
    def test_what_shards_cannot_hold_is_refused_before_any_copy(
        self, command, birds, folder, monkeypatch, task, options, message
    ):
        monkeypatch.setattr("ema_lab.workflow.train.pack.DEFAULT_TASK", task)
        (folder / "own.py").write_text(OWN)
        own = ("--set", f"data={{name: 'own:birds'{options}}}")
        answer = command("prepare", "birds", *own, "--shards", "packed", "--workers", "1")
        assert (answer.code, answer.err.count("\n"), copies(birds)) == (2, 1, [])
        assert message in answer.err

    def test_the_rotation_of_a_data_set_of_ones_own_is_that_of_the_shards(self, command, birds, folder):
        (folder / "turned.py").write_text(OWN.replace("shorter_side=24", "shorter_side=24, upright=True"))
        own = ("--set", "data={name: 'turned:birds'}")
        answer = command("prepare", "birds", *own, "--shards", "packed", "--workers", "1")
        assert (answer.code, "upright: true" in answer.out) == (0, True)


class TestPlan:
    def test_says_which_copies_the_first_epoch_will_make_and_their_disk(self, command, birds, tree):
        before = tree()
        said = command("plan", "birds", "--check").err
        assert tree() == before
        assert "data: the first epoch makes resized copies of 8 images (about " in said
        assert "birds: checkpoints of 4 runs and resized copies of 8 images take about" in said
        command("prepare", "birds", "--workers", "1")
        said = command("plan", "birds", "--check").err
        assert "resized" not in said
        assert "birds: checkpoints of 4 runs take about" in said

    def test_a_disk_of_the_data_is_apart_from_that_of_the_store(self, command, birds, monkeypatch):
        monkeypatch.setattr("ema_lab.training.disk.disk_number", lambda root: "birds" in str(root))
        monkeypatch.setattr(
            "ema_lab.training.disk.free_bytes", lambda root: 100 if "birds" in str(root) else 10**12
        )
        said = command("plan", "birds", "--check").err
        assert "birds: checkpoints of 4 runs take about" in said
        assert "birds: resized copies of 8 images take about" in said
        assert "100 B free (too small)\n" in said

    def test_refuses_data_that_runs_would_refuse(self, command, birds):
        answer = command("plan", "birds", "--check", "--set", "data.shorter_side=15")
        assert (answer.code, answer.out) == (2, "")
        assert (
            answer.err == "ema-lab: data/birds: shorter_side must be at least image_size, here 16, got 15\n"
        )
        away = ("--data", "elsewhere", "--set", "data.shorter_side=15")
        assert command("plan", "birds", "--check", *away).code == 2
        answer = command("plan", "birds", "--check", "--set", "data.train_images=9")
        assert (answer.code, "expected images of shape (9, 3, 16, 16), found (8," in answer.err) == (2, True)
        (birds / "val" / "owl" / "1.jpg").write_bytes(b"cut off")
        answer = command("plan", "birds", "--check")
        assert (answer.code, "1 of 12 images cannot be read: data/birds/val/owl/1" in answer.err) == (2, True)
        assert command("plan", "birds").code == 0

    def test_names_data_that_is_elsewhere_and_downloads_none(self, command, birds):
        answer = command("plan", "birds", "--check", "--data", "elsewhere")
        assert answer.code == 0
        assert "imagefolder: not checked, because it is not on this machine: no images in" in answer.err
        answer = command("plan", "birds", "--check", "--set", "data.folder=brids")
        assert (answer.code, answer.err.splitlines()[0].endswith("; data has birds")) == (0, True)
        answer = command("plan", "birds", "--data", "elsewhere")
        assert (answer.code, answer.err) == (2, "ema-lab: --data changes nothing without --check\n")

    def test_a_folder_of_the_environment_is_no_option_without_effect(self, command, birds, monkeypatch):
        monkeypatch.setenv("EMA_LAB_DATA", "elsewhere")
        assert command("plan", "birds").code == 0
        answer = command("plan", "birds", "--check", "--set", "data={name: cifar10}")
        assert (answer.code, "cifar10" in answer.err) == (0, False)

    def test_data_of_finished_runs_is_not_looked_at(self, command, birds, trained):
        trained("birds")
        (birds / "val" / "owl" / "1.jpg").write_bytes(b"cut off")
        assert command("plan", "birds", "--check").code == 0


class TestRun:
    def test_says_once_that_the_first_epoch_makes_copies(self, command, birds, fake_training):
        fake_training()
        said = command("run", "birds", "--device", "cpu", "--workers", "1").err
        assert said.count("data: the first epoch makes resized copies of 8 images (about ") == 1
        assert "so that it is slower than the others; `ema-lab prepare` makes them beforehand\n" in said

    def test_says_nothing_of_copies_that_are_there(self, command, birds, fake_training):
        trained = fake_training()
        command("prepare", "birds", "--workers", "1")
        assert "resized" not in command("run", "birds", "--device", "cpu", "--workers", "1").err
        assert len(trained) == 4

    def test_is_refused_where_copies_do_not_fit(self, command, birds, fake_training, monkeypatch):
        trained = fake_training()
        monkeypatch.setattr("ema_lab.training.disk.disk_number", lambda root: "birds" in str(root))
        monkeypatch.setattr(
            "ema_lab.training.disk.free_bytes", lambda root: 100 if "birds" in str(root) else 10**12
        )
        answer = command("run", "birds", "--device", "cpu", "--workers", "1")
        assert (answer.code, trained) == (2, [])
        assert "the disk of data/birds is too small: resized copies of 8 images take about" in answer.err

    def test_copies_and_checkpoints_on_one_disk_are_added_up(
        self, command, birds, fake_training, monkeypatch
    ):
        trained = fake_training()
        needed = disk_need(load_ablation("birds").runs(), Path("runs"), 1).needed
        monkeypatch.setattr("ema_lab.training.disk.free_bytes", lambda root: needed + 100)
        answer = command("run", "birds", "--device", "cpu", "--workers", "1")
        assert (answer.code, trained) == (2, [])
        sizes = "checkpoints of 4 runs and resized copies of 8 images take about"
        assert f"the disk of the store runs is too small: {sizes}" in answer.err
        monkeypatch.setattr("ema_lab.training.disk.free_bytes", lambda root: 10**9)
        command("prepare", "birds", "--workers", "1")
        monkeypatch.setattr("ema_lab.training.disk.free_bytes", lambda root: needed + 100)
        assert command("run", "birds", "--device", "cpu", "--workers", "1").code == 0


def test_a_search_says_that_its_first_trial_makes_copies(command, birds, fake_training, folder):
    fake_training()
    (folder / "sweeps").mkdir()
    rate = rates("{values: [0.1]}", method="grid", base="birds/se", images=2)
    (folder / "sweeps" / "rates.yaml").write_text(rate)
    answer = command("sweep", "rates", "--device", "cpu", "--workers", "1", "--trials", "1")
    assert answer.err.count("data: the first epoch makes resized copies of 8 images") == 1
