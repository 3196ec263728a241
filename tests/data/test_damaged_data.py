"""Damaged data is told from absent data: the message names what is damaged and what to do with it."""

import gzip
import pickle
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image

from ema_lab.data.cifar import cifar10, cifar100
from ema_lab.data.fashion_mnist import fashion_mnist
from ema_lab.data.image_folder import ImageFolderImages, image_folder_splits
from ema_lab.errors import DamagedDataError, DataError


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.mark.parametrize(
    ("read", "folder", "file"),
    [
        (cifar10, "cifar-10-batches-py", "data_batch_1"),
        (cifar100, "cifar-100-python", "train"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"x" * 1000, pickle.dumps({"data": 0})])
def test_a_damaged_file_is_not_called_absent(tmp_path, offline, read, folder, file, content):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / file).write_bytes(content)
    with pytest.raises(DamagedDataError, match=rf"in .* is damaged: {folder} is not what") as caught:
        read(tmp_path)
    assert "remove it and copy" in str(caught.value)
    assert "is not in" not in str(caught.value)


def test_files_without_a_checksum_that_are_cut_off_are_damaged(tmp_path, offline):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(gzip.compress(b"no"))
    with pytest.raises(DamagedDataError, match=r"fashion_mnist in .* is damaged"):
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
    with pytest.raises(DataError, match=r"its 2 folders hold none") as caught:
        ImageFolderImages.read(birds / "train", 8)
    assert not isinstance(caught.value, DamagedDataError)
