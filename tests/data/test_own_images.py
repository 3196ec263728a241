"""Image sets of users: the same images from folders, lists and shards; every fault with its place."""

import dataclasses
import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ema_lab.data import shards as shards_module
from ema_lab.data.batches import Images
from ema_lab.data.image_folder import image_folder_splits
from ema_lab.data.image_list import image_list_splits
from ema_lab.data.load import load_splits
from ema_lab.data.shards import shard_splits
from ema_lab.errors import DamagedDataError, DataError
from ema_lab.one_run.pipeline import train_run
from ema_lab.specs.recipe import AugmentSpec
from ema_lab.specs.run import DataSpec
from ema_lab.store.job import RunJob
from ema_lab.training.machine import Machine

CLASSES = ("crow", "owl")
FACTS = {"folder": "birds", "classes": 2, "train_images": 8, "test_images": 4, "image_size": 16}
OPTIONS = {
    "imagefolder": {},
    "csv": {"train": "train.csv", "test": "test.csv"},
    "shards": {"train": "train-*.tar", "test": "val-*.tar"},
}


def encoded(number: int) -> bytes:
    values = np.random.default_rng(number).integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG" if number % 2 else "PNG")
    return file.getvalue()


def add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    shard.addfile(member, io.BytesIO(content))


def write_lists(folder: Path, listed: dict[str, list[tuple[str, str]]]) -> None:
    for name, rows in listed.items():
        lines = ["label,path", *(f"{label},{path}" for path, label in rows)]
        (folder / name).write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path):
    """Write the same images as folders, as lists and as shards."""
    base = tmp_path / "birds"
    listed: dict[str, list[tuple[str, str]]] = {"train.csv": [], "test.csv": []}
    number = 0
    for split, file, count in (("train", "train.csv", 4), ("val", "test.csv", 2)):
        samples = []
        for label, name in enumerate(CLASSES):
            (base / split / name).mkdir(parents=True)
            for _ in range(count):
                path = f"{split}/{name}/{number}.jpg"
                (base / path).write_bytes(encoded(number))
                listed[file].append((path, name))
                samples.append((number, label))
                number += 1
        half = len(samples) // 2
        for part, some in enumerate((samples[:half], samples[half:])):
            with tarfile.open(base / f"{split}-{part:03}.tar", "w") as shard:
                for sample, label in some:
                    add(shard, f"{sample:06}.JPG" if part else f"{sample:06}.png", encoded(sample))
                    if part:
                        add(shard, f"{sample:06}.cls", f"{label}\n".encode())
                    else:
                        add(shard, f"{sample:06}.json", json.dumps({"label": label}).encode())
    write_lists(base, listed)
    return base


def splits_of(folder: Path):
    return (
        image_folder_splits(folder, image_size=16),
        image_list_splits(folder, image_size=16),
        shard_splits(folder, image_size=16),
    )


@pytest.mark.parametrize("augment", [None, AugmentSpec(resized_crop_area=(0.2, 1.0), flip=True)])
def test_images_are_the_same_from_folders_lists_and_shards(folder, augment):
    of_folder, *others = splits_of(folder)
    for other in others:
        for part in ("train", "test"):
            expected, source = getattr(of_folder, part), getattr(other, part)
            assert source.labels.tolist() == expected.labels.tolist()
            keys = [(3, index) for index in reversed(range(len(expected.labels)))]
            first = Images(expected, augment, seed=1).__getitems__(keys)
            second = Images(source, augment, seed=1).__getitems__(keys)
            assert all(torch.equal(left, right) for left, right in zip(first, second, strict=True))


@pytest.mark.parametrize("name", OPTIONS)
def test_each_kind_is_trained_by_its_name(folder, make_spec, name):
    data = {"name": name, **FACTS, **OPTIONS[name]}
    spec = make_spec(data=data, recipe={"batch_size": 4, "epochs": 1})
    run = folder.parent / "run"
    run.mkdir()
    outcome = train_run(spec, RunJob(run), machine=Machine(folder.parent, "cpu", num_threads=1))
    assert set(outcome.metrics) >= {"top1"}
    assert outcome.data_sha256 == load_splits(DataSpec.model_validate(data), folder.parent).sha256


@pytest.mark.parametrize("name", OPTIONS)
def test_facts_that_are_not_the_files_are_refused(folder, name):
    data = DataSpec.model_validate({"name": name, **FACTS, **OPTIONS[name], "train_images": 9})
    with pytest.raises(DataError, match=r"expected images of shape \(9, 3, 16, 16\), found \(8, 3, 16, 16\)"):
        load_splits(data, folder.parent)


def test_the_checksum_follows_the_files_of_every_kind(folder):
    before = [splits.sha256 for splits in splits_of(folder)]
    assert [splits.sha256 for splits in splits_of(folder)] == before
    (folder / "val/owl/11.jpg").write_bytes(encoded(11) + b" ")
    with tarfile.open(folder / "val-001.tar", "a") as shard:
        add(shard, "more.jpg", encoded(1))
        add(shard, "more.cls", b"1")
    assert all(new.sha256 != old for new, old in zip(splits_of(folder), before, strict=True))


class TestLists:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("image,label\na.jpg,owl\n", r"test.csv:1: needs the columns path and label, but has no 'path'"),
            ("path,label\n", "test.csv: lists no image"),
            ("", r"test.csv:1: needs the columns path and label, but has no 'path'"),
            ("path,label\na.jpg\n", "test.csv:2: needs a path and a label"),
            ("path,label\na.jpg,owl\na.jpg,crow\n", "test.csv:3: a.jpg is listed before, in line 2"),
            ("path,label\n../a.jpg,owl\n", r"test.csv:2: \.\./a.jpg must lie below"),
            ("path,label\n/a.jpg,owl\n", "test.csv:2: /a.jpg must lie below"),
            ("path,label\na.jpg,eagle\n", "test.csv:2: no image of train.csv has the class 'eagle'"),
            ('path,label\n"a.jpg,owl\n', "test.csv cannot be read"),
        ],
    )
    def test_a_fault_is_an_error_with_file_and_line(self, folder, content, message):
        (folder / "test.csv").write_text(content)
        with pytest.raises(DataError, match=message):
            image_list_splits(folder, image_size=16)

    def test_a_missing_list_is_an_error(self, folder):
        (folder / "test.csv").unlink()
        with pytest.raises(DataError, match=r"test.csv cannot be read: No such file"):
            image_list_splits(folder, image_size=16)

    def test_numbers_are_labels_in_their_own_order(self, folder):
        rows = [(f"train/owl/{number}.jpg", str(number)) for number in (10, 9, 2)]
        write_lists(folder, {"train.csv": rows, "test.csv": rows[:1]})
        splits = image_list_splits(folder, image_size=16)
        assert splits.train.classes == ("2", "9", "10")
        assert splits.train.labels.tolist() == [2, 1, 0]

    def test_a_listed_file_that_is_gone_is_named(self, folder):
        (folder / "train/owl/5.jpg").unlink()
        source = image_list_splits(folder, image_size=16).train
        with pytest.raises(DataError, match=r"train/owl/5.jpg is not there"):
            source.whole(torch.arange(8))


class TestShards:
    def test_the_index_is_written_once_and_found_again(self, folder, monkeypatch):
        first = shard_splits(folder, image_size=16)
        assert len(list(folder.glob("index-*.npz"))) == 2
        monkeypatch.setattr(shards_module, "_samples", lambda *_: pytest.fail("the index was not used"))
        again = shard_splits(folder, image_size=16)
        assert np.array_equal(again.train.places, first.train.places)

    @pytest.mark.parametrize("damage", [b"", b"no archive", None])
    def test_a_damaged_or_old_index_is_made_again(self, folder, damage):
        first = shard_splits(folder, image_size=16)
        if damage is None:
            with tarfile.open(folder / "train-001.tar", "a") as shard:
                add(shard, "more.jpg", encoded(1))
                add(shard, "more.cls", b"1")
        else:
            for index in folder.glob("index-*.npz"):
                index.write_bytes(damage)
        again = shard_splits(folder, image_size=16)
        assert len(again.train.labels) == len(first.train.labels) + (damage is None)

    def test_a_folder_that_cannot_be_written_needs_no_index(self, folder, monkeypatch):
        def refuse(path):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(shards_module, "atomic_write", refuse)
        assert len(shard_splits(folder, image_size=16).train.labels) == 8
        assert not list(folder.glob("index-*.npz"))

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ([("1.jpg", b"x")], "the sample '1' lacks a class"),
            ([("1.cls", b"1")], "the sample '1' lacks an image"),
            ([("1.jpg", b"x"), ("1.cls", b"owl")], "1.cls: the class must be a whole number from 0 on"),
            ([("1.jpg", b"x"), ("1.cls", b"-1")], "1.cls: the class must be a whole number from 0 on"),
            ([("1.jpg", b"x"), ("1.json", b"[]")], "1.json: `label` must be a whole number from 0 on"),
            ([("1.jpg", b"x"), ("1.json", b'{"label": true}')], "1.json: `label` must be a whole number"),
            ([("1.jpg", b"x"), ("1.png", b"y")], "1.png: the sample has a second image"),
        ],
    )
    def test_a_fault_is_an_error_with_shard_and_member(self, folder, members, message):
        with tarfile.open(folder / "val-000.tar", "w") as shard:
            for name, content in members:
                add(shard, name, content)
        with pytest.raises(DataError, match=rf"val-000.tar: .*{message}"):
            shard_splits(folder, image_size=16)

    @pytest.mark.parametrize("content", [b"", b"no archive" * 100])
    def test_a_file_that_is_no_tar_is_named(self, folder, content):
        (folder / "val-000.tar").write_bytes(content)
        with pytest.raises(DamagedDataError, match=r"val-000.tar cannot be read .*uncompressed tar files"):
            shard_splits(folder, image_size=16)

    def test_shards_without_an_image_are_an_error(self, folder):
        for path in folder.glob("val-*.tar"):
            tarfile.open(path, "w").close()
        with pytest.raises(DataError, match=r"val-\*.tar: no image in 2 shards"):
            shard_splits(folder, image_size=16)

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_a_class_that_no_training_image_has_is_an_error(self, folder, split):
        with tarfile.open(folder / f"{split}-002.tar", "w") as shard:
            add(shard, "1.jpg", encoded(1))
            add(shard, "1.cls", b"9")
        with pytest.raises(
            DataError, match=r"no training image has the class 2, 3, 4, 5, 6, ...: .* here to 9"
        ):
            shard_splits(folder, image_size=16)

    def test_no_shard_is_an_error(self, folder):
        with pytest.raises(DataError, match=r"no shards .*other-\*.tar: expected uncompressed tar files"):
            shard_splits(folder, image_size=16, train="other-*.tar")

    def test_a_damaged_image_is_named_by_its_place(self, folder):
        with tarfile.open(folder / "val-000.tar", "w") as shard:
            add(shard, "1.jpg", b"no image")
            add(shard, "1.cls", b"1")
        source = shard_splits(folder, image_size=16).test
        with pytest.raises(DamagedDataError, match=r"val-000.tar at byte 512 cannot be decoded"):
            source.whole(torch.tensor([0]))

    def test_a_source_is_handed_to_a_process_without_its_pixels(self, folder):
        source = shard_splits(folder, image_size=16).train
        source.whole(torch.arange(8))
        again = pickle.loads(pickle.dumps(source))
        assert torch.equal(again.whole(torch.arange(8)), source.whole(torch.arange(8)))
        assert len(pickle.dumps(dataclasses.replace(source))) < 4000
