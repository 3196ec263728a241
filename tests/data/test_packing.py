"""Images in files packed into shards: the same pixels, labels and order as from the folder."""

import numpy as np
import pytest
import torch
from PIL import Image

from ema_lab.data import packing
from ema_lab.data.batches import Images
from ema_lab.data.image_folder import ImageFolderImages, image_folder_splits
from ema_lab.data.packing import write_shards
from ema_lab.data.shards import ShardImages, shard_splits
from ema_lab.errors import DamagedDataError, UnreadableDataError
from ema_lab.specs.augment import AugmentSpec

SIDE = 24
ROTATED = 0x0112  # EXIF's tag of the orientation
FILES = {
    "crow/0.JPEG": (60, 45),
    "crow/1.png": (45, 61),
    "crow/2.pgm": (20, 30),
    "owl/3.bmp": (21, 17),
    "owl/4.jpg": (64, 40),
}  # columns, rows


@pytest.fixture
def folder(tmp_path):
    """Write five images of two classes in many formats, the JPEG files with a rotation."""
    generator = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ROTATED] = 6
    for name, size in FILES.items():
        path = tmp_path / "birds" / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(generator.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize(size)
        if path.suffix == ".pgm":
            picture = picture.convert("L")
        picture.save(path, **({"exif": exif} if path.suffix in {".JPEG", ".jpg"} else {}))
    (tmp_path / "birds" / "val").symlink_to("train")
    return tmp_path / "birds"


@pytest.mark.parametrize("shorter_side", [SIDE, None])
@pytest.mark.parametrize("options", [{}, {"channels": 1}, {"upright": True}], ids=str)
def test_pixels_labels_and_order_are_those_of_the_folder(folder, monkeypatch, options, shorter_side):
    monkeypatch.setattr(packing, "SHARD", 2)
    of_folder = image_folder_splits(folder, image_size=16, shorter_side=shorter_side, **options)
    shards = folder.parent / "packed"
    shards.mkdir()
    seen = []
    for split, part in (("train", of_folder.train), ("val", of_folder.test)):
        size = write_shards(part, shards, split, lambda: seen.append(1))
        assert size == sum(path.stat().st_size for path in shards.glob(f"{split}-*.tar"))
    assert len(list(shards.glob("train-*.tar"))) == 3
    assert len(seen) == 10
    packed = shard_splits(shards, image_size=16, **options)
    assert packed.train.labels.tolist() == of_folder.train.labels.tolist() == [0, 0, 0, 1, 1]
    for index in range(len(FILES)):
        assert np.array_equal(packed.train.pixels(index), of_folder.train.pixels(index))
    crops = AugmentSpec(resized_crop_area=(0.2, 1.0), flip=True)
    for augment in (None, crops):
        keys = [(3, index) for index in (4, 0, 2, 1, 3)]
        batches = [
            Images(one, augment, seed=1).__getitems__(keys)[0] for one in (of_folder.train, packed.train)
        ]
        assert torch.equal(*batches)


def test_the_same_images_make_the_same_shards_with_and_without_copies(folder):
    images = ImageFolderImages.read(folder / "train", 16).resized(SIDE)
    contents = []
    for number in range(2):
        shards = folder.parent / f"packed{number}"
        shards.mkdir()
        write_shards(images, shards, "train", lambda: None)
        contents.append((shards / "train-000000.tar").read_bytes())
        for index in range(len(FILES)):
            images.pixels(index)  # makes the copies
    assert contents[0] == contents[1]
    read = ShardImages.read(folder.parent / "packed0", "train-*.tar", 16)
    content = (folder / "train" / "owl" / "3.bmp").read_bytes()
    _, offset, size, _ = read.places[3].tolist()
    assert contents[0][offset : offset + size] == content  # a small image as it is


def test_a_damaged_image_is_named(folder):
    (folder / "train" / "owl" / "4.jpg").write_bytes(b"no image")
    images = ImageFolderImages.read(folder / "train", 16).resized(SIDE)
    with pytest.raises(DamagedDataError, match=r"owl/4\.jpg cannot be decoded"):
        write_shards(images, folder.parent, "train", lambda: None)


@pytest.mark.parametrize("shorter_side", [SIDE, None])
def test_an_image_that_is_gone_is_named_and_no_fault_of_the_shards(folder, shorter_side):
    images = image_folder_splits(folder, image_size=16, shorter_side=shorter_side).train
    gone = folder / "train" / "owl" / "3.bmp"
    gone.unlink()
    with pytest.raises(UnreadableDataError, match=str(gone)):
        write_shards(images, folder.parent, "train", lambda: None)
