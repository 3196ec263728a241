"""Readers of annotation files: every box arrives, and everything broken is named with its place."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ema_lab.data.detection.annotation import AnnotatedImage, Problems
from ema_lab.data.detection.coco import read_coco
from ema_lab.data.detection.files import SceneFiles, image_size
from ema_lab.data.detection.visdrone import read_visdrone
from ema_lab.data.detection.voc import read_voc
from ema_lab.data.detection.yolo import read_data_yaml, read_yolo
from ema_lab.errors import DamagedDataError, DataError, UnreadableDataError


def picture(path: Path, width: int = 100, height: int = 50) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (10, 200, 30)).save(path)
    return path


def first(problems: Problems, folder: Path) -> str:
    """Return the first problem, with the place below a folder."""
    return str(problems.entries[0]).removeprefix(f"{folder}/")


def check_nothing_is_silent(found: list[AnnotatedImage], problems: Problems, boxes: int, broken: int) -> None:
    assert sum(len(image.truth.boxes) for image in found) == boxes
    assert len(problems.entries) == broken
    if broken:
        with pytest.raises(DataError, match=r"data.max_broken=0\)$") as caught:
            problems.check()
        assert str(caught.value).startswith(str(problems.entries[0]))
        assert ("more" in str(caught.value)) == (broken > 1)
        problems.limit = broken
    problems.check()


class TestCoco:
    def write(self, folder: Path, annotations: list[dict], **more) -> Path:
        picture(folder / "images" / "a.jpg")
        document = {
            "images": [{"id": 7, "file_name": "a.jpg", "height": 50, "width": 100}],
            "categories": [{"id": 90, "name": "last"}, {"id": 3, "name": "first"}],
            "annotations": annotations,
        }
        path = folder / "instances.json"
        path.write_text(json.dumps(document | more))
        return path

    def read(self, path: Path, limit: int = 0):
        problems = Problems(limit)
        found, names = read_coco(path, path.parent / "images", problems)
        return found, names, problems

    def test_boxes_classes_and_crowds(self, tmp_path):
        path = self.write(
            tmp_path,
            [
                {"image_id": 7, "category_id": 90, "bbox": [10, 5, 20, 10], "iscrowd": 0},
                {"image_id": 7, "category_id": 3, "bbox": [90, 40, 20, 20], "iscrowd": 1},
            ],
        )
        found, names, problems = self.read(path)
        assert names == ("first", "last")
        assert found[0].truth.boxes.tolist() == [[10, 5, 30, 15], [90, 40, 100, 50]]
        assert found[0].truth.classes.tolist() == [1, 0]
        assert found[0].truth.ignored.tolist() == [False, True]
        assert found[0].truth.trained().boxes.tolist() == [[10, 5, 30, 15]]
        check_nothing_is_silent(found, problems, 2, 0)

    @pytest.mark.parametrize(
        ("annotation", "rule"),
        [
            (
                {"image_id": 8, "category_id": 3, "bbox": [1, 1, 2, 2]},
                "image_id must be the id of an image (7), got 8",
            ),
            (
                {"image_id": 7, "category_id": 4, "bbox": [1, 1, 2, 2]},
                "category_id must be the id of a category (3, 90), got 4",
            ),
            ({"image_id": 7, "category_id": 3, "bbox": [1, 1, 2]}, "bbox must be"),
            ({"image_id": 7, "category_id": 3, "bbox": [1, 1, 0, 2]}, "width and a height above 0"),
            ({"image_id": 7, "category_id": 3, "bbox": [1, 1, float("nan"), 2]}, "must be finite"),
            ({"image_id": 7, "category_id": 3, "bbox": [200, 1, 5, 2]}, "must overlap its image"),
        ],
    )
    def test_a_broken_annotation_is_named(self, tmp_path, annotation, rule):
        found, _, problems = self.read(self.write(tmp_path, [annotation]))
        assert "annotations[0]" in first(problems, tmp_path)
        assert rule in first(problems, tmp_path)
        check_nothing_is_silent(found, problems, 0, 1)

    @pytest.mark.parametrize(
        ("name", "content", "rule"),
        [
            ("b.jpg", None, "images/b.jpg: is not there"),
            ("b.jpg", b"no image", "images/b.jpg: cannot be decoded"),
            ("b.png", (9, 5), "images/b.png: is 9 x 5 pixels, instances.json says 100 x 50"),
        ],
    )
    def test_an_image_that_is_not_as_listed_is_named(self, tmp_path, name, content, rule):
        images = [{"id": 7, "file_name": name, "height": 50, "width": 100}]
        path = self.write(tmp_path, [], images=images)
        if isinstance(content, tuple):
            picture(path.parent / "images" / name, *content)
        elif content is not None:
            (path.parent / "images" / name).write_bytes(content)
        found, _, problems = self.read(path)
        assert first(problems, tmp_path).startswith(rule)
        check_nothing_is_silent(found, problems, 0, 1)

    @pytest.mark.parametrize(
        ("text", "rule"),
        [
            ("{", "is not JSON"),
            ("[]", "needs a list 'images'"),
            ('{"images": [{"id": 1}]}', "images[0] has no 'file_name'"),
            ("[" * 100_000, "is not JSON"),
        ],
    )
    def test_another_file_is_refused(self, tmp_path, text, rule):
        (tmp_path / "instances.json").write_text(text)
        with pytest.raises(DataError) as caught:
            self.read(tmp_path / "instances.json")
        assert rule in str(caught.value)


class TestYolo:
    def write(self, folder: Path, text: str) -> Path:
        picture(folder / "images" / "train" / "a.jpg")
        labels = folder / "labels" / "train" / "a.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(text)
        return folder / "images" / "train"

    def test_boxes_and_polygons(self, tmp_path):
        problems = Problems(0)
        text = "1 0.5 0.5 0.2 0.4\n0 0.1 0.1 0.3 0.1 0.2 0.5\n"
        found = read_yolo(self.write(tmp_path, text), 2, problems)
        np.testing.assert_allclose(found[0].truth.boxes, [[40, 15, 60, 35], [10, 5, 30, 25]])
        assert found[0].truth.classes.tolist() == [1, 0]
        check_nothing_is_silent(found, problems, 2, 0)

    def test_an_image_without_labels_shows_nothing_and_is_counted(self, tmp_path, caplog):
        folder = self.write(tmp_path, "1 0.5 0.5 0.2 0.4\n")
        picture(folder / "b.png")
        problems = Problems(0)
        with caplog.at_level(logging.WARNING):
            found = read_yolo(folder, 2, problems)
        check_nothing_is_silent(found, problems, 1, 0)
        assert len(found) == 2
        assert "1 of 2 images in" in caplog.text
        assert "have no label file, such as b.png" in caplog.text

    def test_images_of_which_none_has_a_label_file_are_refused(self, tmp_path):
        picture(tmp_path / "images" / "b.png")
        with pytest.raises(DataError, match=r"no image has a label file; expected .*labels/b.txt"):
            read_yolo(tmp_path / "images", 2, Problems(0))

    @pytest.mark.parametrize(
        ("line", "rule"),
        [
            ("5 0.5 0.5 0.2 0.2", "from 0 to 1, got 5"),
            ("-1 0.5 0.5 0.2 0.2", "from 0 to 1, got -1"),
            ("0.5 0.5 0.5 0.2 0.2", "got 0.5"),
            ("0 0.5 0.5 0.2", "got 4 numbers"),
            (
                "0 0.5 0.5 0.2 x",
                "needs a class and 4 numbers, or a class and a polygon, got '0 0.5 0.5 0.2 x'",
            ),
            ("0 0.5 1.5 0.2 0.2", "between 0 and 1"),
            ("0 nan 0.5 0.2 0.2", "between 0 and 1"),
            ("0 0.5 0.5 0 0.2", "above 0"),
            ("nan 0.5 0.5 0.1 0.2", "whole number"),
        ],
    )
    def test_a_broken_line_is_named_and_the_others_stay(self, tmp_path, line, rule):
        problems = Problems(0)
        found = read_yolo(self.write(tmp_path, f"1 0.5 0.5 0.2 0.4\n{line}\n"), 2, problems)
        assert first(problems, tmp_path).startswith("labels/train/a.txt:2: ")
        assert rule in first(problems, tmp_path)
        check_nothing_is_silent(found, problems, 1, 1)

    def test_a_repeated_line_is_named(self, tmp_path):
        problems = Problems(0)
        found = read_yolo(self.write(tmp_path, "1 0.5 0.5 0.2 0.4\n" * 2), 2, problems)
        check_nothing_is_silent(found, problems, 1, 1)

    def test_a_damaged_image_is_named(self, tmp_path):
        folder = self.write(tmp_path, "")
        (folder / "b.jpg").write_bytes(b"no image")
        problems = Problems(0)
        found = read_yolo(folder, 2, problems)
        check_nothing_is_silent(found, problems, 0, 1)
        assert first(problems, tmp_path).startswith("images/train/b.jpg: cannot be decoded")

    def test_data_yaml(self, tmp_path):
        (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: a, 1: b}\n")
        found = read_data_yaml(tmp_path / "data.yaml")
        assert found == {
            "train": tmp_path / "images/train",
            "val": tmp_path / "images/val",
            "names": ("a", "b"),
        }

    @pytest.mark.parametrize("text", ["a: [", "names: [a]", "train: a\nval: b\nnames: {1: a}", "3"])
    def test_a_wrong_data_yaml_is_one_line(self, tmp_path, text):
        (tmp_path / "data.yaml").write_text(text)
        with pytest.raises(DataError) as caught:
            read_data_yaml(tmp_path / "data.yaml")
        assert len(str(caught.value).splitlines()) == 1


class TestVisDrone:
    def read(self, folder: Path, text: str):
        picture(folder / "images" / "a.jpg")
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / "a.txt").write_text(text)
        problems = Problems(0)
        return read_visdrone(folder, problems), problems

    def test_boxes_regions_and_what_is_not_considered(self, tmp_path):
        text = "1,2,10,20,1,4,0,0\n5,5,10,10,0,1,0,0,\n0,0,30,30,0,0,0,0\n1,1,5,5,1,11,0,0\n"
        found, problems = self.read(tmp_path, text)
        truth = found[0].truth
        assert truth.boxes.tolist() == [[1, 2, 11, 22], [5, 5, 15, 15]]
        assert truth.classes.tolist() == [3, 0]
        assert truth.ignored.tolist() == [False, True]
        assert truth.regions.tolist() == [[0, 0, 30, 30]]
        check_nothing_is_silent(found, problems, 2, 0)

    @pytest.mark.parametrize(
        ("line", "rule"),
        [
            ("1,2,3", "needs 8 numbers"),
            ("1,2,10,20,1,12,0,0", "needs 8 numbers with a category from 0 to 11"),
            ("a,2,10,20,1,4,0,0", "needs 8 whole numbers"),
            ("1,2,10,nan,1,4,0,0", "needs 8 whole numbers"),
            ("1,2,0,20,1,4,0,0", "a box needs a width and a height above 0"),
            ("1,2,10,0,1,4,0,0", "a box needs a width and a height above 0"),
            ("190,2,10,20,1,4,0,0", "a box must overlap its image, which is 0, 0, 100, 50"),
        ],
    )
    def test_a_broken_line_is_named(self, tmp_path, line, rule):
        found, problems = self.read(tmp_path, f"1,2,10,20,1,4,0,0\n{line}\n")
        assert first(problems, tmp_path).startswith("annotations/a.txt:2: ")
        assert rule in first(problems, tmp_path)
        check_nothing_is_silent(found, problems, 1, 1)

    def test_an_image_without_annotations_is_named(self, tmp_path):
        picture(tmp_path / "images" / "a.jpg")
        problems = Problems(0)
        check_nothing_is_silent(read_visdrone(tmp_path, problems), problems, 0, 1)


class TestVoc:
    def read(self, folder: Path, objects: str):
        picture(folder / "a.jpg")
        (folder / "a.xml").write_text(f"<annotation><filename>a.jpg</filename>{objects}</annotation>")
        problems = Problems(0)
        return read_voc([folder / "a.xml"], folder, ("cat", "dog"), problems), problems

    def object(self, name="dog", box=(1, 2, 11, 22), difficult=0) -> str:
        edges = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        inner = "".join(f"<{edge}>{value}</{edge}>" for edge, value in edges)
        return (
            f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{inner}</bndbox></object>"
        )

    def test_boxes_and_difficult_ones(self, tmp_path):
        found, problems = self.read(tmp_path, self.object() + self.object("cat", (0, 0, 5, 5), 1))
        truth = found[0].truth
        assert truth.boxes.tolist() == [[1, 2, 11, 22], [0, 0, 5, 5]]
        assert (truth.classes.tolist(), truth.ignored.tolist()) == ([1, 0], [False, True])
        check_nothing_is_silent(found, problems, 2, 0)

    @pytest.mark.parametrize(
        ("name", "box", "rule"),
        [
            ("cow", (1, 2, 3, 4), "its name must be a class (cat, dog), got 'cow'"),
            ("dog", (1, 2, 1, 4), "above 0"),
            ("dog", ("x", 2, 1, 4), "bndbox needs the numbers xmin, ymin, xmax, ymax"),
            ("dog", (1, "nan", 20, 20), "must be finite"),
            ("dog", (160, 2, 170, 20), "must overlap its image, which is 0, 0, 100, 50"),
        ],
    )
    def test_a_broken_object_is_named(self, tmp_path, name, box, rule):
        found, problems = self.read(tmp_path, self.object() + self.object(name, box))
        assert first(problems, tmp_path).startswith("a.xml:1: object 2: ")
        assert rule in first(problems, tmp_path)
        check_nothing_is_silent(found, problems, 1, 1)

    @pytest.mark.parametrize(
        "text", ["<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>']
    )
    def test_a_file_that_is_no_annotation_is_named(self, tmp_path, text):
        (tmp_path / "a.xml").write_text(text)
        problems = Problems(0)
        check_nothing_is_silent(read_voc([tmp_path / "a.xml"], tmp_path, ("cat",), problems), problems, 0, 1)


def test_pixels_are_decoded_and_their_size_is_checked(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").touch()
    found = read_yolo(picture(tmp_path / "images" / "a.png").parent, 1, Problems(0))
    source = SceneFiles(found, tmp_path)
    assert tuple(source.pixels(0).shape) == (3, 50, 100)
    assert source.pixels(0)[:, 0, 0].tolist() == [10, 200, 30]
    picture(tmp_path / "images" / "a.png", 60, 50)
    with pytest.raises(DamagedDataError, match=r"is 60 x 50 pixels, its annotations say 100 x 50"):
        source.pixels(0)
    (tmp_path / "images" / "a.png").unlink()
    for read in (lambda: source.pixels(0), lambda: list(source.content())):
        with pytest.raises(UnreadableDataError, match=r"a\.png is not there, although it is listed"):
            read()


def test_pixels_of_other_than_eight_bits_are_those_of_every_other_reader(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").touch()
    path = picture(tmp_path / "images" / "a.png")
    source = SceneFiles(read_yolo(path.parent, 1, Problems(0)), tmp_path)
    Image.fromarray(np.full((50, 100), 257 * 90, dtype=np.uint16)).save(path)
    assert source.pixels(0).unique().tolist() == [90]
    Image.fromarray(np.full((50, 100), 0.5, dtype=np.float32)).save(path, "TIFF")
    with pytest.raises(DamagedDataError, match="holds floating-point numbers"):
        source.pixels(0)


def test_a_pipe_in_place_of_an_image_is_named_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    problems = Problems(0)
    assert image_size(tmp_path / "a.png", problems) is None
    assert len(problems.entries) == 1
    assert first(problems, tmp_path) == "a.png: cannot be decoded: it is no regular file"
