"""RandAugment, colour jitter, erasing, mixtures and growing images: their values, and that pairing holds."""

import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of timm's optional parts, at its import
    from timm.data import auto_augment

from ema_lab.data.appearance import OPERATIONS, erased_box, operation, randaugment
from ema_lab.data.mixing import mixed
from ema_lab.data.module import ImageData
from ema_lab.randomness import hash_counters
from ema_lab.specs.augment import AugmentSpec, EraseSpec, MixSpec, RandAugmentSpec, ResolutionSpec
from ema_lab.tasks.task import load_task

EVERYTHING = {
    "flip": True,
    "randaugment": {"magnitude": 9, "std": 0.5},
    "colour": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "erase": {"probability": 0.5, "fill": "noise"},
    "mix": {"mixup": 0.8, "cutmix": 1.0},
    "resolution": {"start": 8, "full_from": 2, "multiple_of": 4},
}
TIMMS = {
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "solarize_add": "SolarizeAdd",
    "saturation": "Color",
    "contrast": "Contrast",
    "brightness": "Brightness",
    "sharpness": "Sharpness",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateXRel",
    "translate_y": "TranslateYRel",
}
INCREASING = ("posterize", "solarize", "saturation", "contrast", "brightness", "sharpness")
GEOMETRY = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
FILL = [124.0, 116.0, 104.0]


def smooth_image() -> torch.Tensor:
    """An image of waves, on which interpolation differs little."""
    down, across = torch.meshgrid(torch.arange(40.0), torch.arange(48.0), indexing="ij")
    waves = [torch.sin(down / 9 + 1), torch.cos(across / 8), torch.sin((down + across) / 12)]
    return (120 + 90 * torch.stack(waves)).round().byte()


def draws(*parts):
    return lambda purpose: ((hash_counters(*parts, purpose) >> 32) + 0.5) * 2.0**-32


@pytest.mark.parametrize("increasing", [False, True])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_timms(name, increasing, monkeypatch):
    monkeypatch.setattr(auto_augment, "_randomly_negate", lambda value: value)
    suffix = "Increasing" if increasing and name in INCREASING else ""
    hparams = {"img_mean": tuple(map(int, FILL)), "interpolation": Image.Resampling.BILINEAR}
    image = smooth_image()
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    for magnitude in (0, 3.3, 9, 10):
        theirs = auto_augment.AugmentOp(TIMMS[name] + suffix, prob=1.0, magnitude=magnitude, hparams=hparams)
        expected = torch.from_numpy(np.array(theirs(picture))).permute(2, 0, 1).int()
        # timm moves the window, and turns counter-clockwise
        sign = -1.0 if name.startswith(("rotate", "translate")) else 1.0
        ours = operation(image, name, level=magnitude / 10, sign=sign, increasing=increasing, fill=FILL).int()
        different = ((ours - expected).abs() > 2).float().mean()
        assert different < (0.06 if name in GEOMETRY else 0.01), magnitude  # interpolation at the border


def test_operations_are_drawn_evenly_and_applied_half_of_the_time():
    spec = RandAugmentSpec(magnitude=9, std=0.5)
    drawn = [list(randaugment(spec, draws(0, index), FILL)) for index in range(3000)]
    names = Counter(one.keywords["name"] for image in drawn for one in image)
    assert names.keys() == set(OPERATIONS)
    assert sum(names.values()) == pytest.approx(3000, rel=0.05)  # of 2 per image
    assert max(names.values()) < 1.4 * min(names.values())
    levels = torch.tensor([one.keywords["level"] for image in drawn for one in image])
    assert levels.mean().item() == pytest.approx(0.898, abs=0.01)
    assert levels.std().item() == pytest.approx(0.05, abs=0.01)
    assert levels.max() <= 1
    signs = [one.keywords["sign"] for image in drawn for one in image]
    assert sum(signs) / len(signs) == pytest.approx(0, abs=0.06)


def epochs_of(spec, root, workers=0, epochs=(0, 1, 2)):
    data = ImageData(spec, root, workers)
    loader = data.train_dataloader()
    found = []
    for epoch in epochs:
        loader.batch_sampler.set_epoch(epoch)
        found += [(epoch, *batch) for batch in loader]
    return found


def same(one, other) -> bool:
    return all(
        a[0] == b[0] and all(torch.equal(x, y) for x, y in zip(a[1:], b[1:], strict=True))
        for a, b in zip(one, other, strict=True)
    )


def test_every_variant_and_a_resumed_epoch_see_the_same_pictures_and_labels(make_spec, tmp_path):
    specs = [make_spec(name, recipe={"epochs": 3, "augment": EVERYTHING}) for name in ("none", "se")]
    first, second = (epochs_of(spec, tmp_path) for spec in specs)
    assert same(first, second)
    assert same([batch for batch in first if batch[0] == 2], epochs_of(specs[0], tmp_path, epochs=(2,)))
    assert {(batch[0], batch[1].shape[-1]) for batch in first} == {(0, 8), (1, 12), (2, 16)}
    assert all(batch[1].dtype == torch.uint8 for batch in first)
    other = epochs_of(make_spec(seed=1, recipe={"epochs": 3, "augment": EVERYTHING}), tmp_path)
    assert not same(first, other)


def test_loader_workers_change_no_picture(make_spec, tmp_path):
    spec = make_spec(recipe={"epochs": 3, "augment": EVERYTHING})
    assert same(epochs_of(spec, tmp_path, 2, (1,)), epochs_of(spec, tmp_path, 0, (1,)))


@pytest.mark.parametrize("key", ["randaugment", "colour", "erase", "mix"])
def test_each_part_changes_pictures_anew_in_every_epoch(make_spec, tmp_path, key):
    spec = make_spec(recipe={"augment": {key: EVERYTHING[key]}})
    plain = {
        int(i): image
        for _, images, _, ids in epochs_of(make_spec(recipe={"augment": {}}), tmp_path)
        for image, i in zip(images, ids, strict=True)
    }
    changed = {}
    for epoch, images, _, ids in epochs_of(spec, tmp_path, epochs=(0, 1)):
        changed[epoch] = changed.get(epoch, {}) | dict(zip(ids.tolist(), images, strict=True))
    assert sum(not torch.equal(changed[0][i], plain[i]) for i in plain) > len(plain) / 4
    assert sum(not torch.equal(changed[0][i], changed[1][i]) for i in plain) > len(plain) / 4


@given(st.integers(0, 2**31), st.sampled_from([(32, 32), (9, 40)]))
def test_an_erased_rectangle_lies_inside_and_has_its_area(number, size):
    spec = EraseSpec(probability=1.0, area=(0.1, 0.3))
    if (box := erased_box(spec, draws(number), *size)) is not None:
        top, left, rows, columns = box
        assert 0 <= top <= top + rows <= size[0]
        assert 0 <= left <= left + columns <= size[1]
        assert 0.05 < rows * columns / (size[0] * size[1]) < 0.4
        assert 0.2 < rows / columns < 5


@given(st.integers(0, 2**31), st.sampled_from([(0.8, 0.0), (0.0, 1.0), (0.2, 1.0)]))
def test_a_mixtures_labels_are_the_shares_of_its_pixels(seed, shapes):
    """Images of one value each: 0 and 200 in turn, so that the mean of a mixture tells its share."""
    labels = torch.tensor([0, 1, 2, 3])
    images = torch.tensor([0, 200, 0, 200], dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 12, 12)
    spec = MixSpec(mixup=shapes[0], cutmix=shapes[1])
    out, targets = mixed(images, labels, torch.arange(4), spec, (seed, 0, 5))
    assert targets.sum(1).tolist() == pytest.approx([1.0] * 4)
    assert targets.dtype == torch.float32
    own = targets[torch.arange(4), labels]
    other = targets[torch.arange(4), labels.roll(-1)]
    assert (own + other).tolist() == pytest.approx([1.0] * 4)
    bright = torch.where(images[:, 0, 0, 0] > 0, own, other)
    assert (out.float().mean((1, 2, 3)) / 200).tolist() == pytest.approx(bright.tolist(), abs=0.5 / 200)


def test_shares_follow_the_beta_distribution_and_some_images_stay():
    count = 4000
    images, labels = torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count) % 2
    _, targets = mixed(images, labels, torch.arange(count), MixSpec(mixup=0.4, probability=0.75), (0, 0, 2))
    own = targets[torch.arange(count), labels].double()
    mixed_ones = own[own < 1]
    assert len(mixed_ones) / count == pytest.approx(0.75, abs=0.03)
    assert mixed_ones.mean().item() == pytest.approx(0.5, abs=0.02)
    assert mixed_ones.var().item() == pytest.approx(0.25 / 1.8, abs=0.01)  # of Beta(0.4, 0.4)


def test_the_loss_of_mixed_labels_is_the_mixture_of_losses(make_spec):
    spec = make_spec(recipe={"label_smoothing": 0.1})
    task = load_task(spec.data)
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    labels, others = torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])
    one_hot = torch.nn.functional.one_hot
    targets = 0.7 * one_hot(labels, 10) + 0.3 * one_hot(others, 10)

    def loss(target):
        return task.loss(lambda images: logits, (torch.zeros(3), target, torch.arange(3)), spec.recipe)

    expected = 0.7 * loss(labels).loss + 0.3 * loss(others).loss
    assert loss(targets.float()).loss.item() == pytest.approx(expected.item())
    assert loss(targets.float()).sums["hits"] == loss(labels).sums["hits"]


def test_images_grow_linearly_in_steps_to_their_full_size():
    spec = ResolutionSpec(start=128, full_from=6, multiple_of=32)
    assert [spec.size(epoch, 224) for epoch in range(8)] == [128, 128, 160, 160, 192, 192, 224, 224]


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        ({"mix": {}}, "changes nothing: set mixup or cutmix"),
        ({"colour": {}}, "changes nothing: set brightness"),
        ({"erase": {"probability": 0.1, "area": [0.5, 0.1]}}, "needs the smaller share first"),
        ({"randaugment": {"magnitude": 11}}, "must be 10 or less"),
        ({"resolution": {"start": 16, "full_from": 1}}, "must be below the image size of synthetic, 16"),
        ({"resolution": {"start": 8, "full_from": 2}}, "must be before the last epoch, got 2 of 2"),
        ({"resolution": {"start": 9, "full_from": 1, "multiple_of": 4}}, "must be a multiple"),
    ],
)
def test_an_augmentation_that_cannot_be_is_refused(make_spec, augment, words):
    with pytest.raises(ValidationError, match=words):
        make_spec(recipe={"augment": augment})


def test_growing_images_and_compiled_models_exclude_each_other(make_spec):
    with pytest.raises(ValidationError, match="set compile: off"):
        make_spec(recipe={"augment": {"resolution": {"start": 8, "full_from": 1}}, "compile": "default"})


def test_only_padded_crops_and_flips_are_made_on_the_device():
    assert not AugmentSpec(crop_padding=4, flip=True).needs_a_loader
    assert all(
        AugmentSpec.model_validate({key: value}).needs_a_loader
        for key, value in EVERYTHING.items()
        if key != "flip"
    )
