"""Resized copies of image files: the same pixels with any cache; no copy is believed that does not fit."""

import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from ema_lab.data.image_folder import ImageFolderImages, image_folder_splits
from ema_lab.data.image_list import image_list_splits
from ema_lab.data.own_images import own_images
from ema_lab.data.pictures import read_pixels
from ema_lab.data.resized import ResizedFiles, _warn
from ema_lab.errors import DamagedDataError, DataError, UnreadableDataError
from ema_lab.specs.run import DataSpec

SIZES = {
    "wide.jpg": (90, 60),
    "tall.png": (50, 120),
    "small.jpg": (30, 44),
    "odd.jpg": (101, 67),
}  # columns, rows
SIDE = 40


@pytest.fixture
def folder(tmp_path):
    """Write four images of a class, one of them small."""
    generator = np.random.default_rng(0)
    path = tmp_path / "set" / "train" / "owl"
    path.mkdir(parents=True)
    for name, size in SIZES.items():
        coarse = generator.integers(0, 256, (7, 9, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path / name)
    (tmp_path / "set" / "val").symlink_to("train")
    return tmp_path / "set" / "train"


def all_pixels(folder, **options):
    files = ResizedFiles(folder, SIDE, **options)
    return {name: files.pixels(f"owl/{name}") for name in SIZES}


def plain(picture):
    """Return the pixels of an image that is resized, saved as JPEG and read again by Pillow alone."""
    share = SIDE / min(picture.size)
    size = tuple(max(SIDE, round(length * share)) for length in picture.size)
    file = io.BytesIO()
    picture.resize(size, Image.Resampling.BILINEAR).save(file, "JPEG", quality=95, subsampling=0)
    return np.asarray(Image.open(file))


def same(first, second):
    return all(np.array_equal(first[name], second[name]) for name in SIZES)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_the_documented_steps_with_and_without_a_copy(folder, channels):
    first = all_pixels(folder, channels=channels)
    second = all_pixels(folder, channels=channels)
    assert same(first, second)
    for name in set(SIZES) - {"small.jpg"}:
        picture = Image.open(folder / "owl" / name).convert("RGB")
        expected = plain(picture if channels == 3 else picture.convert("L"))
        assert np.array_equal(first[name], expected.reshape(*expected.shape[:2], channels))
        assert min(first[name].shape[:2]) == SIDE


def test_a_small_image_stays_as_it_is_and_has_no_copy(folder):
    pixels = all_pixels(folder)["small.jpg"]
    assert np.array_equal(pixels, read_pixels(folder / "owl" / "small.jpg"))
    copies = {path.name for path in ResizedFiles(folder, SIDE).cache.rglob("*") if path.is_file()}
    assert copies == {"wide.jpg.jpeg", "tall.png.jpeg", "odd.jpg.jpeg"}


def test_the_files_are_not_decoded_again(folder, monkeypatch):
    first = all_pixels(folder)
    monkeypatch.setattr("ema_lab.data.resized.read_pixels", lambda path, *_, **__: pytest.fail(f"{path}"))
    files = ResizedFiles(folder, SIDE)
    assert all(
        np.array_equal(files.pixels(f"owl/{name}"), first[name]) for name in set(SIZES) - {"small.jpg"}
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-5],
        lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
        lambda content: content.replace(b"resized 1", b"resized 9"),
        lambda content: b"\xff\xd8\xff",
    ],
)
def test_a_damaged_copy_is_made_anew(folder, damage):
    first = all_pixels(folder)
    copy = ResizedFiles(folder, SIDE).cache / "owl" / "wide.jpg.jpeg"
    whole = copy.read_bytes()
    copy.write_bytes(damage(whole))
    assert same(all_pixels(folder), first)
    assert copy.read_bytes() == whole


@pytest.mark.parametrize("later", [-(10**18), 1])  # nanoseconds; the second differs in the last digit alone
def test_an_image_that_is_replaced_has_another_copy(folder, later):
    path, size = folder / "owl" / "wide.jpg", 30_000
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    time = path.stat().st_mtime_ns // 10 * 10
    os.utime(path, ns=(time, time))
    before = all_pixels(folder)
    Image.effect_noise((90, 60), 90).convert("RGB").save(path)
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    os.utime(path, ns=(time + later, time + later))
    after = all_pixels(folder)
    assert not np.array_equal(after["wide.jpg"], before["wide.jpg"])
    assert np.array_equal(after["wide.jpg"], plain(Image.open(folder / "owl" / "wide.jpg")))


def test_copies_of_other_sides_colours_and_orientations_are_apart(folder):
    kinds = [
        ResizedFiles(folder, 40),
        ResizedFiles(folder, 41),
        ResizedFiles(folder, 40, channels=1),
        ResizedFiles(folder, 40, upright=True),
        ResizedFiles(folder.parent / "val", 40),
    ]
    assert len({files.cache for files in kinds}) == len(kinds)


def test_any_number_of_readers_fill_a_cache_at_once(folder):
    expected = all_pixels(folder)
    for path in list(ResizedFiles(folder, SIDE).cache.rglob("*.jpeg")):
        path.unlink()
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: all_pixels(folder), range(24)):
            assert same(found, expected)


def test_a_folder_that_cannot_be_written_gives_the_same_pixels_and_one_warning(folder):
    expected = all_pixels(folder)
    cache = ResizedFiles(folder, SIDE).cache
    cache.rename(cache.with_name("moved"))
    cache.write_text("a file in the place of the folder")
    _warn.cache_clear()
    with pytest.warns(UserWarning, match=r"resized images cannot be kept in .*slower") as seen:
        assert same(all_pixels(folder), expected)
    assert len(seen) == 1


def test_a_missing_or_broken_file_is_named_although_it_has_a_copy(folder):
    all_pixels(folder)
    files = ResizedFiles(folder, SIDE)
    (folder / "owl" / "wide.jpg").write_bytes(b"no image")
    with pytest.raises(DamagedDataError, match=r"wide\.jpg cannot be decoded"):
        files.pixels("owl/wide.jpg")
    (folder / "owl" / "wide.jpg").unlink()
    with pytest.raises(UnreadableDataError, match=r"wide\.jpg is not there"):
        files.pixels("owl/wide.jpg")


class TestTheOption:
    def test_changes_the_run_id_only_where_it_is_set(self):
        plain_data = DataSpec.model_validate({"name": "imagenet"})
        resized = DataSpec.model_validate({"name": "imagenet", "shorter_side": 256})
        assert (
            plain_data.canonical
            == DataSpec.model_validate({"name": "imagenet", "shorter_side": None}).canonical
        )
        assert "shorter_side" not in plain_data.canonical
        assert '"shorter_side":256' in resized.canonical

    def test_reaches_images_in_folders_and_lists(self, folder):
        root = folder.parent
        (root / "list.csv").write_text(
            "".join(["path,label\n", *(f"train/owl/{name},owl\n" for name in SIZES)])
        )
        listed = image_list_splits(root, image_size=32, train="list.csv", test="list.csv", shorter_side=SIDE)
        folders = image_folder_splits(root, image_size=32, shorter_side=SIDE)
        own = own_images(root.parent, "folders", folder="set", image_size=32, shorter_side=SIDE)
        name = sorted(SIZES).index("wide.jpg")
        expected = all_pixels(folder)["wide.jpg"]
        assert np.array_equal(folders.train.pixels(name), expected)
        assert np.array_equal(own.test.pixels(name), expected)
        assert np.array_equal(listed.train.pixels(list(SIZES).index("wide.jpg")), expected)

    def test_changes_no_checksum_and_no_class(self, folder):
        before = image_folder_splits(folder.parent, image_size=32)
        resized = image_folder_splits(folder.parent, image_size=32, shorter_side=SIDE)
        resized.train.whole(torch.arange(4))
        again = image_folder_splits(folder.parent, image_size=32)
        assert before.sha256 == resized.sha256 == again.sha256
        assert again.train.classes == ("owl",)

    def test_is_at_least_the_size_of_the_images(self, folder):
        with pytest.raises(DataError, match=r"shorter_side must be at least image_size, here 32, got 31"):
            ImageFolderImages.read(folder, 32).resized(31)

    def test_is_not_for_shards(self, tmp_path):
        with pytest.raises(DataError, match=r"for folders and lists of files, not for shards"):
            own_images(tmp_path, "shards", shorter_side=256)
