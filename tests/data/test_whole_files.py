"""Files of images that were cut off: found by their ends, and decoded only where these do not tell."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ema_lab.cli.main import run
from ema_lab.data.file_ends import ends_of, is_whole
from ema_lab.data.load import build_dataset
from ema_lab.data.shards import shard_splits
from ema_lab.data.whole_files import broken_images, check_whole
from ema_lab.errors import DamagedDataError
from ema_lab.specs.run import DataSpec

MARKED = ("JPEG", "PNG", "WEBP")
DATA = {"folder": "birds", "classes": 2, "train_images": 4, "test_images": 2, "image_size": 16}


def encoded(kind: str, number: int = 0) -> bytes:
    values = np.random.default_rng(number).integers(0, 256, (24, 30, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, kind)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for part, count in (("train", 2), ("val", 1)):
        for name in ("crow", "owl"):
            (tmp_path / "data" / "birds" / part / name).mkdir(parents=True)
            for number in range(count):
                path = tmp_path / "data" / "birds" / part / name / f"{number}.jpg"
                path.write_bytes(encoded("JPEG", number))
    monkeypatch.chdir(tmp_path)
    return Path("data/birds")


def cut(path: Path, share: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


WHOLE = {kind: encoded(kind) for kind in MARKED}


@given(st.sampled_from(MARKED), st.data())
def test_every_cut_of_a_file_is_seen_in_its_ends(kind, data):
    content = WHOLE[kind]
    size = data.draw(st.integers(0, len(content) - 1))
    part = content[:size]
    assert is_whole(content[:16], content[-16:], len(content))
    assert not is_whole(part[:16], part[-16:], size)


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM"])
def test_formats_without_an_end_are_left_to_decoding(kind):
    content = encoded(kind)
    assert not is_whole(content[:16], content[-16:], len(content))


def test_the_ends_of_part_of_a_file_are_read(tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(100)))
    assert ends_of(tmp_path / "file", 10, 40) == (bytes(range(10, 26)), bytes(range(34, 50)), 40)
    assert ends_of(tmp_path / "file") == (bytes(range(16)), bytes(range(84, 100)), 100)
    assert ends_of(tmp_path / "file", 10, 3) == (b"\n\x0b\x0c", b"\n\x0b\x0c", 3)


def test_only_files_that_their_ends_do_not_vouch_for_are_decoded(folder, monkeypatch):
    trailing = folder / "train" / "crow" / "0.jpg"
    trailing.write_bytes(trailing.read_bytes() + b"a camera's own data")
    decoded = []
    monkeypatch.setattr("ema_lab.data.image_folder.read_pixels", lambda path, *_, **__: decoded.append(path))
    check_whole(DataSpec(name="imagefolder", **DATA), folder.parent)
    assert decoded == [trailing]


def test_the_check_makes_no_resized_copy_and_decodes_none_that_is_there(folder, monkeypatch):
    for path in folder.rglob("*.jpg"):
        path.write_bytes(encoded("BMP"))  # decoded, because only that can tell
    data = DataSpec(name="imagefolder", **DATA, shorter_side=20)
    check_whole(data, folder.parent)
    assert not list(folder.rglob("*.jpeg"))
    splits = build_dataset(data, folder.parent)
    for part in (splits.train, splits.test):
        for index in range(len(part.labels)):
            part.pixels(index)
    monkeypatch.setattr(
        "ema_lab.data.image_folder.read_pixels", lambda path, *_, **__: pytest.fail(f"{path}")
    )
    check_whole(data, folder.parent)


def test_broken_files_are_counted_and_named_in_one_line(folder):
    cut(folder / "train" / "crow" / "1.jpg")
    (folder / "val" / "owl" / "0.jpg").write_bytes(b"")
    with pytest.raises(DamagedDataError) as caught:
        check_whole(DataSpec(name="imagefolder", **DATA), folder.parent)
    message = str(caught.value)
    assert message.startswith(
        "imagefolder: 2 of 6 images cannot be read: data/birds/train/crow/1.jpg cannot be"
    )
    assert message.endswith("; and 1 more: data/birds/val/owl/0.jpg; replace or remove them")
    assert "\n" not in message
    assert message.count("1.jpg") == 1


def test_a_message_names_ten_files_at_most(folder):
    for number in range(12):
        (folder / "train" / "owl" / f"{number}.jpg").write_bytes(encoded("JPEG")[:200])
    facts = DATA | {"train_images": 14}
    with pytest.raises(
        DamagedDataError, match=r"12 of 16 images .*; and 11 more: .*, \.\.\.; replace"
    ) as caught:
        check_whole(DataSpec(name="imagefolder", **facts), folder.parent)
    assert str(caught.value).count(".jpg") == 10


def test_a_file_that_is_gone_and_a_pipe_are_named(folder):
    for number, make in enumerate((lambda path: path.symlink_to("nowhere.jpg"), os.mkfifo)):
        path = folder / "train" / "crow" / f"{number}.jpg"
        path.unlink()
        make(path)
    with pytest.raises(
        DamagedDataError, match=r"2 of 6 images cannot be read: .*0\.jpg is not there, although"
    ):
        check_whole(DataSpec(name="imagefolder", **DATA), folder.parent)


def test_images_inside_shards_are_looked_at_in_their_place(tmp_path):
    for name in ("train-0.tar", "val-0.tar"):
        with tarfile.open(tmp_path / name, "w") as shard:
            for number, content in enumerate((encoded("PNG"), encoded("PNG")[:900], encoded("JPEG"))):
                for ending, part in (("png", content), ("cls", b"0")):
                    member = tarfile.TarInfo(f"{number}.{ending}")
                    member.size = len(part)
                    shard.addfile(member, io.BytesIO(part))
    source = shard_splits(tmp_path, image_size=16).train
    assert [name for name, _ in broken_images(source)] == [source.name(1)]


def test_nothing_is_trained_on_a_broken_set(folder, capsys):
    cut(folder / "train" / "crow" / "1.jpg", 0.9)
    options = ", ".join(f"{key}: {value}" for key, value in DATA.items())
    Path("mine.yaml").write_text(
        f"""name: mine
base:
  model: {{backbone: resnet20}}
  data: {{name: imagefolder, {options}}}
  recipe: {{epochs: 1, batch_size: 2, optimizer: {{name: sgd, lr: 0.01}}}}
seeds: [0]
baseline: none
variants: {{none: {{}}}}
"""
    )
    assert run(["run", "mine.yaml", "--workers", "1"]) == 2
    assert "train/crow/1.jpg cannot be decoded: image file is truncated" in capsys.readouterr().err
    assert not any(Path("runs").glob("*/record.json"))
