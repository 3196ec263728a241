"""Training images of detection depend on (seed, epoch, index) alone, and boxes move as their pixels do."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ema_lab.data.detection.augmentation import LoadedScenes, SceneAugmentation, TrainingScenes
from ema_lab.data.detection.digit_scenes import digit_scenes
from ema_lab.data.detection.geometry import AffineDraws, affine_matrix, mapped_boxes, worth_keeping
from ema_lab.data.detection.pixels import recoloured, warped
from ema_lab.data.detection.scenes import ScenesInMemory, Truth
from ema_lab.data.detection.trees import cut

EVERYTHING = SceneAugmentation(
    mosaic=0.7, mixup=0.5, degrees=10, translate=0.1, scale=0.5, shear=3, perspective=0.0005,
    hue=0.015, saturation=0.7, value=0.4, flip=0.5, flip_vertical=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> ScenesInMemory:
    return digit_scenes(tmp_path_factory.mktemp("data"), train_images=12, test_images=4).train


def training(
    scenes, augmentation=EVERYTHING, *, seed=0, members=range(12), mosaic_epochs=5
) -> TrainingScenes:
    return TrainingScenes(LoadedScenes(scenes, 96), members, augmentation, seed, mosaic_epochs)


def same(first, second) -> bool:
    pixels = torch.equal(first.pixels, second.pixels)
    return (
        pixels and np.array_equal(first.boxes, second.boxes) and np.array_equal(first.classes, second.classes)
    )


def test_a_sample_is_the_same_in_any_order(scenes):
    forwards = [training(scenes).sample(1, index) for index in range(12)]
    fresh = training(scenes)
    backwards = {index: fresh.sample(1, index) for index in reversed(range(12))}
    assert all(same(sample, backwards[index]) for index, sample in enumerate(forwards))


def test_a_sample_depends_on_seed_epoch_and_index(scenes):
    first = training(scenes).sample(0, 0)
    others = [
        training(scenes, seed=1).sample(0, 0),
        training(scenes).sample(1, 0),
        training(scenes).sample(0, 1),
    ]
    assert not any(same(first, other) for other in others)


def test_boxes_stay_inside_and_have_classes(scenes):
    for index in range(12):
        sample = training(scenes).sample(0, index)
        assert tuple(sample.pixels.shape) == (3, 96, 96)
        assert sample.pixels.dtype == torch.uint8
        assert len(sample.boxes) == len(sample.classes)
        assert ((sample.boxes >= 0) & (sample.boxes <= 96)).all()
        assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()


def test_without_changes_an_image_is_itself(scenes):
    sample = training(scenes, SceneAugmentation()).sample(0, 3)
    assert torch.equal(sample.pixels, scenes.pixels(3))
    np.testing.assert_allclose(sample.boxes, scenes.truth(3).boxes)


def test_the_last_epochs_go_without_mosaics(scenes):
    only = SceneAugmentation(mosaic=1.0)
    assert torch.equal(training(scenes, only).sample(5, 3).pixels, scenes.pixels(3))
    assert not torch.equal(training(scenes, only).sample(4, 3).pixels, scenes.pixels(3))


def test_a_mosaics_partners_are_trained_on(scenes):
    held_out = [0, 1]
    pixels = [scenes.pixels(i) if i in held_out else torch.full((3, 96, 96), 255) for i in range(12)]
    dark = ScenesInMemory(
        [torch.zeros_like(p) if i not in held_out else p * 0 for i, p in enumerate(pixels)],
        [Truth.of([[10, 10, 60, 60]], [i]) for i in range(12)],
    )
    samples = [training(dark, SceneAugmentation(mosaic=1.0), members=held_out).sample(0, i) for i in held_out]
    assert set(np.concatenate([sample.classes for sample in samples]).tolist()) <= set(held_out)


@settings(max_examples=25)
@given(
    degrees=st.floats(-20, 20), scale=st.floats(0.7, 1.4), shear=st.floats(-5, 5),
    move=st.tuples(st.floats(0.4, 0.6), st.floats(0.4, 0.6)),
)  # fmt: skip
def test_boxes_move_as_pixels_do(degrees, scale, shear, move):
    image = torch.zeros(3, 80, 100, dtype=torch.uint8)
    image[:, 30:50, 40:70] = 255
    matrix = affine_matrix(AffineDraws((0, 0), degrees, scale, (shear, 0), move), (80, 100), (80, 100))
    (box,) = mapped_boxes(np.array([[40.0, 30, 70, 50]]), matrix, (80, 100))
    lit = np.argwhere(warped(image, matrix, (80, 100))[0].numpy() > 127)
    lit = lit[(lit != 114).all(1)] if len(lit) else lit
    (top, left), (bottom, right) = lit.min(0), lit.max(0) + 1
    np.testing.assert_allclose([left, top, right, bottom], box, atol=1.6)


def test_colours_come_back_unchanged(scenes):
    image = scenes.pixels(0)
    assert (recoloured(image, 1.0, 1.0, 1.0).int() - image.int()).abs().max() <= 1


def test_golden_colours():
    """The reference rounds hue to 2 degrees and cuts fractions off: a few levels apart."""
    from pathlib import Path

    golden = np.load(Path(__file__).parents[2] / "tasks" / "detection" / "golden" / "geometry.npz")
    for number in range(3):
        image, expected = (golden[f"hsv{number}_{part}_bgr"][..., ::-1].copy() for part in ("in", "out"))
        found = recoloured(torch.from_numpy(image).permute(2, 0, 1), *golden[f"hsv{number}_gains_hsv"])
        apart = np.abs(found.permute(1, 2, 0).numpy().astype(int) - expected.astype(int))
        assert apart.mean() < 3
        assert apart.max() <= 14


class TestDigitScenes:
    def test_are_the_same_every_time_and_as_many_as_asked_for(self, tmp_path):
        first, second = (digit_scenes(tmp_path, train_images=5, test_images=3) for _ in range(2))
        assert first.sha256 == second.sha256
        assert (len(first.train), len(first.test), len(first.names)) == (5, 3, 10)

    def test_boxes_hold_strokes_of_their_digit(self, tmp_path):
        split = digit_scenes(tmp_path, train_images=20, test_images=1).train
        for index in range(20):
            truth = split.truth(index)
            assert 0 <= len(truth.boxes) <= 6
            assert ((truth.boxes >= 0) & (truth.boxes <= 96)).all()
            sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
            assert (sides.max(1) >= 12).all()
            assert (sides.max(1) <= 44).all()


def test_a_scene_is_cut_into_tiles_and_no_box_is_lost():
    truth = Truth.of([[10, 10, 20, 20], [28, 0, 40, 10], [60, 60, 64, 64]], [0, 0, 0])
    tiles = cut(torch.zeros(3, 64, 70, dtype=torch.uint8), truth, 32, "scene")
    assert len(tiles) == 4
    shown = [tiles.truth(number) for number in range(4)]
    assert [found.boxes.tolist() for found in shown] == [
        [[10, 10, 20, 20], [28, 0, 32, 10]],
        [[0, 0, 8, 10]],
        [],
        [[28, 28, 32, 32]],
    ]
    assert [found.ignored.tolist() for found in shown] == [[False, True], [False], [], [False]]


@pytest.fixture(scope="module")
def filled() -> ScenesInMemory:
    """Return twelve images of equal size, each of which is one box of a class of its own."""
    images = [torch.zeros(3, 96, 96, dtype=torch.uint8)] * 12
    return ScenesInMemory(images, [Truth.of([[0, 0, 96, 96]], [number]) for number in range(12)])


def test_the_partners_of_a_mosaic_are_drawn_apart(filled):
    samples = [training(filled, SceneAugmentation(mosaic=1.0)).sample(0, index) for index in range(12)]
    assert max(len(set(sample.classes.tolist())) for sample in samples) == 4
    partners = [set(sample.classes.tolist()) - {index} for index, sample in enumerate(samples)]
    assert len(set.union(*partners)) > 6


def test_a_mosaic_is_mixed_with_one_of_another_layout(filled):
    for index in range(12):
        alone = training(filled, SceneAugmentation(mosaic=1.0)).sample(0, index)
        mixed = training(filled, SceneAugmentation(mosaic=1.0, mixup=1.0)).sample(0, index)
        np.testing.assert_array_equal(mixed.boxes[: len(alone.boxes)], alone.boxes)
        other = mixed.boxes[len(alone.boxes) :]
        assert len(other)
        assert not np.array_equal(other, alone.boxes)


def test_a_mirrored_image_takes_its_boxes_along():
    image = torch.zeros(3, 96, 96, dtype=torch.uint8)
    image[:, 10:30, 20:60] = 255
    scene = ScenesInMemory([image], [Truth.of([[20, 10, 60, 30]], [0])])
    mirrors = {
        (0.0, 0.0): [20, 10, 60, 30],
        (1.0, 0.0): [36, 10, 76, 30],
        (0.0, 1.0): [20, 66, 60, 86],
        (1.0, 1.0): [36, 66, 76, 86],
    }
    for (flip, vertical), box in mirrors.items():
        sample = training(scene, SceneAugmentation(flip=flip, flip_vertical=vertical), members=[0]).sample(
            0, 0
        )
        left, top, right, bottom = box
        np.testing.assert_allclose(sample.boxes, [box])
        assert (sample.pixels[:, top:bottom, left:right] == 255).all()


def test_boxes_are_kept_by_the_share_of_their_shrunken_area():
    box = np.array([[0.0, 0.0, 40.0, 40.0]])
    assert worth_keeping(box, box * 0.3, 0.3).tolist() == [True]  # whole, though a tenth of its old area
    assert worth_keeping(box, np.array([[0.0, 0.0, 3.0, 12.0]]), 0.3).tolist() == [True]  # a quarter is left
    assert worth_keeping(box, np.array([[0.0, 0.0, 3.0, 4.0]]), 0.3).tolist() == [False]  # a twelfth
