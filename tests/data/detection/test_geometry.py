"""Geometry of detection data against golden data of the reference."""

import json
from pathlib import Path

import numpy as np
import pytest

from ema_lab.data.detection.geometry import (
    AffineDraws,
    affine_matrix,
    clipped,
    letterbox,
    mapped_boxes,
    mosaic_tiles,
    normalised,
    rectangles,
    resized,
    worth_keeping,
)

FOLDER = Path(__file__).parents[2] / "tasks" / "detection" / "golden"
GOLDEN = dict(np.load(FOLDER / "geometry.npz"))
INDEX = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))["files"]["geometry.npz"]
EXACT = {"rtol": 0, "atol": 1e-9}


def corners(boxes_xywh):
    centre, half = boxes_xywh[:, :2], boxes_xywh[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], 1)


def draws_of(values) -> AffineDraws:
    px, py, degrees, scale, sx, sy, tx, ty = values
    return AffineDraws((px, py), degrees, scale, (sx, sy), (tx, ty))


def test_letterboxes():
    labels = np.array([[0.5, 0.5, 0.5, 0.5], [0.1, 0.9, 0.2, 0.1]])
    for row in GOLDEN["letterbox"]:
        height, width, image_size, enlarge, _, *canvas = row[:7]
        loaded = resized((int(height), int(width)), int(image_size))
        assert loaded == tuple(row[7:9])
        box = letterbox(loaded, (int(canvas[0]), int(canvas[1])), enlarge=bool(enlarge))
        np.testing.assert_allclose([box.ratio, *box.pad], row[9:12], **EXACT)
        left, top = box.corner
        right, bottom = (round(pad + 0.1) for pad in box.pad)
        assert (box.inner[0] + top + bottom, box.inner[1] + left + right) == tuple(row[12:14])
        boxes = corners(labels * np.tile(loaded[::-1], 2))
        np.testing.assert_allclose(box.to_canvas(boxes).ravel(), row[14:22], **EXACT)
        np.testing.assert_allclose(box.to_image(box.to_canvas(boxes)), boxes, rtol=0, atol=1e-9)
        if box.ratio == 1:  # the reference forgets another one, which it never has when it evaluates
            found = np.concatenate([row[14:22].reshape(2, 4), [[-5, -5, 1e4, 1e4]]])
            back = clipped(box.to_image(found) / (loaded[0] / height), (height, width))
            np.testing.assert_allclose(back.ravel(), row[22:34], **EXACT)


@pytest.mark.parametrize("case", ["rect0", "rect1", "rect2"])
def test_rectangular_batches(case):
    sizes = [(int(height), int(width)) for width, height in GOLDEN[f"{case}_sizes_wh"]]
    entry = INDEX[case]
    order, canvases = rectangles(
        sizes, entry["batch"], entry["img_size"], pad=entry["pad"], stride=entry["stride"]
    )
    assert order.tolist() == GOLDEN[f"{case}_order"].tolist()
    assert canvases == [tuple(shape) for shape in GOLDEN[f"{case}_batch_shapes_hw"]]


@pytest.mark.parametrize("number", range(12))
def test_mosaics(number):
    name, entry = f"mosaic{number}", INDEX[f"mosaic{number}"]
    size = entry["img_size"]
    order = GOLDEN[f"{name}_order"]
    sizes = [tuple(entry["image_hw"][image]) for image in order]
    labels = GOLDEN[f"{name}_labels_in"]
    classes, boxes = [], []
    tiles = mosaic_tiles(sizes, tuple(GOLDEN[f"{name}_centre_yx"].tolist()), size)
    for tile, image, (height, width) in zip(tiles, order, sizes, strict=True):
        mine = labels[labels[:, 0] == image]
        classes.append(mine[:, 1])
        boxes.append(tile.moved(corners(mine[:, 2:] * [width, height, width, height])))
    before = clipped(np.concatenate(boxes), (2 * size, 2 * size))
    draws = draws_of(GOLDEN[f"{name}_draws"])
    matrix = affine_matrix(draws, (2 * size, 2 * size), (size, size))
    np.testing.assert_allclose(matrix, GOLDEN[f"{name}_matrix"], **EXACT)
    after = mapped_boxes(before, matrix, (size, size))
    kept = worth_keeping(before, after, draws.scale)
    found = np.column_stack([np.concatenate(classes)[kept], after[kept]])
    np.testing.assert_allclose(found, GOLDEN[f"{name}_labels_out"], **EXACT)


@pytest.mark.parametrize("number", range(8))
def test_affine_maps(number):
    name = f"affine{number}"
    size = tuple(INDEX[name]["image_hw"])
    draws, labels = draws_of(GOLDEN[f"{name}_draws"]), GOLDEN[f"{name}_labels_in"]
    matrix = affine_matrix(draws, size, size)
    np.testing.assert_allclose(matrix, GOLDEN[f"{name}_matrix"], **EXACT)
    after = mapped_boxes(labels[:, 1:], matrix, size)
    kept = worth_keeping(labels[:, 1:], after, draws.scale)
    found = np.column_stack([labels[kept, 0], after[kept]])
    np.testing.assert_allclose(found, GOLDEN[f"{name}_labels_out"], **EXACT)


def test_normalised_boxes():
    found = normalised(GOLDEN["normalise_in_96x128"], (96, 128))
    np.testing.assert_allclose(found, GOLDEN["normalise_out"], **EXACT)


def test_no_box_stays_none():
    assert mapped_boxes(np.zeros((0, 4)), np.eye(3), (10, 10)).shape == (0, 4)
    assert worth_keeping(np.zeros((0, 4)), np.zeros((0, 4)), 1.0).shape == (0,)
