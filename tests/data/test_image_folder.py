"""Image folders: torchvision's layout, lazy decoding, the same pixels in every batch and process."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as F

from ema_lab.data.batches import Images
from ema_lab.data.image_folder import ImageFolderImages, image_folder_splits
from ema_lab.data.imagenet import imagenet
from ema_lab.data.load import load_splits
from ema_lab.data.module import ImageData
from ema_lab.errors import DamagedDataError, DataError
from ema_lab.execution.smoke import smoke_spec
from ema_lab.one_run.pipeline import train_run
from ema_lab.specs.augment import AugmentSpec
from ema_lab.specs.run import DataSpec
from ema_lab.store.job import RunJob
from ema_lab.training.machine import Machine

SIZES = [(40, 30), (30, 40), (28, 28), (20, 60), (100, 25), (21, 22)]  # width, height
OWN = """
from ema_lab.data.image_folder import image_folder_splits

FACTS = {
    "classes": 2, "channels": 3, "image_size": 28, "train_images": 12, "test_images": 4,
    "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
}

def birds(root):
    return image_folder_splits(root / "birds", image_size=28)
"""
CROPPED = AugmentSpec(resized_crop_area=(0.2, 1.0), flip=True)


@pytest.fixture
def folder(tmp_path):
    """Create twelve training and four test images of two classes, in many sizes, one of them grey."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for label in ("crow", "owl"):
            path = tmp_path / "birds" / split / label
            path.mkdir(parents=True)
            for number in range(count):
                width, height = SIZES[number]
                pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
                picture = Image.fromarray(pixels)
                picture = picture.convert("L") if number == 4 else picture
                picture.save(path / f"{number}.JPEG", quality=95)
    return tmp_path / "birds"


@pytest.fixture
def own(folder, tmp_path, monkeypatch):
    """Write a custom data set that reads the folder, and return its name."""
    monkeypatch.chdir(tmp_path)
    name = f"birds_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(OWN)
    return f"{name}:birds"


def batch(source, indices, augment=None, *, seed=0, epoch=0):
    return Images(source, augment, seed).__getitems__([(epoch, index) for index in indices])


def test_the_classes_are_labels_in_alphabetical_order(folder):
    splits = image_folder_splits(folder, image_size=28)
    assert splits.train.shape == (12, 3, 28, 28)
    assert splits.train.labels.tolist() == [0] * 6 + [1] * 6
    assert splits.test.classes == ("crow", "owl")
    assert splits.test.files.tolist() == [b"crow/0.JPEG", b"crow/1.JPEG", b"owl/0.JPEG", b"owl/1.JPEG"]


@pytest.mark.parametrize("channels", [1, 3])
def test_evaluation_resizes_the_shorter_side_and_takes_the_middle(folder, channels):
    source = ImageFolderImages.read(folder / "train", 28, channels)
    images, labels, indices = batch(source, [1, 3, 10])
    assert (images.shape, images.dtype) == ((3, channels, 28, 28), torch.uint8)
    assert (labels.tolist(), indices.tolist()) == ([0, 0, 1], [1, 3, 10])
    picture = Image.open(folder / "train" / "crow" / "3.JPEG").convert("RGB" if channels == 3 else "L")
    resized = picture.resize((32, 96), Image.Resampling.BILINEAR)  # 20 x 60, and 28 * 256 / 224 is 32
    expected = np.asarray(resized.crop((2, 34, 30, 62))).reshape(28, 28, channels)
    assert np.array_equal(images[1].permute(1, 2, 0).numpy(), expected)


def test_training_without_a_random_crop_sees_what_evaluation_sees(folder):
    source = ImageFolderImages.read(folder / "train", 28)
    assert torch.equal(batch(source, range(12), AugmentSpec())[0], batch(source, range(12))[0])
    flipped = batch(source, range(12), AugmentSpec(flip=True))[0]
    whole = batch(source, range(12))[0]
    alike = [torch.equal(left, right) for left, right in zip(flipped, whole, strict=True)]
    assert {True, False} == set(alike)
    assert torch.equal(flipped.sort(dim=3).values, whole.sort(dim=3).values)


class TestRandomCrops:
    def test_are_alike_in_every_batch(self, folder):
        source = ImageFolderImages.read(folder / "train", 28)
        together = batch(source, range(12), CROPPED, epoch=3)[0]
        one_by_one = torch.cat([batch(source, [index], CROPPED, epoch=3)[0] for index in range(12)])
        assert torch.equal(together, one_by_one)
        backwards = batch(source, range(11, -1, -1), CROPPED, epoch=3)[0]
        assert torch.equal(together, backwards.flip(0))

    def test_use_no_generator(self, folder):
        source = ImageFolderImages.read(folder / "train", 28)
        first = batch(source, range(12), CROPPED)[0]
        torch.manual_seed(5)
        before = torch.get_rng_state()
        assert torch.equal(batch(source, range(12), CROPPED)[0], first)
        assert torch.equal(torch.get_rng_state(), before)

    def test_differ_between_epochs_and_seeds(self, folder):
        source = ImageFolderImages.read(folder / "train", 28)
        images = [batch(source, [0], CROPPED, seed=s, epoch=e)[0] for s, e in ((0, 0), (0, 1), (1, 0))]
        assert not torch.equal(images[0], images[1])
        assert not torch.equal(images[0], images[2])

    def test_of_the_whole_area_show_the_allowed_middle(self, folder):
        source = ImageFolderImages.read(folder / "train", 28)
        image = batch(source, [3], AugmentSpec(resized_crop_area=(1.0, 1.0)))[0][0]
        picture = Image.open(folder / "train" / "crow" / "3.JPEG")  # 20 x 60: at most 27 of 60 rows
        expected = F.pil_to_tensor(F.resized_crop(picture, 16, 0, 27, 20, [28, 28]))
        assert torch.equal(image, expected)


@pytest.mark.parametrize("augment", [{"resized_crop_area": [0.08, 1.0], "flip": True}, {"flip": True}])
def test_loader_workers_change_no_batch(own, make_spec, tmp_path, augment):
    spec = make_spec(data={"name": own, "val_images": 4}, recipe={"augment": augment, "batch_size": 5})

    def batches(num_workers):
        data = ImageData(spec, tmp_path, num_workers)
        loaders = [data.train_dataloader(), data.test_dataloader(), data.split("val")]
        assert {loader.num_workers for loader in loaders} == {num_workers}
        return [tensor for loader in loaders for batch in loader for tensor in batch]

    without_workers, with_workers = batches(0), batches(2)
    assert len(without_workers) == len(with_workers) == 3 * (2 + 1 + 1)
    assert all(torch.equal(left, right) for left, right in zip(without_workers, with_workers, strict=True))


@pytest.mark.parametrize(("free", "processes"), [(-1, 0), (0, 0), (1, 1), (99, 1)])
def test_free_cores_decode_image_files(own, make_spec, tmp_path, monkeypatch, free, processes):
    monkeypatch.setattr("ema_lab.data.module.most_loaders", lambda batch_bytes: 1)
    data = ImageData(make_spec(data={"name": own}), tmp_path)
    data.use_cores(free)
    assert (data.train_dataloader().num_workers, data.test_dataloader().num_workers) == (processes, processes)


def test_images_in_memory_need_no_cores(make_spec, tmp_path):
    data = ImageData(make_spec(), tmp_path)
    data.use_cores(5)
    assert data.num_workers == 0


def test_a_data_set_of_ones_own_in_files_is_trained(own, make_spec, tmp_path):
    recipe = {"augment": {"resized_crop_area": [0.5, 1.0]}, "epochs": 1}
    spec = make_spec(data={"name": own}, recipe=recipe)
    folder = tmp_path / "run"
    folder.mkdir()
    machine = Machine(tmp_path, device="cpu", num_threads=1)
    outcome = train_run(spec, RunJob(folder), machine=machine)
    assert 0 <= outcome.metrics["top1"] <= 100
    assert outcome.data_sha256 == load_splits(spec.data, tmp_path).sha256
    assert smoke_spec(spec).recipe.augment == spec.recipe.augment


def test_the_checksum_covers_names_sizes_and_labels(folder):
    def checksum(**read):
        return image_folder_splits(folder, **{"image_size": 28, **read}).sha256

    first = checksum()
    assert checksum() == first
    assert checksum(image_size=32) != first
    path = folder / "val" / "owl" / "1.JPEG"
    moved = path.rename(path.with_name("2.JPEG"))
    assert checksum() != first
    moved.rename(path)
    assert checksum() == first
    path.write_bytes(path.read_bytes() + b"\0")
    assert checksum() != first


def test_a_source_is_handed_to_a_process_without_its_pixels(folder):
    source = ImageFolderImages.read(folder / "train", 28)
    again = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 2000
    assert torch.equal(batch(again, range(12))[0], batch(source, range(12))[0])
    assert "files" not in repr(dataclasses.replace(source, channels=1))


class TestAbsentOrDamagedFiles:
    def test_name_the_expected_layout_and_place(self, tmp_path):
        with pytest.raises(DataError) as caught:
            imagenet(tmp_path)
        assert f"expected {tmp_path}/imagenet/train/<class>/*.JPEG" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    def test_an_empty_split_is_absent(self, folder, tmp_path):
        (tmp_path / "empty" / "train").mkdir(parents=True)
        with pytest.raises(DataError, match=r"no images in .*/empty/train: expected"):
            image_folder_splits(tmp_path / "empty", image_size=28)
        for path in (folder / "val" / "owl").iterdir():
            path.unlink()
        with pytest.raises(DataError, match=r"the class folder 'owl' holds no image \(2 images are in"):
            image_folder_splits(folder, image_size=28)

    def test_both_splits_have_the_same_classes(self, folder):
        (folder / "val" / "owl").rename(folder / "val" / "owls")
        with pytest.raises(DataError, match="must hold the same classes, but one lacks 'owl'"):
            image_folder_splits(folder, image_size=28)

    def test_a_file_that_is_no_image_is_named(self, folder):
        path = folder / "train" / "crow" / "2.JPEG"
        path.write_bytes(b"no image")
        source = ImageFolderImages.read(folder / "train", 28)
        assert len(batch(source, [0, 1])[1]) == 2
        with pytest.raises(DamagedDataError, match=r"crow/2.JPEG cannot be decoded"):
            batch(source, [1, 2])

    def test_files_have_one_or_three_channels(self, folder):
        with pytest.raises(ValueError, match="1 or 3 channels, got channels=4"):
            ImageFolderImages.read(folder / "train", 28, 4)

    def test_imagenet_of_another_size_is_refused(self, folder, tmp_path):
        folder.rename(tmp_path / "imagenet")
        shapes = r"imagenet: expected images of shape \(1281167, 3, 224, 224\), found \(12, 3, 224, 224\)"
        message = rf"{shapes}; .* options: data.classes, data.train_images and data.test_images"
        with pytest.raises(DataError, match=message):
            load_splits(DataSpec(name="imagenet"), tmp_path)
