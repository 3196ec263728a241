"""The fast decoder of JPEG files: Pillow's pixels for every kind of file, or Pillow itself."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ema_lab.data import jpeg
from ema_lab.data.jpeg import decode_jpeg
from ema_lab.data.pictures import read_picture, read_pixels
from ema_lab.errors import DamagedDataError


def photograph(height: int, width: int, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(height * width).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def written(picture: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    mode=st.sampled_from(["RGB", "L"]),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
)
def test_pixels_are_pillows(size, mode, quality, subsampling, progressive):
    options = {"subsampling": subsampling} if mode == "RGB" else {}
    content = written(photograph(*size, mode), quality=quality, progressive=progressive, **options)
    pixels = decode_jpeg(content)
    with Image.open(io.BytesIO(content)) as picture:
        assert np.array_equal(pixels, np.asarray(picture.convert("RGB")))
        if mode == "L":
            assert np.array_equal(decode_jpeg(content, 1)[:, :, 0], np.asarray(picture))


@pytest.mark.parametrize(
    ("content", "channels"),
    [
        (b"", 3),
        (b"\x89PNG\r\n", 3),
        (jpeg.START, 3),
        (written(photograph(30, 40))[:-100], 3),  # the end is missing
        (written(photograph(30, 40, "CMYK")), 3),
        (written(photograph(30, 40)), 1),  # grey of colours is Pillow's sum
    ],
    ids=["empty", "PNG", "start only", "truncated", "CMYK", "grey of colours"],
)
def test_other_files_are_left_to_pillow(content, channels):
    assert decode_jpeg(content, channels) is None


def test_a_picture_of_which_pillow_warns_is_left_to_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert decode_jpeg(written(photograph(30, 40))) is None


@pytest.mark.parametrize("options", [{}, {"upright": True}, {"channels": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_pixels_of_a_file_are_those_of_its_picture(tmp_path, mode, options):
    turned = Image.Exif()
    turned[0x0112] = 6
    path = tmp_path / "turned.jpeg"
    path.write_bytes(written(photograph(30, 40, mode), exif=turned))
    expected = np.asarray(read_picture(path, **options))
    pixels = read_pixels(path, **options)
    assert np.array_equal(pixels, expected.reshape(pixels.shape))
    assert pixels.shape[2] == options.get("channels", 3)
    assert pixels.flags.writeable


def test_damage_is_an_error_of_the_file(tmp_path):
    path = tmp_path / "half.jpeg"
    path.write_bytes(written(photograph(30, 40))[:-100])
    with pytest.raises(DamagedDataError, match=r"half.jpeg cannot be decoded: image file is truncated"):
        read_pixels(path)


def test_a_decoder_with_other_pixels_is_not_used(monkeypatch):
    jpeg._agrees_with_pillow.cache_clear()
    decode = jpeg.simplejpeg.decode_jpeg
    monkeypatch.setattr(jpeg.simplejpeg, "decode_jpeg", lambda *given: decode(*given) ^ 1)
    with pytest.warns(UserWarning, match="decode to different pixels here, so Pillow decodes JPEG files"):
        assert decode_jpeg(written(photograph(30, 40))) is None
    jpeg._agrees_with_pillow.cache_clear()
