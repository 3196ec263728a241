"""Image files of every mode: pixels as documented, or an error that names the file."""

import errno
import os
import struct
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from torchvision.datasets.folder import ImageFolder, pil_loader

from ema_lab.data.batches import Images
from ema_lab.data.image_folder import ImageFolderImages
from ema_lab.data.images import LabelledImages
from ema_lab.data.pictures import file_status, read_picture
from ema_lab.errors import DamagedDataError, DataError, UnreadableDataError
from ema_lab.specs.augment import AugmentSpec

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=2)
WIDE = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
ORIENTATION = 0x0112


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image"


def pixels(path, channels=3, **options):
    return np.asarray(read_picture(path, channels, **options))


def test_eight_bits_are_read_as_they_always_were(path):
    for form in ["PNG", "BMP", "JPEG", "TIFF", "WEBP"]:
        for values in [RAMP, COLOURS]:
            Image.fromarray(values).save(path, form)
            picture = pil_loader(str(path))
            assert np.array_equal(pixels(path), np.asarray(picture))
            assert np.array_equal(pixels(path, 1), np.asarray(picture.convert("L")))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_by_their_range(path, form):
    picture = Image.fromarray(WIDE)
    (picture.convert("I") if form == "PPM" else picture).save(path, form)
    assert np.array_equal(pixels(path, 1), RAMP)
    assert np.array_equal(pixels(path), np.stack([RAMP] * 3, axis=2))


def test_sixteen_bits_of_either_byte_order_are_rounded(path):
    for order in "<>":
        Image.fromarray(np.array([[0, 128, 129, 65535]], dtype=f"{order}u2")).save(path, "TIFF")
        assert pixels(path, 1).tolist() == [[0, 0, 1, 255]]


def tiff(bits, values, *, photometric=1, sample_format=1):
    """Return a TIFF file of one row of grey values, packed without gaps."""
    packed = "".join(f"{value:0{bits}b}" for value in values)
    if bits == 16:
        packed = "".join(f"{value % 256:08b}{value >> 8:08b}" for value in values)  # little-endian
    row = int(packed.ljust(-(-len(packed) // 8) * 8, "0"), 2).to_bytes(-(-len(packed) // 8), "big")
    tags = {256: len(values), 257: 1, 258: bits, 259: 1, 262: photometric}
    tags |= {273: 8, 277: 1, 278: 1, 279: len(row), 339: sample_format}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    header = b"II*\0" + struct.pack("<I", 8 + len(row))
    return header + row + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(("bits", "photometric"), [(4, 0), (4, 1), (8, 0), (8, 1), (12, 1), (16, 0), (16, 1)])
def test_grey_of_any_number_of_bits_is_scaled_by_its_range(path, bits, photometric):
    largest = 2**bits - 1
    path.write_bytes(tiff(bits, [0, largest // 3, largest * 2 // 3, largest], photometric=photometric))
    expected = [0, 85, 170, 255] if photometric else [255, 170, 85, 0]
    for upright in (False, True):
        assert pixels(path, 1, upright=upright).tolist() == [expected]


def test_signed_integers_are_refused_by_file_name(path):
    path.write_bytes(tiff(8, [0, 100, 200, 255], sample_format=2))
    with pytest.raises(DamagedDataError, match=f"{path} holds signed integers: their range is not defined"):
        read_picture(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (RAMP.astype(np.float32) / 255, "holds floating-point numbers: their range is not defined; save it"),
        (RAMP.astype(np.int32), "holds 32-bit integers: their range is not defined; save it with 8 or 16"),
    ],
)
def test_numbers_without_a_range_are_refused_by_file_name(path, values, message):
    Image.fromarray(values).save(path, "TIFF")
    with pytest.raises(DamagedDataError, match=f"{path} {message}"):
        read_picture(path)


def test_transparency_is_left_out(path):
    clear = np.dstack([COLOURS, np.zeros_like(RAMP)])
    Image.fromarray(clear).save(path, "PNG")
    assert np.array_equal(pixels(path), COLOURS)
    Image.fromarray(np.dstack([RAMP, 255 - RAMP])).save(path, "PNG")
    assert np.array_equal(pixels(path, 1), RAMP)


@pytest.mark.parametrize("transparency", [3, bytes(range(256))], ids=["one colour", "every colour"])
def test_a_palette_is_read_without_its_transparency(path, transparency):
    plain = Image.fromarray(COLOURS).quantize(64)
    plain.save(path, "PNG", transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(pixels(path), np.asarray(plain.convert("RGB")))


def test_cmyk_is_converted_by_pillows_formula(path):
    ink = Image.fromarray(np.dstack([COLOURS, RAMP // 2]), "CMYK")
    ink.save(path, "TIFF")
    assert np.array_equal(pixels(path), np.asarray(ink.convert("RGB")))


def test_the_orientation_is_followed_on_request_only(path):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        Image.fromarray(COLOURS).save(path, "PNG", exif=exif)
        turned = [
            COLOURS, COLOURS[:, ::-1], COLOURS[::-1, ::-1], COLOURS[::-1], COLOURS.swapaxes(0, 1),
            np.rot90(COLOURS, -1), np.rot90(COLOURS, 2).swapaxes(0, 1), np.rot90(COLOURS),
        ][orientation - 1]  # fmt: skip
        assert np.array_equal(pixels(path), COLOURS)
        assert np.array_equal(pixels(path, upright=True), turned)


def long_text(path):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (3 << 20), zip=True)
    Image.fromarray(RAMP).save(path, "PNG", pnginfo=info)


def bomb(path):
    header = struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header)


def cut(path):
    Image.fromarray(COLOURS).save(path, "PNG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def broken_header(path):
    Image.fromarray(COLOURS).save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[24] = 77  # bit depth
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [long_text, bomb, cut, broken_header])
@pytest.mark.parametrize("upright", [False, True])
def test_whatever_pillow_raises_names_the_file(path, damage, upright):
    damage(path)
    with pytest.raises(DamagedDataError, match=f"{path} cannot be decoded: .") as caught:
        read_picture(path, upright=upright)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [SyntaxError("broken PNG"), ValueError(), EOFError(), KeyError(3), struct.error("x")]
)
def test_an_error_of_any_class_names_the_file(path, monkeypatch, error):
    def fail(*_args, **_kwargs):
        raise error

    path.touch()
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(DamagedDataError, match=f"{path} cannot be decoded: ."):
        read_picture(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
def test_what_is_no_file_is_named_and_never_waited_for(path, make):
    make(path)
    with pytest.raises(DamagedDataError, match=rf"{path} cannot be decoded: it is no regular file"):
        read_picture(path)


@pytest.mark.parametrize("read", [read_picture, file_status])
def test_a_file_that_is_gone_is_not_called_damaged(path, read):
    for target in (path, path / "below"):
        with pytest.raises(UnreadableDataError, match=rf"{target} is not there, although .*: put it back"):
            read(target)
        path.touch(exist_ok=True)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_a_file_that_the_system_cannot_open_is_not_called_damaged(path, monkeypatch, code):
    def fail(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    path.touch()
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(UnreadableDataError, match=f"{path} cannot be opened: {os.strerror(code)}"):
        read_picture(path)


class TestAFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        for label in ("crow", "owl"):
            for part in (".", "young"):
                (tmp_path / "train" / label / part).mkdir(parents=True, exist_ok=True)
                Image.fromarray(COLOURS).save(tmp_path / "train" / label / part / "a.png")
        return tmp_path / "train"

    def test_with_links_that_lead_back_holds_each_image_once(self, folder):
        for number in range(3):
            (folder / "crow" / f"again{number}").symlink_to(folder / "crow")
            (folder / "owl" / "young" / f"up{number}").symlink_to(os.pardir)
            (folder / "owl" / f"all{number}").symlink_to(folder.parent)
        source = ImageFolderImages.read(folder, 8)
        assert source.files.tolist() == [b"crow/a.png", b"crow/young/a.png", b"owl/a.png", b"owl/young/a.png"]

    def test_is_read_like_torchvisions_where_a_link_leads_elsewhere(self, folder, tmp_path):
        (tmp_path / "more").mkdir()
        Image.fromarray(COLOURS).save(tmp_path / "more" / "b.PNG")
        (tmp_path / "more" / "notes.txt").write_text("no image")
        (folder / "crow" / "linked").symlink_to(tmp_path / "more")
        (folder / "owl" / "c.png").symlink_to(tmp_path / "more" / "b.PNG")
        source = ImageFolderImages.read(folder, 8)
        samples = [
            (os.fsencode(os.path.relpath(path, folder)), label) for path, label in ImageFolder(folder).samples
        ]
        assert list(zip(source.files.tolist(), source.labels.tolist(), strict=True)) == samples

    def test_whose_image_is_gone_after_the_listing_names_it(self, folder):
        images = ImageFolderImages.read(folder, 8)
        (gone := folder / os.fsdecode(images.files[1])).unlink()
        for read in (lambda: images.whole(torch.tensor([0, 1])), lambda: list(images.content())):
            with pytest.raises(UnreadableDataError, match=f"{gone} is not there"):
                read()

    def test_turns_images_on_request(self, folder):
        exif = Image.Exif()
        exif[ORIENTATION] = 3
        Image.fromarray(COLOURS).save(folder / "crow" / "a.png", exif=exif)
        stored, turned = (ImageFolderImages.read(folder, 16, upright=upright) for upright in (False, True))
        index = torch.tensor([0])
        assert torch.equal(turned.whole(index), stored.whole(index).rot90(2, (2, 3)))
        assert not torch.equal(turned.whole(index), stored.whole(index))

    def test_a_class_of_nothing_but_a_loop_has_no_images(self, folder):
        (folder / "wren").symlink_to(folder)
        with pytest.raises(DataError, match="the class folder 'wren' holds no image"):
            ImageFolderImages.read(folder, 8)


@pytest.mark.parametrize("augment", [None, AugmentSpec(), AugmentSpec(resized_crop_area=(0.5, 1.0))])
def test_a_source_of_other_numbers_is_refused_in_every_batch(augment):
    class Other(LabelledImages):
        def cropped(self, indices, crops):
            return self.images[indices]

    source = Other(torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(DataError, match=r"Other must give images of type torch.uint8, not torch.float32"):
        Images(source, augment).__getitems__([(0, 1), (0, 2)])
