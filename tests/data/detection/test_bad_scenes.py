"""Broken detection data and detectors: one line names what is wrong and where, and nothing is trained.

Every case is refused by the command line: exit code 2, one line on standard error, nothing written.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

import ema_lab
from ema_lab.cli.main import run

ABLATION = """\
name: mine
base:
  model: {backbone: BACKBONE}
  data: {DATA, train_images: 2, test_images: 2, image_size: 64}
  recipe: {epochs: 1, batch_size: 2, optimizer: {name: sgd, lr: 0.01}RECIPE}
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
            f"<annotation><filename>{number}.png</filename>\n"
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


def write_ablation(form: str, backbone: str = "yolov5n", recipe: str = "") -> None:
    text = ABLATION.replace("DATA", DATA[form]).replace("BACKBONE", backbone).replace("RECIPE", recipe)
    Path("ablations/mine.yaml").write_text(text)


@pytest.fixture
def refused(folder, tree, capsys):
    """Return a function that runs an ablation on the data in `data/mine`, which must be refused."""

    def refuse(form: str, words: str, backbone: str = "yolov5n", recipe: str = "") -> str:
        write_ablation(form, backbone, recipe)
        before = tree()
        capsys.readouterr()
        # a path of its own keeps what another test loaded away
        code = run(["run", "mine", "--data", str(folder / "data"), "--device", "cpu", "--workers", "1"])
        printed = capsys.readouterr()
        said = [line for line in printed.err.splitlines() if not line.startswith("mine: 1 run to train")]
        assert (code, printed.out, len(said)) == (2, "", 1)
        message = said[0].replace(f"{folder}/data/mine/", "").replace("ablations/", "")
        assert message.startswith("ema-lab: ")
        assert words in message
        assert tree() == before
        return message

    return refuse


NAN = float("nan")
OVERLAP = "a box must overlap its image, which is 0, 0, 40, 30 (left, top, right, bottom), got"
SIDES = "a box needs a width and a height above 0, got"
SEEN = "(and 1 more: {}; data.max_broken=0)"
EMPTY = "training images: none of 2 has a box to learn or to find; at least one needs a box that"
YOLO_LINE = "needs a class and 4 numbers, or a class and a polygon, got"
YOLO = {
    "2 0.5 0.5 0.2 0.2": "a class must be a whole number from 0 to 1, got 2",
    "nan 0.5 0.5 0.2 0.2": "a class must be a whole number from 0 to 1, got nan",
    "0 nan 0.5 0.2 0.2": "shares of the image must lie between 0 and 1, got [nan, 0.5, 0.2, 0.2]",
    "0 1.0009 0.5 0.0001 0.5": f"{OVERLAP} 40.034, 7.5, 40.038, 22.5",
    "0 0.5 0.5 0 0.2": f"{SIDES} 0, 6",
    "0 0.5 0.5": f"{YOLO_LINE} 3 numbers",
    "cat 0.5 0.5 0.2 0.2": f"{YOLO_LINE} 'cat 0.5 0.5 0.2 0.2'",
}
COCO_BBOX = "bbox must be [x, y, width, height], got"
COCO = (
    ({"category_id": 3, "bbox": [1, 1, 5, 5]}, "category_id must be the id of a category (1, 2), got 3"),
    (
        {"image_id": [0], "category_id": 1, "bbox": [1, 1, 5, 5]},
        "image_id must be the id of an image (0, 1), got [0]",
    ),
    ({"category_id": 1, "bbox": [90, 1, 5, 5]}, f"{OVERLAP} 90, 1, 95, 6"),
    ({"category_id": 1, "bbox": [1, 1, 5, -5]}, f"{SIDES} 5, -5"),
    ({"category_id": 1, "bbox": [NAN, 1, 5, 5]}, "a box must be finite, got nan, 1, nan, 6"),
    ({"category_id": 1, "bbox": [1, 1, 5]}, f"{COCO_BBOX} [1, 1, 5]"),
    ({"category_id": 1, "bbox": [10**400, 1, 5, 5]}, f"{COCO_BBOX} [1000"),
    ({"category_id": 1}, f"{COCO_BBOX} None"),
)
VOC = {
    ("c", "1 2 20 20"): "its name must be a class (a, b), got 'c'",
    ("a", "90 2 95 20"): f"{OVERLAP} 90, 2, 95, 20",
    ("a", "1 2 1 20"): f"{SIDES} 0, 18",
    ("a", "nan 2 20 20"): "a box must be finite, got nan, 2, 20, 20",
    ("a", "x 2 20 20"): "bndbox needs the numbers xmin, ymin, xmax, ymax, got ['x', '2', '20', '20']",
}
VISDRONE = {
    "1,2,10,20,1,12,0,0": "needs 8 numbers with a category from 0 to 11, got '1,2,10,20,1,12,0,0'",
    "90,2,10,20,1,4,0,0": f"{OVERLAP} 90, 2, 100, 22",
    "1,2,0,20,1,4,0,0": f"{SIDES} 0, 20",
    "nan,2,10,20,1,4,0,0": "needs 8 whole numbers, got 'nan,2,10,20,1,4,0,0'",
    f"1{'0' * 400},2,10,20,1,4,0,0": "needs 8 whole numbers, got '1000",
    "1,2,10": "needs 8 numbers with a category from 0 to 11, got '1,2,10'",
}
BROKEN = (
    *(("yolo", item, "train/labels/0.txt:1: ", rule, "1.txt:1") for item, rule in YOLO.items()),
    *(
        ("coco", item, "annotations/train.json:1: annotations[0]: ", rule, "train.json:1: annotations[1]")
        for item, rule in COCO
    ),
    *(
        ("voc", item, "Annotations/0.xml:2: object 1: ", rule, "1.xml:2: object 1")
        for item, rule in VOC.items()
    ),
    *(("visdrone", item, "train/annotations/0.txt:1: ", rule, "1.txt:1") for item, rule in VISDRONE.items()),
)


@pytest.mark.parametrize(("form", "item", "place", "rule", "other"), BROKEN)
def test_a_broken_annotation_is_one_line_with_its_place(refused, form, item, place, rule, other):
    WRITERS[form](Path("data/mine"), item)
    message = refused(form, f"ema-lab: {place}{rule}")
    assert message.endswith(f" {SEEN.format(other)}")


@pytest.mark.parametrize(("form", "item"), [("yolo", ""), ("visdrone", "1,2,10,20,0,4,0,0")])
def test_images_without_a_box_to_learn_are_refused(refused, form, item):
    WRITERS[form](Path("data/mine"), item)
    refused(form, EMPTY)


def test_the_others_of_many_are_counted(refused):
    lines = [f"7 0.5 0.5 0.1 0.{number}" for number in range(1, 30)]
    WRITERS["yolo"](Path("data/mine"), "\n".join(lines))
    places = ", ".join(f"0.txt:{number}" for number in range(2, 11))
    refused(
        "yolo", f"0.txt:1: a class must be a whole number from 0 to 1, got 7 (and 57 more: {places}, ...; "
    )


def other_json(**changes: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / "annotations" / "train.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=1))

    return change


def text_of(name: str, text: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(text) and None


IMAGES: list[Mapping[str, object]] = [
    {"id": number, "file_name": f"{number}.png", "height": 30, "width": 40} for number in range(2)
]
CATEGORIES = [{"id": 1, "name": "a"}] * 2
FOLDERS = "train: train/images\nval: val/images\n"


@pytest.mark.parametrize(
    ("form", "change", "words"),
    [
        ("yolo", text_of("data.yaml", "a: ["), "data.yaml is not YAML: "),
        ("yolo", text_of("data.yaml", "train: a\n"), "needs the keys train, val and names, got train"),
        (
            "yolo",
            text_of("data.yaml", f"{FOLDERS}names: {{1: a, b: c}}"),
            "from 0 without gaps, got [1, 'b']",
        ),
        ("yolo", text_of("data.yaml", f"{FOLDERS}names: [a]"), "yolo: expected 2 classes, found 1 name"),
        (
            "yolo",
            text_of("data.yaml", "train: [a, b]\nval: c\nnames: [a, b]"),
            "data.yaml: train must name one folder of images, got ['a', 'b']",
        ),
        ("coco", text_of("annotations/train.json", "{\n\n x"), "train.json:3: is not JSON: "),
        (
            "coco",
            other_json(images=[IMAGES[0]] * 2),
            "train.json:9: images[1] needs an id of its own, got that of images[0], 0",
        ),
        ("coco", other_json(categories=CATEGORIES), "categories[1] needs an id of its own"),
        (
            "coco",
            other_json(images=[IMAGES[0], {**IMAGES[1], "height": "30"}]),
            "train.json:9: images[1] needs a whole number of pixels as height, got '30'",
        ),
        (
            "coco",
            other_json(images=[{**IMAGES[0], "height": 31}, IMAGES[1]]),
            "train/0.png: is 40 x 30 pixels, train.json says 40 x 31 (data.max_broken=0)",
        ),
        (
            "coco",
            other_json(images=[IMAGES[0], {**IMAGES[1], "id": "one"}]),
            "annotations[1]: image_id must be the id of an image (0, 'one'), got 1 (data.max_broken=0)",
        ),
        ("voc", text_of("Annotations/1.xml", "<a>\n</b>"), "Annotations/1.xml:2: is not XML: mismatched tag"),
        (
            "voc",
            text_of("Annotations/1.xml", "<?xml version='1.0' encoding='none'?><a/>"),
            "Annotations/1.xml: is not XML: unknown encoding: none (data.max_broken=0)",
        ),
    ],
)
def test_a_file_of_another_form_is_one_line_with_its_place(refused, form, change, words):
    WRITERS[form](Path("data/mine"), GOOD[form])
    change(Path("data/mine"))
    refused(form, words)


@pytest.mark.parametrize(
    ("anchors", "words"),
    [
        (
            "absent.txt",
            "mine.yaml:5: recipe.detection.anchors: must be fitted, published, a file, or for each",
        ),
        ("words.txt", "got neither JSON nor lines of numbers in words.txt"),
        (
            "two.txt",
            "gives 2 heads with 2 anchors each, but backbone yolov5n has 3 heads with 3 anchors each",
        ),
        ("uneven.txt", "needs as many anchors for every head, got [2, 1] in uneven.txt"),
        ("negative.txt", "got [-1.0, 2.0] in negative.txt"),
    ],
)
def test_an_anchor_file_of_another_form_is_one_line(refused, anchors, words):
    for name, text in {
        "words.txt": "small large\n",
        "two.txt": "10 13 16 30\n30 61 62 45\n",
        "uneven.txt": "10 13 16 30\n30 61\n",
        "negative.txt": "-1 2\n",
    }.items():
        Path(name).write_text(text)
    WRITERS["yolo"](Path("data/mine"), GOOD["yolo"])
    refused("yolo", words, recipe=f", detection: {{anchors: {anchors}}}")


@pytest.mark.parametrize(
    ("form", "gone", "words"),
    [
        ("yolo", "train/images/1.png", "expected 2 training images, found 1"),
        ("coco", "train/1.png", "1.png: is not there"),
        ("voc", "JPEGImages/1.png", "1.png: is not there"),
        ("visdrone", "train/images/1.png", "expected 2 training images, found 1"),
        (
            "voc",
            "Annotations/1.xml",
            "1.xml: No such file or directory; expected an annotation file for each listed image",
        ),
        ("visdrone", "train/annotations/1.txt", "annotations/1.txt: 1.png has no annotation file: write one"),
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


@pytest.mark.parametrize(("form", "cut"), [("yolo", "train/images/1.png"), ("coco", "train/1.png")])
def test_an_image_that_was_cut_off_behind_its_header_is_named_before_training(refused, form, cut):
    root = Path("data/mine")
    WRITERS[form](root, GOOD[form])
    content = (root / cut).read_bytes()
    (root / cut).write_bytes(content[: len(content) // 2])
    refused(form, f"{cut}: cannot be decoded: image file is truncated")


def test_images_without_a_label_file_are_counted(folder, caplog):
    write_yolo(Path("data/mine"), GOOD["yolo"])
    Path("data/mine/train/labels/1.txt").unlink()
    write_ablation("yolo")
    with caplog.at_level(logging.WARNING):
        assert ema_lab.run("mine", data=folder / "data", device="cpu", workers=1).ok
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
