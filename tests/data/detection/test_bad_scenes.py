"""Broken detection data and detectors: the error names what is wrong, and nothing is trained."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import ema_lab
from ema_lab.errors import EmaLabError
from ema_lab.store.store import RunStore

ABLATION = """\
name: mine
base:
  model: {backbone: BACKBONE}
  data: {DATA, train_images: 2, test_images: 2, image_size: 64}
  recipe: {epochs: 1, batch_size: 2, optimizer: {name: sgd, lr: 0.01}}
seeds: [0]
baseline: none
variants: {none: {}}
"""
DATA = {
    "yolo": "name: yolo, file: mine/data.yaml, classes: 2",
    "coco": (
        "name: coco, folder: mine, classes: 2, train: train, test: val, train_folder: train, test_folder: val"
    ),
    "voc": "name: voc, folder: mine, names: [a, b], classes: 2",
    "visdrone": "name: visdrone, folder: mine, train: train, test: val",
}
GOOD = {
    "yolo": "0 0.5 0.5 0.2 0.2",
    "coco": {"category_id": 1, "bbox": [4, 4, 9, 9]},
    "voc": ("a", "1 2 20 20"),
    "visdrone": "1,2,10,20,1,4,0,0",
}


def pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (40, 30)).save(folder / f"{number}.png")


def write_yolo(root: Path, label: str) -> None:
    for part, line in (("train", label), ("val", GOOD["yolo"])):
        pictures(root / part / "images")
        (root / part / "labels").mkdir()
        for number in range(2):
            (root / part / "labels" / f"{number}.txt").write_text(f"{line}\n")
    (root / "data.yaml").write_text("train: train/images\nval: val/images\nnames: [a, b]\n")


def write_coco(root: Path, annotation: dict[str, object]) -> None:
    for part, item in (("train", annotation), ("val", GOOD["coco"])):
        pictures(root / part)
        images = [{"id": n, "file_name": f"{n}.png", "height": 30, "width": 40} for n in range(2)]
        document = {
            "images": images,
            "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
            "annotations": [{"image_id": n, **item} for n in range(2)],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{part}.json").write_text(json.dumps(document))


def write_voc(root: Path, item: tuple[str, str]) -> None:
    pictures(root / "JPEGImages")
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    name, box = item
    edges = zip(("xmin", "ymin", "xmax", "ymax"), box.split(), strict=True)
    inner = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
    for number in range(2):
        (root / "Annotations" / f"{number}.xml").write_text(
            f"<annotation><filename>{number}.png</filename>"
            f"<object><name>{name}</name><bndbox>{inner}</bndbox></object></annotation>"
        )
    for part in ("train", "val"):
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("0\n1\n")


def write_visdrone(root: Path, line: str) -> None:
    for part, own in (("train", line), ("val", GOOD["visdrone"])):
        pictures(root / part / "images")
        (root / part / "annotations").mkdir()
        for number in range(2):
            (root / part / "annotations" / f"{number}.txt").write_text(f"{own}\n")


WRITERS: dict[str, Callable] = {
    "yolo": write_yolo,
    "coco": write_coco,
    "voc": write_voc,
    "visdrone": write_visdrone,
}


def train(folder: Path, form: str, backbone: str = "yolov5n"):
    """Run an ablation on the data in `data/mine`; a path of its own keeps what another test loaded away."""
    text = ABLATION.replace("DATA", DATA[form]).replace("BACKBONE", backbone)
    Path("ablations/mine.yaml").write_text(text)
    return ema_lab.run("mine", data=folder / "data", device="cpu", workers=1)


@pytest.fixture
def refused(folder):
    """Return a function that runs an ablation on the data in `data/mine`, which must be refused."""

    def run(form: str, words: str, backbone: str = "yolov5n") -> None:
        with pytest.raises(EmaLabError) as raised:
            train(folder, form, backbone)
        assert words in str(raised.value)
        assert not Path("runs").exists() or not RunStore("runs").run_ids()

    return run


@pytest.mark.parametrize(
    ("form", "item", "words"),
    [
        ("yolo", "2 0.5 0.5 0.2 0.2", "0.txt:1: a class must be a whole number from 0 to 1, got 2"),
        ("yolo", "", "training images: none of 2 has a box to learn or to find"),
        ("coco", {"category_id": 3, "bbox": [1, 1, 5, 5]}, "annotations[0]: no category has the id 3"),
        ("voc", ("c", "1 2 20 20"), "0.xml: object 1: no class is named 'c'; known: a, b"),
        ("visdrone", "1,2,10,20,1,12,0,0", "0.txt:1: needs 8 numbers with a category from 0 to 11"),
        ("visdrone", "", "training images: none of 2 has a box to learn or to find"),
    ],
)
def test_a_broken_annotation_is_named_with_its_place(refused, form, item, words):
    WRITERS[form](Path("data/mine"), item)
    refused(form, words)


@pytest.mark.parametrize(
    ("form", "gone", "words"),
    [
        ("yolo", "train/images/1.png", "expected 2 training images, found 1"),
        ("coco", "train/1.png", "1.png: is not there"),
        ("voc", "JPEGImages/1.png", "1.png: is not there"),
        ("visdrone", "train/images/1.png", "expected 2 training images, found 1"),
        ("voc", "Annotations/1.xml", "1.xml: No such file or directory"),
        ("visdrone", "train/annotations/1.txt", "annotations/1.txt: the image has no annotation file"),
        ("yolo", "data.yaml", "expected a YOLO data set's data.yaml"),
        ("coco", "annotations/train.json", "expected COCO's annotation file"),
        ("voc", "ImageSets/Main/train.txt", "expected the name of an image in each line"),
    ],
)
def test_a_missing_file_is_named(refused, form, gone, words):
    root = Path("data/mine")
    WRITERS[form](root, GOOD[form])
    (root / gone).unlink()
    refused(form, words)


@pytest.mark.parametrize(
    ("form", "damaged"),
    [
        ("yolo", "train/images/1.png"),
        ("coco", "train/1.png"),
        ("voc", "JPEGImages/1.png"),
        ("visdrone", "train/images/1.png"),
    ],
)
def test_a_damaged_image_is_named_before_training(refused, form, damaged):
    root = Path("data/mine")
    WRITERS[form](root, GOOD[form])
    (root / damaged).write_bytes(b"no image")
    refused(form, "1.png: cannot be decoded")


def test_images_without_a_label_file_are_counted(folder, caplog):
    write_yolo(Path("data/mine"), GOOD["yolo"])
    Path("data/mine/train/labels/1.txt").unlink()
    with caplog.at_level(logging.WARNING):
        assert train(folder, "yolo").ok
    assert "1 of 2 images in" in caplog.text


def test_images_of_which_none_has_a_label_file_are_refused(refused):
    write_yolo(Path("data/mine"), GOOD["yolo"])
    for number in range(2):
        Path(f"data/mine/train/labels/{number}.txt").unlink()
    refused("yolo", "no image has a label file")


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("resnet20", "backbone resnet20 must give raw heads (2, anchors, rows, columns, 7) of each head"),
        ("misfits:flat", "must give raw heads (2, anchors, rows, columns, 7) of each head, got (2, 7, 8, 8)"),
        ("misfits:strideless", "a detector needs `strides`"),
        (
            "misfits:two_anchors",
            "must have anchors (1, A, 2) and 1 stride, as it has 1 head, got (2, 1, 2)",
        ),
        (
            "misfits:flat_anchors",
            "a detector needs a buffer `anchors` of shape (heads, A, 2) in pixels, got (3, 2)",
        ),
        ("misfits:coarse", "needs sides that are multiples of 48, got 64 x 64"),
    ],
)
def test_a_model_whose_outputs_or_anchors_do_not_fit_is_refused(refused, backbone, words):
    Path("misfits.py").write_text(MISFITS)
    write_yolo(Path("data/mine"), GOOD["yolo"])
    refused("yolo", words, backbone)


MISFITS = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, classes, channels, *, anchors=(1, 1, 2), strides=(8,), flat=False):
        super().__init__()
        self.head = nn.Conv2d(channels, 5 + classes, 8, 8)
        self.flat = flat
        self.register_buffer("anchors", torch.ones(*anchors))
        if strides:
            self.strides = strides

    def forward(self, x):
        raw = self.head(x)
        return (raw if self.flat else raw.permute(0, 2, 3, 1)[:, None],)


def flat(classes: int, channels: int) -> nn.Module:
    return Net(classes, channels, flat=True)


def strideless(classes: int, channels: int) -> nn.Module:
    return Net(classes, channels, strides=())


def two_anchors(classes: int, channels: int) -> nn.Module:
    return Net(classes, channels, anchors=(2, 1, 2))


def flat_anchors(classes: int, channels: int) -> nn.Module:
    return Net(classes, channels, anchors=(3, 2))


def coarse(classes: int, channels: int) -> nn.Module:
    return Net(classes, channels, strides=(48,))
"""
