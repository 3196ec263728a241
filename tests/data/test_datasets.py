import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from ema_lab.data import fashion_mnist as fashion
from ema_lab.data.cifar import cifar10, cifar100
from ema_lab.data.digits import digits
from ema_lab.data.load import build_dataset, load_splits
from ema_lab.data.synthetic import synthetic
from ema_lab.errors import AbsentDataError, DataError
from ema_lab.registry.catalogue import DATASETS
from ema_lab.specs.run import DataSpec


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("the network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def test_the_digits_are_the_bundled_ones_with_a_fixed_test_split(tmp_path):
    splits = digits(tmp_path)
    assert splits.train.images.shape == (1437, 1, 8, 8)
    assert splits.test.images.shape == (360, 1, 8, 8)
    assert set(splits.test.labels.bincount().tolist()) <= {35, 36, 37}
    assert splits.sha256 == "fa533677201b6ad9a1e6213abc367e379b416cb9eb05a9e27fb12d696bbe8bf6"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["digits"])
def test_the_stated_statistics_are_those_of_the_training_pixels(name, tmp_path):
    facts = DataSpec(name=name).facts
    pixels = load_splits(DataSpec(name=name), tmp_path).train.images.double() / 255
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(facts.mean, abs=1e-5)
    assert pixels.std((0, 2, 3), correction=0).tolist() == pytest.approx(facts.std, abs=1e-5)


def test_synthetic_images_can_be_learnt_and_never_change(tmp_path):
    splits = synthetic(tmp_path, classes=3, image_size=4, train_images=30, test_images=9)
    assert splits.train.images.shape == (30, 3, 4, 4)
    assert splits.train.labels.bincount().tolist() == [10, 10, 10]
    centres = torch.stack([splits.train.images[splits.train.labels == i].double().mean(0) for i in range(3)])
    distances = (splits.test.images.double()[:, None] - centres).square().sum((2, 3, 4))
    assert (distances.argmin(1) == splits.test.labels).double().mean() == 1
    assert (
        splits.sha256 == synthetic(tmp_path, classes=3, image_size=4, train_images=30, test_images=9).sha256
    )


def test_synthetic_images_do_not_depend_on_how_many_there_are(tmp_path):
    few = synthetic(tmp_path, classes=20, image_size=4, train_images=8, test_images=4)
    many = synthetic(tmp_path, classes=20, image_size=4, train_images=50, test_images=4)
    assert torch.equal(few.train.images, many.train.images[:8])
    assert torch.equal(few.test.images, many.test.images)


def write_cifar(root: Path, classes: int) -> np.ndarray:
    """Write a small data set in CIFAR's pickle format; return its training pixels (N, 3, 32, 32)."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 3072), dtype=np.uint8)
    if classes == 10:
        folder = root / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        for number in range(1, 6):
            rows = pixels[2 * number - 2 : 2 * number]
            write_pickle(folder / f"data_batch_{number}", {"data": rows, "labels": [number, 0]})
        write_pickle(folder / "test_batch", {"data": pixels[:3], "labels": [1, 2, 3]})
        write_pickle(folder / "batches.meta", {"label_names": list("abcdefghij")})
    else:
        folder = root / "cifar-100-python"
        folder.mkdir(parents=True)
        write_pickle(folder / "train", {"data": pixels, "fine_labels": list(range(90, 100))})
        write_pickle(folder / "test", {"data": pixels[:3], "fine_labels": [1, 2, 3]})
        write_pickle(folder / "meta", {"fine_label_names": [str(i) for i in range(100)]})
    return pixels.reshape(-1, 3, 32, 32)


def write_pickle(path: Path, value: object) -> None:
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize(("load", "classes", "first"), [(cifar10, 10, 1), (cifar100, 100, 90)])
def test_cifar_files_are_read_as_torchvision_leaves_them(load, classes, first, tmp_path, monkeypatch):
    pixels = write_cifar(tmp_path, classes)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_args: True)
    splits = load(tmp_path)
    assert np.array_equal(splits.train.images.numpy(), pixels)
    assert splits.train.labels[0] == first
    assert splits.test.labels.tolist() == [1, 2, 3]


def test_a_data_set_of_the_wrong_size_is_refused(tmp_path, monkeypatch):
    write_cifar(tmp_path, 100)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_args: True)
    with pytest.raises(
        DataError, match=r"cifar100: expected images of shape \(50000, 3, 32, 32\), found \(10,"
    ):
        load_splits(DataSpec(name="cifar100"), tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist"])
def test_an_absent_data_set_offline_says_where_to_put_it(name, tmp_path, offline, monkeypatch):
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", tmp_path / "absent")
    with pytest.raises(DataError, match=f"{name} is not in .* and cannot be downloaded .* copy .* there"):
        DATASETS.build(name, tmp_path / "data")


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write a compressed file in MNIST's format."""
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes()))


def test_debians_fashion_mnist_is_used_where_it_is_installed(tmp_path, monkeypatch, offline):
    source = tmp_path / "debian"
    source.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        write_idx(source / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(source / f"{part}-labels-idx1-ubyte.gz", np.arange(5, dtype=np.uint8))
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", source)
    splits = fashion.fashion_mnist(tmp_path / "data")
    assert np.array_equal(splits.train.images[:, 0].numpy(), images)
    assert splits.test.labels.tolist() == [0, 1, 2, 3, 4]


PLACED = [name for name in DATASETS if {"folder", "file"} & DATASETS.options(name).keys()]


class TestAbsence:
    def test_every_data_set_in_files_of_a_user_names_their_place(self):
        assert {"imagenet", "imagefolder", "csv", "shards", "coco", "voc", "yolo"} <= set(PLACED)

    @pytest.mark.parametrize("name", PLACED)
    def test_a_data_set_whose_folder_is_elsewhere_is_absent(self, name, tmp_path):
        with pytest.raises(AbsentDataError):
            build_dataset(DataSpec(name=name), tmp_path)

    @pytest.mark.parametrize("name", PLACED)
    def test_a_folder_without_the_files_is_wrong_and_not_absent(self, name, tmp_path):
        options = DATASETS.options(name)
        place = (
            options["folder"].default if "folder" in options else str(Path(options["file"].default).parent)
        )
        for below in ("annotations", "ImageSets/Main", "VisDrone2019-DET-train"):
            (tmp_path / place / below).mkdir(parents=True)
        with pytest.raises(DataError) as caught:
            build_dataset(DataSpec(name=name), tmp_path)
        assert type(caught.value) is DataError

    def test_a_users_code_that_finds_no_file_is_absent(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "far_away.py").write_text(
            'FACTS = {"classes": 2, "channels": 1, "image_size": 8, "train_images": 8, "test_images": 4,\n'
            '         "mean": [0.5], "std": [0.5]}\n\n\n'
            'def data(root):\n    return open(root / "nowhere.npz")\n'
        )
        with pytest.raises(AbsentDataError, match="far_away:data cannot be loaded: FileNotFoundError"):
            build_dataset(DataSpec(name="far_away:data"), tmp_path)
