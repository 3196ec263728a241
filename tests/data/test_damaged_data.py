"""Damaged and absent data sets are separate errors; the message names the file and the remedy."""

import errno
import gzip
import hashlib
import pickle
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from ema_lab.data.cifar import cifar10, cifar100
from ema_lab.data.fashion_mnist import fashion_mnist
from ema_lab.data.image_folder import ImageFolderImages, image_folder_splits
from ema_lab.errors import DamagedDataError, DataError, UnreadableDataError


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr("ema_lab.data.fashion_mnist.DEBIAN_FOLDER", Path("absent"))


@pytest.fixture(params=[(cifar10, CIFAR10), (cifar100, CIFAR100)], ids=["cifar10", "cifar100"])
def cifar(request, tmp_path, monkeypatch):
    """Write files that count as published; return the reader and the files."""
    read, form = request.param
    folder = tmp_path / form.base_folder
    folder.mkdir()

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    for part in ("train_list", "test_list"):
        labels = {"labels" if form is CIFAR10 else "fine_labels": [0]}
        batch = {"data": np.zeros((1, 3072), dtype=np.uint8), **labels}
        files = [[name, write(name, batch)] for name, _ in getattr(form, part)]
        monkeypatch.setattr(form, part, files)
    names = write(form.meta["filename"], {form.meta["key"]: ["a"]})
    monkeypatch.setattr(form, "meta", {**form.meta, "md5": names})
    return lambda: read(tmp_path), sorted(folder.iterdir())


def test_the_damaged_file_of_a_batch_is_named_and_no_other(cifar, offline):
    read, files = cifar
    assert read().train.shape[1:] == (3, 32, 32)
    for damaged in files:
        kept = damaged.read_bytes()
        for content, fault in [
            (b"", "is not the published file"),
            (kept[:-1], "is not the"),
            (None, "is absent"),
        ]:
            damaged.unlink() if content is None else damaged.write_bytes(content)
            name = f"{damaged.parent.name}/{damaged.name}"
            with pytest.raises(DamagedDataError, match=rf" in .* is damaged: {name} {fault}") as caught:
                read()
            assert [file.name for file in files if f"/{file.name} " in str(caught.value)] == [damaged.name]
            assert "copy the published" in str(caught.value)
            assert "is not in" not in str(caught.value)
        damaged.write_bytes(kept)


def test_a_damaged_archive_is_named(tmp_path, offline):
    (tmp_path / CIFAR10.filename).write_bytes(b"cut")
    with pytest.raises(DamagedDataError, match=rf"is damaged: {CIFAR10.filename} is not the published file"):
        cifar10(tmp_path)


def test_what_is_absent_is_not_called_damaged(tmp_path, offline):
    for read in (cifar10, cifar100, fashion_mnist):
        with pytest.raises(DataError, match="is not in") as caught:
            read(tmp_path)
        assert not isinstance(caught.value, DamagedDataError)


def test_a_file_that_cannot_be_opened_is_not_called_damaged(cifar, monkeypatch):
    def fail(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", "train")

    read, _ = cifar
    monkeypatch.setattr(pickle, "load", fail)
    with pytest.raises(UnreadableDataError, match="train cannot be opened: Permission denied"):
        read()


@pytest.mark.parametrize(
    "damaged", ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]
)
def test_a_damaged_file_without_a_checksum_is_named_and_no_other(tmp_path, offline, damaged):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3, *(0, 0, 0, 1) * 3, 7]))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 1, 3]))
    assert fashion_mnist(tmp_path).train.labels.tolist() == [3]
    path, fault = raw / f"{damaged}-ubyte", f"FashionMNIST/raw/{damaged}-ubyte is"
    for content in (gzip.compress(b"no"), path.read_bytes()[:-1], b""):
        path.write_bytes(content)
        with pytest.raises(DamagedDataError, match=f"is damaged: {fault} not the published file; copy the"):
            fashion_mnist(tmp_path)
    path.unlink()
    with pytest.raises(DamagedDataError, match=rf"is damaged: {fault} absent \(and cannot be downloaded"):
        fashion_mnist(tmp_path)


@pytest.fixture
def birds(tmp_path):
    for split in ("train", "val"):
        for name in ("crow", "jay"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = np.full((9, 9, 3), number, dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def test_an_empty_class_folder_is_named_beside_the_images_that_are_there(birds):
    (birds / "train" / "owl").mkdir()
    with pytest.raises(DamagedDataError) as caught:
        image_folder_splits(birds, image_size=8)
    assert "the class folder 'owl' holds no image (4 images are in the other 2)" in str(caught.value)
    assert "fill its folder or remove it" in str(caught.value)


def test_folders_without_any_image_are_absent_data(birds):
    for path in birds.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"none in 2 folders") as caught:
        ImageFolderImages.read(birds / "train", 8)
    assert not isinstance(caught.value, DamagedDataError)
